"""What to do, and why: ship, stop or wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal

import msgspec

from segue.experiments.outcome import Comparison, Result
from segue.experiments.statistics.ratio_check import SampleRatio
from segue.experiments.units import TWICE_LIMIT

__all__ = ["Decision", "decide"]

Verdict = Literal["ship", "stop", "wait"]
State = Literal["better", "worse", "same", "open", "held", "broken", "torn"]


class Decision(msgspec.Struct, frozen=True):
    """The verdict, the variant it is about (what to ship), one sentence, and the reasons."""

    verdict: Verdict
    said: str
    variant: str | None
    reasons: list[str]


def decide(
    results: Mapping[str, Result],
    ratio: SampleRatio,
    twice: float,
    alpha: float,
    running: bool,
    until: date | None = None,
) -> Decision:
    """The rules, in this order; `twice` is the share of units in two variants, `until` the day on which a running one ends.

    1. Broken assignment: stop, nothing may be read.
    2. A variant with a broken guardrail or a worsened goal, or one of either that cannot be compared, will not be shipped.
    3. A variant with an improved goal (or without any goal) and all guardrails held is shipped: of several that with the
    largest gain of the first goal.
    4. While it is running, what is open is waited for; at its end, only where it may still be too small for its `mde`.
    """
    if broken := _assignment(ratio, twice):
        return Decision("stop", "stop: do not read, the assignment is broken", None, broken)
    variants = list(dict.fromkeys(one.variant for found in results.values() for one in found.comparisons))
    verdicts = {name: _variant(name, results, alpha, running) for name in variants}
    reasons = [f"{name}: {reason}" for name, (_, said) in verdicts.items() for reason in said]
    shipped = [name for name, (verdict, _) in verdicts.items() if verdict == "ship"]
    if shipped:
        best = max(shipped, key=lambda name: _gain(name, results))
        return Decision("ship", f"ship {best}", best, reasons)
    if any(verdict == "wait" for verdict, _ in verdicts.values()):
        when = f"wait until {until}" if running and until is not None else "wait"
        return Decision("wait", f"{when}: it is not settled yet", None, reasons)
    return Decision("stop", "stop: keep the control", None, reasons)


def _assignment(ratio: SampleRatio, twice: float) -> list[str]:
    found = []
    if ratio.mismatch:
        p = ratio.p if ratio.always_valid_p is None else ratio.always_valid_p
        more = "more" if ratio.excess > 0 else "fewer"
        found.append(
            f"the ratio of units is not what it should be (p {p:.2g} < {ratio.threshold:g}): {ratio.most_off} has "
            f"{abs(ratio.excess):,.0f} units {more} than expected. Chance does that to one sound experiment in a hundred; "
            "otherwise units were lost or gained because of the variant, and those left cannot be compared. Look for the cause: "
            "redirects, crashes, bots, exposure logged in one variant only"
        )
    if twice > TWICE_LIMIT:
        found.append(f"{twice:.2%} of the units are in more than one variant")
    return found


def _variant(
    name: str, results: Mapping[str, Result], alpha: float, running: bool
) -> tuple[Verdict, list[str]]:
    reasons, states = [], []
    for found in results.values():
        for one in found.comparisons:
            if one.variant == name and found.metric.role != "info":
                state, said = _state(found, one, alpha, running)
                states.append((found.metric.role, state))
                reasons.append(said)
    goals = [state for role, state in states if role == "goal"]
    guards = [state for role, state in states if role == "guardrail"]
    if "broken" in guards or "worse" in goals or "torn" in (*goals, *guards):
        return "stop", reasons
    held = all(state == "held" for state in guards)
    if not goals:
        return "ship" if guards and held else "wait", reasons or [
            "there is no goal or guardrail to decide by"
        ]
    if "better" in goals:
        return ("ship" if held else "wait"), reasons
    return ("wait" if "open" in goals else "stop"), reasons


def _state(found: Result, one: Comparison, alpha: float, running: bool) -> tuple[State, str]:
    metric = found.metric
    title = metric.name
    if found.torn is not None:
        return "torn", found.torn
    p = one.p_adjusted if metric.role == "goal" else one.p
    if running and metric.role == "guardrail":
        p = one.always_valid.p if one.always_valid else None
    if one.effect is None or p is None:
        return "open", f"{title} could not be compared"
    said = f"{title} {_change(one, running)}"
    if (robust := one.winsorized) is not None:
        said += f" (without extreme values {robust.effect:+.4g}, p {robust.p:.2g})"
    good = one.effect * metric.better > 0
    if metric.role == "guardrail":
        return _guardrail(one, said, good, p, alpha, running)
    tested = "always-valid p" if running else "p"
    if p < alpha:
        return ("better" if good else "worse"), f"{said}: {'better' if good else 'worse'} ({tested} {p:.2g})"
    interval = one.relative_interval(running)
    if metric.mde is not None and interval is not None and one.detectable is not None:
        if -metric.mde < interval[0] and interval[1] < metric.mde:
            return "same", f"{said}: no effect as large as {metric.mde:.1%} either way"
        if not running and one.detectable > metric.mde:
            return "open", (
                f"{said}: not told apart ({tested} {p:.2g}); so many units find {one.detectable:.1%}, {metric.mde:.1%} matters"
            )
    return ("open" if running else "same"), f"{said}: not told apart ({tested} {p:.2g})"


def _guardrail(
    one: Comparison, said: str, good: bool, p: float, alpha: float, running: bool
) -> tuple[State, str]:
    guard = one.not_worse
    if guard is None:
        return "open", f"{said}: not held against its margin"
    worse_p = guard.always_valid_p if running else guard.p
    if worse_p < alpha:
        return "held", f"{said}: not worse by {guard.margin:.1%} or more (p {worse_p:.2g})"
    if not good and p < alpha:
        return "broken", f"{said}: worse (p {p:.2g}), and it may be by more than {guard.margin:.1%}"
    return "open", f"{said}: not yet shown to be worse by less than {guard.margin:.1%} (p {worse_p:.2g})"


def _change(one: Comparison, running: bool) -> str:
    interval = one.relative_interval(running)
    if one.relative is None or interval is None:
        return f"{one.effect:+.4g}"
    return f"{one.relative:+.2%} [{interval[0]:+.2%}, {interval[1]:+.2%}]"


def _gain(name: str, results: Mapping[str, Result]) -> float:
    goals = [found for found in results.values() if found.metric.role == "goal"]
    first = (goals or list(results.values()))[0]
    one = next(one for one in first.comparisons if one.variant == name)
    return (one.relative if one.relative is not None else one.effect or 0.0) * first.metric.better
