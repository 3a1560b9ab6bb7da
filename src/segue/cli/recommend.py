"""`segue recommend`: one answer, in this process."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from segue.cli.console import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_home,
    out,
    plain_errors,
    print_json,
)
from segue.recommend.api import Request, Response
from segue.serving.operations import MAX_SESSION
from segue.serving.parameters import Country, Form, Ids, Integer, Parameter
from segue.settings import DEFAULT_HOME
from segue.wiring.platform import HomePlatform


def recommend(
    user: Annotated[int | None, typer.Option(help="Listener's id; leave it out for a stranger.")] = None,
    surface: Annotated[str, typer.Option(help="home, station, next-up or related.")] = "home",
    k: Annotated[int, typer.Option("-k", help="How many tracks.")] = 20,
    track: Annotated[int | None, typer.Option(help="Seed track of station and related.")] = None,
    artist: Annotated[int | None, typer.Option(help="Seed artist of station.")] = None,
    session: Annotated[str | None, typer.Option(help="Tracks played so far, for next-up: 12,7,99.")] = None,
    country: Annotated[str | None, typer.Option(help="Where the listener is, ISO code.")] = None,
    now: Annotated[
        int | None, typer.Option(help="Moment of the request, UTC microseconds; default: the present.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of exploration, for a repeatable answer.")] = None,
    why: Annotated[bool, typer.Option("--why", help="Say why each track is there.")] = False,
    json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
    settings: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Answer one request from the published bundle, in this process."""
    with plain_errors():
        given = {
            "user_id": _read("--user", Integer(), user),
            "track_id": _read("--track", Integer(), track),
            "artist_id": _read("--artist", Integer(), artist),
            "session": _read("--session", Ids(MAX_SESSION), session),
            "country": _read("--country", Country(), country),
            "now": _read("--now", Integer(), now),
            "seed": _read("--seed", Integer(), seed),
        }
        platform = HomePlatform(open_home(home, settings, config))
        try:
            response = platform.recommend(Request(surface=surface, k=k, why=why, **given))
        finally:
            platform.close()
    if json:
        print_json(response)
    else:
        _print(response)


def _read(option: str, form: Form, given: str | int | None) -> Any:
    """An option by the rules of the HTTP parameter of the same name."""
    return None if given is None else Parameter(option, form, "", "").parse(str(given))


def _print(response: Response) -> None:
    table = Table(
        "#",
        "track",
        "artist",
        "genre",
        "score",
        "sources",
        "why",
        title=f"{response.surface}, bundle {response.bundle}",
    )
    for item in response.items:
        why = item.why.text if item.why else ""
        name = item.title or str(item.track_id)
        table.add_row(
            str(item.position + 1),
            name,
            item.artist or "",
            item.genre or "",
            f"{item.score:.3f}",
            " ".join(item.sources),
            why,
        )
    out.print(table)
    removed = ", ".join(f"{n} {reason}" for reason, n in response.trace.removed.items())
    spent = sum(stage.ms for stage in response.trace.stages)
    person = "personal" if response.trace.personalized else "not personal: no history was read"
    out.print(f"{person}; {spent:.1f} ms; removed: {removed or 'nothing'}")
