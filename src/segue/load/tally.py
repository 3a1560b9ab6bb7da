"""What a run has counted so far. Tallies of several processes add up."""

from __future__ import annotations

from msgspec import Struct, field

from segue.load.histogram import Histogram


class Kind(Struct):
    """Requests of one kind whose time to be sent lay behind the warm-up. `latency` is of those answered well."""

    intended: int = 0
    latency: Histogram = field(default_factory=Histogram)
    errors: dict[str, int] = field(default_factory=dict)

    def error(self, what: str) -> None:
        """Count a request that was not answered well."""
        self.errors[what] = self.errors.get(what, 0) + 1

    def add(self, other: Kind) -> None:
        """Count everything that `other` counted."""
        self.intended += other.intended
        self.latency.add(other.latency)
        _add_counts(self.errors, other.errors)


class Tally(Struct):
    """Counts from the end of the warm-up to `seconds` later.

    `in_time` counts good answers that came before the run's end. `late` is how late the generator was with requests that
    waited for nothing but their time. Of `sent` requests `waited` waited for a connection. `cpu_s` is its own CPU time.
    """

    seconds: float = 0.0
    sessions: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    in_time: int = 0
    events: int = 0
    acknowledged: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    bytes_out: int = 0
    bytes_in: int = 0
    late: Histogram = field(default_factory=Histogram)
    sent: int = 0
    waited: int = 0
    cpu_s: float = 0.0
    over: bool = False

    def kind(self, name: str) -> Kind:
        """The counts of a kind of request."""
        found = self.kinds.get(name)
        if found is None:
            found = self.kinds[name] = Kind()
        return found

    def add(self, other: Tally) -> None:
        """Count everything that `other` counted beside it."""
        self.seconds = max(self.seconds, other.seconds)
        for name, kind in other.kinds.items():
            self.kind(name).add(kind)
        _add_counts(self.refused, other.refused)
        self.late.add(other.late)
        for name in (
            "sessions",
            "in_time",
            "events",
            "acknowledged",
            "bytes_out",
            "bytes_in",
            "sent",
            "waited",
            "cpu_s",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def _add_counts(own: dict[str, int], other: dict[str, int]) -> None:
    for name, count in other.items():
        own[name] = own.get(name, 0) + count
