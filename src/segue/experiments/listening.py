"""What a home's listeners did day by day: for an A/A over them, and to plan from."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from segue.contracts.errors import InvalidInput, NotFound
from segue.contracts.ports import Days, Engine
from segue.contracts.tables import DAILY_LISTENERS
from segue.experiments.aa import BEFORE, Listeners
from segue.experiments.statistics.moments import sums_by

__all__ = ["COUNTED", "history"]

COUNTED: Final = tuple(name for name in DAILY_LISTENERS.names if name not in ("day", "user_id"))
"""What is counted of a listener's day."""


def history(engine: Engine, column: str, days: int) -> Listeners:
    """The last `days` days of a column of `daily_listeners`, and the sums of the 14 days before them.

    A listener is there from the first day with an event on. Memory: 8 bytes a listener and day. Raises `InvalidInput` for a
    column that is not counted, `NotFound` where there is too little history.
    """
    if column not in COUNTED:
        raise InvalidInput(
            f"{column!r} is not counted by listener and day; there are {', '.join(COUNTED)}", field="metric"
        )
    there = engine.days(DAILY_LISTENERS)
    if there is None:
        raise NotFound("there are no daily_listeners: `segue run` builds them", field="daily_listeners")
    days = min(days, len(there) - BEFORE)
    if days < 7:
        raise NotFound(
            f"there are {len(there)} days of daily_listeners: it takes 14 before and 7 or more to look at",
            field="days",
        )
    first = there.last - timedelta(days=days - 1)
    rows = engine.read(DAILY_LISTENERS, Days(first - timedelta(days=BEFORE), there.last))
    names = list(dict.fromkeys(["day", "user_id", column, "skips"]))
    table = engine.collect(rows.select(*names))
    ids, listener = np.unique(table["user_id"].to_numpy(), return_inverse=True)
    day = (table["day"].to_numpy() - np.datetime64(first)).astype("timedelta64[D]").astype(np.int64)
    of = {name: table[name].to_numpy().astype(np.float64) for name in {column, "skips"}}
    after = day >= 0
    daily = np.zeros((days, len(ids)))
    daily[day[after], listener[after]] = of[column][after]
    came = np.full(len(ids), days)
    np.minimum.at(came, listener[after], day[after])
    before = sums_by(listener[~after], of[column][~after], len(ids))
    skips = sums_by(listener[after], of["skips"][after], len(ids))
    here = came < days  # who only listened before is no unit
    return Listeners(daily[:, here], before[here], came[here], skips[here])
