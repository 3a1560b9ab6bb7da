"""What is measured of each unit, and what is wanted of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from segue.contracts.errors import InvalidInput

__all__ = ["Direction", "Kind", "Metric", "Role"]

Kind = Literal["mean", "proportion", "ratio", "quantile"]
Direction = Literal["up", "down"]
Role = Literal["goal", "guardrail", "info"]


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric of a table of units.

    Its values are in the column `name`; a ratio's in `name.numerator` and `name.denominator`. The same behind `name.pre` is the
    pre-period, where there is one. Raises `InvalidInput` for a number out of its range.
    """

    name: str
    kind: Kind = "mean"
    direction: Direction = "up"
    """Where it should go."""
    role: Role = "goal"
    margin: float | None = None
    """Of a guardrail: how much worse it may be, as a share of the control's level."""
    winsorize: float | None = None
    """Values above this quantile of all units are set to it."""
    quantile: float | None = None
    """Of a quantile metric: which one."""
    mde: float | None = None
    """The smallest relative effect that matters: once the interval is inside it, waiting longer is of no use."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for field, low, high in (("margin", 0, 1), ("winsorize", 0.5, 1), ("quantile", 0, 1), ("mde", 0, 10)):
            value = getattr(self, field)
            if value is not None and not low < value < high:
                raise InvalidInput(
                    f"metric {self.name}: {field} {value} must be between {low} and {high}, both excluded",
                    field=field,
                    limit=f"{low} < {field} < {high}",
                )
        if (self.kind == "quantile") != (self.quantile is not None):
            raise InvalidInput(
                f"metric {self.name}: kind 'quantile' and the number `quantile` (0.9, say) go together",
                field="quantile",
            )
        if self.role == "guardrail" and self.margin is None:
            raise InvalidInput(
                f"metric {self.name}: a guardrail needs a `margin`: how much worse it may be, such as 0.02",
                field="margin",
            )
        if self.kind in ("proportion", "quantile") and self.winsorize is not None:
            raise InvalidInput(
                f"metric {self.name}: a {self.kind} has no tail to winsorize", field="winsorize"
            )

    @property
    def better(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.direction == "up" else -1

    @property
    def values(self) -> tuple[str, ...]:
        """Its columns."""
        return _columns(self.name, self.kind)

    @property
    def before(self) -> tuple[str, ...]:
        """The columns of its pre-period."""
        return _columns(f"{self.name}.pre", self.kind)


def _columns(name: str, kind: Kind) -> tuple[str, ...]:
    return (f"{name}.numerator", f"{name}.denominator") if kind == "ratio" else (name,)
