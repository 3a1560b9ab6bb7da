"""ListenBrainz listens: lines of JSON, as in the public dumps and in the export a listener makes of their own account.

https://listenbrainz.readthedocs.io/en/latest/users/json.html. A listen is submitted once half of the track or four minutes
were played; how long it played is not said, so `ms_played` stays empty and the play counts as a listen. A track is its
artist's name and its title, case ignored: the ids in the listens (MSIDs, MBIDs) are missing from some rows and differ by
release in others, so they are kept as outside ids only.

An export of one's own account names no user: the name then comes from `user.json` above the file, else it is "me".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta, Struct

from segue.contracts.errors import InvalidData
from segue.contracts.ids import MAX_ID
from segue.contracts.tables import MAX_TEXT, RAW_EVENTS
from segue.contracts.vocabulary import SECOND, EventType
from segue.events.columns import Coerced, clip, iso_to_us, loose, mask_of, scaled, stable_ids
from segue.events.importers.base import Part, Piece
from segue.events.importers.readers import Decoded, find_files, json_lines
from segue.events.validation import ROW

SUFFIXES: Final = (".jsonl", ".listens", ".ndjson")
MAX_DURATION_MS: Final = 86_400_000
Integer = Annotated[int, Meta(ge=-MAX_ID, le=MAX_ID)]


class AdditionalInfo(Struct, gc=False):
    """The little that is used of what clients add; they send whatever they like, so nothing is expected of it."""

    duration_ms: Any = None
    duration: Any = None
    recording_mbid: Any = None
    artist_mbids: Any = None


class TrackMetadata(Struct, gc=False):
    """What the player said about the track."""

    artist_name: str
    track_name: str
    additional_info: AdditionalInfo | None = None


class Listen(Struct, gc=False):
    """One line."""

    track_metadata: TrackMetadata
    listened_at: Integer | str | None = None
    timestamp: Integer | str | None = None
    user_id: Integer | None = None
    user_name: str | None = None
    recording_msid: str | None = None


@dataclass(frozen=True)
class ListenBrainz:
    """`segue import listenbrainz PATH` (a file, a directory, or a pattern; plain, .gz, .zst or .bz2)"""

    name: str = "listenbrainz"
    identity: str = "listenbrainz/2"
    source: str = "listenbrainz"

    def parts(self, path: Path) -> list[Part]:
        """Each file is a part."""
        found = find_files(path, SUFFIXES)
        return [Part(str(p.relative_to(path)) if path.is_dir() else p.name, (p,)) for p in found]

    def read(self, part: Part, batch_rows: int) -> Iterator[Piece]:
        """Listens as plays, with the titles and names they mention."""
        owner = _owner(part.files[0])
        for piece in json_lines(part.files[0], Listen):
            yield Piece(RAW_EVENTS, _columns(piece, owner), piece.broken)


def _columns(piece: Decoded[Listen], owner: str) -> pa.Table:
    listens = piece.items
    infos = [_info(listen) for listen in listens]
    names = _texts([listen.user_name for listen in listens])
    artists = _texts([listen.track_metadata.artist_name for listen in listens])
    titles = _texts([listen.track_metadata.track_name for listen in listens])
    keys = [
        f"{listen.track_metadata.artist_name.casefold()}\x1f{listen.track_metadata.track_name.casefold()}"
        for listen in listens
    ]
    return loose(
        {
            "ts": _times(listens),
            "user_id": _users(listens, names, owner),
            "type": _texts([EventType.PLAY.value] * len(listens)),
            "track_id": stable_ids("listenbrainz/track", _texts(keys)),
            "artist_id": stable_ids(
                "listenbrainz/artist", _texts([f"name:{key.partition(chr(31))[0]}" for key in keys])
            ),
            "tracks.title": clip(titles, MAX_TEXT),
            "tracks.duration_ms": pa.array([_duration(info) for info in infos], pa.int32()),
            "tracks.external_id": clip(
                _texts([_recording(listen, info) for listen, info in zip(listens, infos, strict=True)]),
                MAX_TEXT,
            ),
            "artists.name": clip(artists, MAX_TEXT),
            "artists.external_id": clip(_texts([_artist(info) for info in infos]), MAX_TEXT),
            "listeners.external_id": clip(names.fill_null(owner), MAX_TEXT),
            ROW: pa.array(piece.rows, pa.int64()),
        }
    )


def _texts(values: list[str] | list[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def _times(listens: list[Listen]) -> Coerced:
    """Seconds since 1970, or in some dumps ISO 8601 text."""
    said = [listen.listened_at if listen.listened_at is not None else listen.timestamp for listen in listens]
    if any(isinstance(t, str) for t in said):
        micros = pa.array([_micros(t) for t in said], pa.int64())
        given = _texts([None if t is None else str(t) for t in said])
        return replace(
            scaled(micros, 1), wrong=mask_of(pc.and_(pc.is_null(micros), pc.is_valid(given))), given=given
        )
    return scaled(pa.array(said, pa.int64()), SECOND)


def _micros(said: int | str | None) -> int | None:
    if isinstance(said, str):
        return iso_to_us(said)
    return None if said is None else max(min(said * SECOND, MAX_ID), -MAX_ID)


def _users(listens: list[Listen], names: pa.Array, owner: str) -> pa.Array:
    """The number of the account where it is given, else one made from its name. A name of digits only is no such number."""
    numbers = pa.array([listen.user_id for listen in listens], pa.int64())
    known = names.fill_null(owner)
    digits = pc.match_substring_regex(known, "^[0-9]+$")
    named = pc.if_else(digits, pc.binary_join_element_wise("name:", known, ""), known)
    return pc.coalesce(numbers, stable_ids("listenbrainz/user", named))


def _info(listen: Listen) -> AdditionalInfo:
    return listen.track_metadata.additional_info or _NOTHING


_NOTHING: Final = AdditionalInfo()


def _duration(info: AdditionalInfo) -> int | None:
    """The track's length in milliseconds, where a client says something sensible."""
    for said, factor in ((info.duration_ms, 1), (info.duration, 1_000)):
        if isinstance(said, int | float) and 0 < said * factor <= MAX_DURATION_MS:
            return int(said * factor)
    return None


def _recording(listen: Listen, info: AdditionalInfo) -> str | None:
    said = info.recording_mbid
    return said if isinstance(said, str) and said else listen.recording_msid


def _artist(info: AdditionalInfo) -> str | None:
    said = info.artist_mbids
    return said[0] if isinstance(said, list) and len(said) == 1 and isinstance(said[0], str) else None


def _owner(path: Path) -> str:
    """Whose export the file is, from the `user.json` that lies beside or above it."""
    for folder in list(path.absolute().parents)[:4]:
        profile = folder / "user.json"
        if profile.is_file():
            return _name_in(profile)
    return "me"


def _name_in(profile: Path) -> str:
    try:
        said = msgspec.json.decode(profile.read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidData(
            f"{profile}: not the JSON of a ListenBrainz account: {error}", field="user.json"
        ) from error
    name = next(
        (said[key] for key in ("user_name", "username", "musicbrainz_id") if isinstance(said.get(key), str)),
        None,
    )
    if name is None:
        raise InvalidData(f"{profile}: names no user (user_name or username)", field="user_name")
    return str(name)
