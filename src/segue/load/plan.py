"""What is asked of a run, and the guard against loading somebody else's server by mistake."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from segue.contracts.errors import InvalidInput

MAX_CONNECTIONS: Final = 900
"""`select` (see generator.py) knows no more than 1,024 files."""


@dataclass(frozen=True)
class Address:
    """Where a URL leads. `host_header` is what the Host header says."""

    host: str
    port: int
    tls: bool
    host_header: str


@dataclass(frozen=True)
class Plan:
    """One run of the generator. Raises InvalidInput for what cannot be.

    `rate` is in requests a second of all kinds, on average over the run. `shape` spreads it: relative rates of equally long
    parts of the run. `speed` seconds of listening pass in one second. `listeners` are the ids that sessions belong to.
    `acknowledged` is a file that every event for which a 202 came is added to, one JSON object a line.
    """

    address: Address
    listeners: Sequence[int]
    rate: float
    duration_s: float
    warm_up_s: float = 0.0
    connections: int = 64
    processes: int = 1
    timeout_s: float = 10.0
    speed: float = 60.0
    shape: tuple[float, ...] = (1.0,)
    k: int = 20
    seed: int = 1
    key: str | None = None
    acknowledged: Path | None = None

    def __post_init__(self) -> None:
        most = MAX_CONNECTIONS * self.processes
        wrong = {
            "rate": ("more than 0", self.rate > 0),
            "duration": ("more than the warm-up", self.duration_s > self.warm_up_s >= 0),
            "processes": ("at least 1", self.processes >= 1),
            "connections": (f"from {self.processes} to {most}", self.processes <= self.connections <= most),
            "timeout": ("more than 0", self.timeout_s > 0),
            "speed": ("more than 0", self.speed > 0),
            "shape": ("positive numbers", bool(self.shape) and min(self.shape) > 0),
            "k": ("at least 1", self.k >= 1),
            "listeners": ("at least one id", len(self.listeners) > 0),
        }
        for name, (limit, kept) in wrong.items():
            if not kept:
                raise InvalidInput(f"{name}: must be {limit}", field=name, limit=limit)


def address_of(url: str, *, remote_allowed: bool) -> Address:
    """Where `url` leads: http or https, a host, no path.

    Raises InvalidInput for any other form, and for a host that is not this machine unless `remote_allowed`.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(url, str(error)) from error
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.query:
        raise _wrong(url, "no such address")
    if not remote_allowed and not _is_loopback(host):
        raise InvalidInput(
            f"{host} is not this machine; a load test can put a server out of service, so say --allow-remote if its "
            "operators agreed",
            field="url",
            limit="a loopback address",
        )
    tls = parts.scheme == "https"
    return Address(host, port or (443 if tls else 80), tls, parts.netloc.rpartition("@")[2])


def _wrong(url: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{url[:100]!r}: {why}; write it like http://127.0.0.1:8080", field="url", limit="http(s)://HOST:PORT"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
