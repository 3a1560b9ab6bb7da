"""Tables of units as people bring them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

NAMES = ("control", "treatment", "other")


def table(n: int = 2000, variants: int = 2, lift: float = 0.0, seed: int = 0) -> pa.Table:
    """Listeners with minutes (and before), skips of plays, whether they stayed, country; `lift` in all variants but the
    control.
    """
    rng = np.random.default_rng(seed)
    variant = rng.permutation(n) % variants
    liking = rng.gamma(3.0, 1.0, n)
    up = 1.0 + lift * (variant > 0)
    plays = rng.poisson(10 * liking) + 1
    return pa.table(
        {
            "unit": np.arange(n),
            "variant": np.array(NAMES)[variant],
            "minutes": rng.gamma(4.0, liking / 4) * up,
            "minutes.pre": rng.gamma(4.0, liking / 4),
            "skip_rate.numerator": rng.binomial(plays, 0.25),
            "skip_rate.denominator": plays,
            "stayed": rng.random(n) < np.minimum(0.4 * up, 1.0),
            "country": np.array(["DE", "FR", "BR"])[rng.integers(0, 3, n)],
        }
    )


def daily(
    n: int = 2000, days: int = 8, lifts: tuple[float, ...] = (), seed: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Units with the sums of their days, and the days; `lifts` is the treatment's lift on each day."""
    rng = np.random.default_rng(seed)
    variant = rng.permutation(n) % 2
    liking = rng.gamma(3.0, 1.0, n)
    came = np.minimum(rng.geometric(0.4, n) - 1, days - 1)
    lift = np.array(lifts or [0.0] * days)[:, None] * variant
    plays = rng.poisson(liking * (1.0 + lift), (days, n)).astype(float)
    plays[np.arange(days)[:, None] < came] = 0
    day, unit = np.nonzero(np.arange(days)[:, None] >= came)
    units = pa.table({"unit": np.arange(n), "variant": np.array(NAMES)[variant], "plays": plays.sum(axis=0)})
    return units, pa.table({"unit": unit, "day": day, "plays": plays[day, unit]})


def with_column(units: pa.Table, name: str, values: object) -> pa.Table:
    """The table with a column put in, or in the place of the one of that name."""
    array = values if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values)
    if name in units.column_names:
        return units.set_column(units.column_names.index(name), name, array)
    return units.append_column(name, array)
