"""The pages for people: the listener's page at `/` and the API page at `/docs`, from files of the console room.

Files are read once, when a worker starts, and sent with a hash of their bytes as ETag: a browser asks each
time, and is told "unchanged" for the price of a header. Nothing is fetched from anywhere else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from segue.serving.edge import ROUTE
from segue.serving.words import features_in_words

_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class Page:
    """One file: its bytes, media type and entity tag."""

    body: bytes
    media_type: str
    etag: str

    async def __call__(self, http: HttpRequest) -> Response:
        """The file, or 304 where the browser has it."""
        http.scope[ROUTE] = "page"
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        if self.etag in http.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media_type)


def docs_routes() -> list[Route]:
    """The API page and its files."""
    names = ("docs.js", "docs.css", "dom.js", "icon.svg")
    return _routes({"/docs": "docs.html", **{f"/docs/{name}": name for name in names}}, _folder())


def console_routes() -> list[Route]:
    """The listener page at `/` and its files under `/console/`."""
    folder = _folder()
    names = sorted(
        f.name
        for f in folder.iterdir()
        if f.name.rpartition(".")[2] in _TYPES and not f.name.startswith("docs.")
    )
    paths = {f"/console/{name}": name for name in names}
    words = _page_of(msgspec.json.encode(features_in_words()), "application/json")
    return [
        *_routes({"/": "index.html", "/favicon.ico": "icon.svg", **paths}, folder),
        Route("/console/words.json", words.__call__, methods=["GET"]),
    ]


def _folder() -> Traversable:
    return files("segue.console")


def _routes(paths: dict[str, str], folder: Traversable) -> list[Route]:
    return [Route(path, _page(folder / name).__call__, methods=["GET"]) for path, name in paths.items()]


def _page(file: Traversable) -> Page:
    return _page_of(file.read_bytes(), _TYPES[file.name.rpartition(".")[2]])


def _page_of(body: bytes, media_type: str) -> Page:
    digest = hashlib.blake2b(body, digest_size=12).hexdigest()
    return Page(body, media_type, f'"{digest}"')
