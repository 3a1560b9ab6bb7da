"""Tables that both sides of the comparison make for themselves: only the standard library's draws, which no release changes."""

from __future__ import annotations

import random

UNITS = 1500
"""Of each variant."""
COOKIE_CATS = {
    "retention_1": ((44700, 20034), (45489, 20119)),
    "retention_7": ((44700, 8502), (45489, 8279)),
}
"""Players of the two variants of a mobile game, and how many of them came back on day 1 and on day 7."""
RARE = ((400, 4), (380, 11))


def units(seed: int = 7) -> dict[str, list[list[float]]]:
    """Columns by variant (control, treatment): value, pre (correlated, heavy tails), plays, skips, rows of each unit."""
    draw = random.Random(seed)
    out: dict[str, list[list[float]]] = {name: [[], []] for name in ("value", "pre", "plays", "skips")}
    for variant in (0, 1):
        for _ in range(UNITS + 100 * variant):
            liking = draw.lognormvariate(1.0, 0.8)
            plays = 1 + int(liking * draw.gammavariate(2.0, 1.5))
            out["value"][variant].append(liking * draw.gammavariate(1.5, 1.0) * (1.0 + 0.2 * variant))
            out["pre"][variant].append(liking * draw.gammavariate(1.5, 1.0))
            out["plays"][variant].append(float(plays))
            rate = draw.betavariate(2.0 + 0.3 * variant, 5.0)
            out["skips"][variant].append(float(sum(draw.random() < rate for _ in range(plays))))
    return out


def rows(seed: int = 11) -> list[tuple[list[float], list[int]]]:
    """By variant: values of rows, and the unit of each; a unit's rows are alike."""
    draw = random.Random(seed)
    out = []
    for variant in (0, 1):
        values: list[float] = []
        of_unit: list[int] = []
        for unit in range(UNITS):
            level = draw.lognormvariate(3.0 + 0.05 * variant, 0.5)
            for _ in range(1 + int(draw.expovariate(0.3))):
                values.append(level * draw.lognormvariate(0.0, 0.4))
                of_unit.append(unit)
        out.append((values, of_unit))
    return out


PS = (0.001, 0.04, 0.03, 0.2, 0.011, 0.04, 0.9)
EFFECTS = ((0.30, 0.11), (0.12, 0.09), (-0.20, 0.15), (0.55, 0.20), (0.02, 0.07))
"""Effects of segments and their standard errors."""
