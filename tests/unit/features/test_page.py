"""The reference page says of every feature what it is and how it is computed."""

from __future__ import annotations

from segue.features import FEATURES
from segue.features.page import features_page
from segue.features.relations import ENTITIES


def test_every_feature_and_entity_is_on_the_page() -> None:
    page = features_page()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [
        f.name for entity in ENTITIES for f in FEATURES.values() if f.entity is entity
    ]
    for row, pipes in zip(rows, (row.count("|") for row in rows), strict=True):
        assert pipes == 7, f"a cell of {row} holds a pipe"


def test_formulas_read_like_the_functions() -> None:
    page = features_page()
    for name, how in {
        "track_trend_28d": "count(plays, within 7 days) / count(plays)",
        "listener_repeat_rate_28d": "1 - (nunique(plays.track_id) / count(plays))",
        "listener_last_skipped_90d": "max(plays.skipped, where plays.recency <= 1)",
        "listener_track_affinity_90d": "sum(plays.listened, half-life 7 days)",
        "track_age_days": "track.age_days at least 0",
        "best_rank": None,
    }.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert (f"`{how}`" if how else "computed by the request pipeline") in row
