"""A source of candidates: one function. Run it with a listener's id to see what it brings to their home page.

To keep it, make it `src/segue/recommend/sources/deep_cuts.py`; name it in SOURCES, and say in PHRASES what it means to a listener
(both in `sources/__init__.py`); put it into a surface in `src/segue/settings/surfaces.py`, or by a setting such as
`surfaces.home.sources.deep_cuts.limit`. Guarantees need no thought: they are kept behind every source.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.recommend.query import Floats, Ids, Query
from segue.recommend.sources import PHRASES, SOURCES
from segue.recommend.sources.ranking import NOTHING, best
from segue.settings.surfaces import Source
from segue.wiring.home import Home

OF_EACH = 40
"""Tracks of an artist that are looked at."""


def deep_cuts(query: Query, artifacts: Artifacts, limit: int) -> tuple[Ids, Floats]:
    """Lesser known tracks by the artists whom the listener plays: int32[m] positions, float32[m] scores, best first."""
    played = query.history.tracks
    artists, plays = np.unique(artifacts.catalogue.artist[played], return_counts=True)
    artists, plays = artists[artists >= 0], plays[artists >= 0]
    if len(artists) == 0:
        return NOTHING
    of_each = [artifacts.indexes.tracks_of(int(artist), OF_EACH) for artist in artists]
    tracks = np.concatenate(of_each)
    liking = np.repeat(plays, [len(found) for found in of_each])
    scores = (liking / np.log2(2.0 + artifacts.plays[tracks])).astype(np.float32)
    new = ~np.isin(tracks, played)
    return best(tracks[new], scores[new], limit)


SOURCES["deep_cuts"] = deep_cuts
PHRASES["deep_cuts"] = "a lesser known track by an artist you play"


def main() -> None:
    """Answer for a listener with the source on the home page, and print what it brought."""
    home = Home.open(Path(os.environ["SEGUE_HOME"]), environ=dict(os.environ))
    recipe = home.settings.surfaces["home"]
    # The first request of a process waits for the compiler, so that a deadline would leave out what comes late.
    recipe = replace(recipe, sources=recipe.sources | {"deep_cuts": Source(50)}, deadline_ms=60_000)
    recommender = Recommender(
        Artifacts.load(home.bundles.open()), {"home": recipe}, home.state.read, max_k=50
    )
    answer = recommender.recommend(Request("home", int(sys.argv[1]), k=50, why=True))
    proposed = next(stage.rows for stage in answer.trace.stages if stage.name == "deep_cuts")
    print(f"deep_cuts proposed {proposed} tracks, of which were shown:")
    for item in answer.items:
        if "deep_cuts" in item.sources and item.why is not None:
            print(f"  {item.position + 1}. {item.title} by {item.artist}: {item.why.text}")


if __name__ == "__main__":
    main()
