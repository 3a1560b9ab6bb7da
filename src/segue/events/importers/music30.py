"""30Music sessions: one row a play, with the session it belongs to.

Turrin, Quadrana, Condorelli, Pagano, Cremonesi: "30Music listening and playlists dataset", RecSys 2015 posters.
Columns: session_id, user_id, song_id, ts (seconds since 1970, start of the play), playtime (seconds). There are no titles and
no artists. Ids stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from segue.contracts.tables import RAW_EVENTS
from segue.contracts.vocabulary import EventType
from segue.events.columns import loose, scaled, times
from segue.events.importers.base import Part, Piece
from segue.events.importers.readers import parquet_batches, the_file
from segue.events.validation import ROW, require_columns

COLUMNS = ("session_id", "user_id", "song_id", "ts", "playtime")


@dataclass(frozen=True)
class Music30:
    """`segue import 30music sessions.parquet`"""

    name: str = "30music"
    identity: str = "30music/1"
    source: str = "30music"

    def parts(self, path: Path) -> list[Part]:
        """The one file."""
        return [Part(path.name, (the_file(path),))]

    def read(self, part: Part, batch_rows: int) -> Iterator[Piece]:
        """Plays, as the contract names their columns."""
        for first, table in parquet_batches(part.files[0], COLUMNS, batch_rows):
            require_columns(RAW_EVENTS, table.column_names, COLUMNS)
            n = table.num_rows
            columns = {
                "session_id": table["session_id"],
                "user_id": table["user_id"],
                "track_id": table["song_id"],
                "ts": times(table["ts"], "s"),
                "ms_played": scaled(table["playtime"], 1_000),
                "type": pa.array([EventType.PLAY.value] * n, pa.string()),
                ROW: pa.array(np.arange(first, first + n)),
            }
            yield Piece(RAW_EVENTS, loose(columns))
