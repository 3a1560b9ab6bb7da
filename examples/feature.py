"""A feature: one function. Run it to see which tracks of the home have most of it.

To train with it, put the function beside its kin, here `src/segue/features/track.py`; give it words for listeners in
`src/segue/serving/words.py`; `make docs`; the next `segue run` trains with it.
"""

from __future__ import annotations

import os
from datetime import date
from math import nan
from pathlib import Path

from segue.contracts.tables import DAILY_TRACKS
from segue.contracts.vocabulary import DAY
from segue.features.definition import FEATURES, feature
from segue.features.expression import Rows, Value
from segue.features.relations import Track, days
from segue.training.features import day_snapshot
from segue.wiring.home import Home


@feature(entity=Track, window=days(28), default=nan, owner="discovery")
def repost_rate(reposts: Rows, plays: Rows) -> Value:
    """Reposts per play."""
    return reposts.count() / plays.count()


def main() -> None:
    """Print the tracks with the highest value, as of the day after the last one in the tables."""
    name = "track_repost_rate_28d"
    print(f"{name}: {FEATURES[name].doc}")
    engine = Home.open(Path(os.environ["SEGUE_HOME"]), environ=dict(os.environ)).engine
    known = engine.days(DAILY_TRACKS)
    assert known is not None, "no tables yet: `segue run` first"
    tomorrow = ((known.last - date(1970, 1, 1)).days + 1) * DAY
    values = day_snapshot(engine, Track, tomorrow)
    most = values.filter(values[name].notnull()).order_by(values[name].desc(), "track_id").limit(5)
    for row in engine.collect(most.select("track_id", name)).to_pylist():
        print(f"  track {row['track_id']}: {row[name]:.4f}")


if __name__ == "__main__":
    main()
