"""A surface: a recipe of settings. Run it with a listener's id to see what it would answer them.

To keep it, name it in `Surface` in `src/segue/contracts/vocabulary.py`, which is what events and exposures may say, and make its
recipe an entry of `default_surfaces()` in `src/segue/settings/surfaces.py`; then `GET /v1/recommendations/commute` answers, too.
One with a ranker of its own also says in `segue.training.build.MOMENTS` how its training samples are drawn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from msgspec.structs import replace

from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.settings.surfaces import Scorer, Selector, Source, Surface
from segue.wiring.home import Home

COMMUTE = Surface(
    sources={
        "own_plays": Source(100),
        "co_listened": Source(100),
        "followed": Source(50),
        "trending": Source(30),
    },
    # No ranker: the standardised scores of the sources, weighed.
    scorer=Scorer(blend={"own_plays": 1.0, "co_listened": 0.5, "followed": 0.5, "trending": 0.2}),
    selector=Selector(diversity=0.3, artist_spacing=3, explore=0.1),
    no_repeat_hours=12.0,
)


def main() -> None:
    """Print the surface's answer for a listener."""
    home = Home.open(Path(os.environ["SEGUE_HOME"]), environ=dict(os.environ))
    artifacts = Artifacts.load(home.bundles.open())
    # The first request of a process waits for the compiler, so that a deadline would leave out what comes late.
    patient = replace(COMMUTE, deadline_ms=60_000)
    recommender = Recommender(artifacts, {"commute": patient}, home.state.read, max_k=50)
    answer = recommender.recommend(Request("commute", int(sys.argv[1]), k=10, why=True))
    for item in answer.items:
        print(f"{item.position + 1}. {item.title} by {item.artist}: {item.why.text if item.why else ''}")
    print(
        f"sources: {', '.join(stage.name for stage in answer.trace.stages if stage.name in COMMUTE.sources)}"
    )


if __name__ == "__main__":
    main()
