"""What a simulated service looks like: its size, its period and the shares that rules depend on."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from segue.contracts.errors import InvalidSettings
from segue.contracts.vocabulary import DAY, SECOND

__all__ = ["SimulationConfig"]

_AT_LEAST_ONE: Final = ("tracks", "artists", "listeners", "days")
_SHARES: Final = (
    "explicit_share",
    "private_share",
    "blocked_share",
    "no_consent_share",
    "no_explicit_share",
    "joining_share",
    "drift",
)


class SimulationConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Size and habits of a simulated service. The same config gives the same history, byte for byte.

    Raises InvalidSettings for a size below one, more artists than tracks, or a share outside 0 to 1.
    """

    tracks: Annotated[int, Meta(description="tracks, those uploaded during the period included")] = 20_000
    artists: Annotated[int, Meta(description="artists; at most one per track")] = 3_000
    listeners: Annotated[int, Meta(description="listeners, those who join during the period included")] = (
        5_000
    )
    days: Annotated[int, Meta(description="UTC days of history")] = 60
    end: Annotated[date, Meta(description="the last day of history")] = date(2026, 11, 21)
    seed: Annotated[int, Meta(description="seed of everything random")] = 1
    sessions_per_day: Annotated[
        float, Meta(description="sessions a day of the mean listener; single listeners differ widely")
    ] = 0.44
    plays_per_session: Annotated[float, Meta(description="median plays a session is meant to have")] = 7.0
    explicit_share: Annotated[float, Meta(description="share of tracks with explicit words")] = 0.04
    private_share: Annotated[float, Meta(description="share of private tracks")] = 0.03
    blocked_share: Annotated[float, Meta(description="share of tracks blocked in some countries")] = 0.02
    no_consent_share: Annotated[float, Meta(description="share of listeners without consent")] = 0.03
    no_explicit_share: Annotated[float, Meta(description="share of listeners who refuse explicit music")] = (
        0.15
    )
    joining_share: Annotated[float, Meta(description="share of listeners who join during the period")] = 0.12
    drift: Annotated[
        float, Meta(description="how far tastes move over the period: 0 not at all, 1 to wholly new ones")
    ] = 0.25

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InvalidSettings(
                    f"simulation.{name} is {getattr(self, name)}; it must be 1 or more",
                    field=name,
                    limit=">= 1",
                )
        if self.artists > self.tracks:
            raise InvalidSettings(
                f"simulation.artists is {self.artists} with {self.tracks} tracks; every artist has a track, so lower it",
                field="artists",
                limit="<= tracks",
            )
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidSettings(
                    f"simulation.{name} is {getattr(self, name)}; it must be between 0 and 1",
                    field=name,
                    limit="0..1",
                )
        if not 0 < self.sessions_per_day <= 10 or not 1 <= self.plays_per_session <= 50:
            raise InvalidSettings(
                "simulation.sessions_per_day must be above 0 and at most 10, plays_per_session between 1 and 50",
                field="sessions_per_day",
                limit="0..10",
            )
        if self.seed < 0:
            raise InvalidSettings("simulation.seed must not be negative", field="seed", limit=">= 0")

    @property
    def first(self) -> date:
        """The first day of history."""
        return self.end - timedelta(days=self.days - 1)

    @property
    def start_us(self) -> int:
        """Midnight UTC at which the history begins, in microseconds."""
        first = self.first
        return int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * SECOND

    @property
    def end_us(self) -> int:
        """Midnight UTC at which the history ends (the end of the last day), in microseconds."""
        return self.start_us + self.days * DAY
