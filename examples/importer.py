"""An importer: files in, columns named like the contract's out. This one reads what Spotify sends who asks for their data.

    SEGUE_HOME=~/mine .venv/bin/python examples/importer.py my_spotify_data/

The files are `StreamingHistory_music_0.json` and so on: lists of plays with the fields of `Stream` below. To keep it, make it a
module of `src/segue/events/importers/` and name it in IMPORTERS there: then it is `segue import spotify PATH`. Checking, rejects,
ids, duplicates, resuming and counting are done for every importer alike.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from segue.contracts.errors import InvalidData
from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import EventType
from segue.events.columns import loose, stable_ids, times
from segue.events.importers.base import ImportReport, Part, Piece, import_path
from segue.events.importers.readers import find_files
from segue.events.validation import ROW
from segue.wiring.home import Home

SHORT_MS = 30_000
"""Given up before this, a play was a skip."""


class Stream(msgspec.Struct):
    """One play, by the names that Spotify gives; `endTime` is UTC, such as 2023-05-01 12:34."""

    endTime: str
    artistName: str
    trackName: str
    msPlayed: int


@dataclass(frozen=True)
class Spotify:
    """`segue import spotify PATH`: a file, a directory, or a pattern."""

    name: str = "spotify"
    identity: str = "spotify/1"
    source: str = "spotify"

    def parts(self, path: Path) -> list[Part]:
        """Each file is a part."""
        return [Part(file.name, (file,)) for file in find_files(path, (".json",))]

    def read(self, part: Part, batch_rows: int) -> Iterator[Piece]:
        """Plays and skips of the one listener there is. Raises InvalidData where a file is not such a list."""
        path = part.files[0]
        try:
            streams = msgspec.json.decode(path.read_bytes(), type=list[Stream])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidData(f"{path}: is no streaming history of Spotify: {error}", field="path") from error
        artists = pa.array([s.artistName for s in streams], pa.string())
        titles = pa.array([s.trackName for s in streams], pa.string())
        keys = pa.array([f"{s.artistName}\x1f{s.trackName}" for s in streams], pa.string())
        kinds = [EventType.PLAY if s.msPlayed >= SHORT_MS else EventType.SKIP for s in streams]
        columns = {
            "user_id": stable_ids("spotify/user", pa.array(["me"] * len(streams))),
            "track_id": stable_ids("spotify/track", keys),
            "artist_id": stable_ids("spotify/artist", artists),
            "ts": times(
                pa.array([f"{s.endTime.replace(' ', 'T')}:00Z" for s in streams], pa.string()), "iso"
            ),
            "type": pa.array([kind.value for kind in kinds], pa.string()),
            "ms_played": pa.array([s.msPlayed for s in streams], pa.int64()),
            "tracks.title": titles,
            "artists.name": artists,
            "listeners.external_id": pa.array(["me"] * len(streams)),
            ROW: pa.array(np.arange(len(streams))),
        }
        yield Piece(RAW_EVENTS, loose(columns))


def main() -> None:
    """Import a directory into the home and print the counts."""
    home = Home.open(Path(os.environ["SEGUE_HOME"]), environ=dict(os.environ))
    report = ImportReport()
    for step in import_path(Spotify(), Path(sys.argv[1]), home.engine, home.settings.warehouse):
        report = step.report
    print(msgspec.json.encode(report).decode())
    print("next: segue run, then segue recommend --user spotify:me --why")


if __name__ == "__main__":
    main()
