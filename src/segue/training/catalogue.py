"""The catalogue of the warehouse's dimension tables; tracks and artists that only events name are added as bare ids."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from segue.bundle.catalogue import Catalogue, build
from segue.contracts.ports import Engine
from segue.contracts.tables import ARTISTS, LISTENERS, TRACKS
from segue.events.catalogue import as_of


def load_catalogue(engine: Engine) -> tuple[Catalogue, pa.Table]:
    """The catalogue, and the tracks table in the catalogue's order."""
    known_to = as_of(engine)
    tracks = engine.collect(engine.read(TRACKS)).sort_by("track_id")
    artists = engine.collect(engine.read(ARTISTS))
    listeners = engine.read(LISTENERS)
    countries = engine.collect(listeners.select("country").distinct())["country"]
    codes = sorted(code for code in pc.unique(countries).to_pylist() if code)
    return build(tracks, artists, codes, known_to), tracks
