"""One exception tree. Every message says which field, which limit, and what to do.

SegueError
├── InvalidInput        a value from outside breaks its contract (HTTP 4xx, exit 2)
│   ├── InvalidSettings a settings file, variable or --set is wrong
│   └── InvalidData     a file or table cannot be read as what it should be
├── NotFound            an id, table, bundle or file that is not there (HTTP 404)
├── ContractBroken      a table breaks its contract after a step
│   └── Breach          with what was found, which becomes an incident
├── GateRefused         a challenger is not good enough to publish
├── BundleCorrupt       a bundle's bytes are not what its manifest says
├── Unavailable         a store, engine or log does not answer in time (HTTP 503)
├── Overloaded          a limit of this process is reached; try later (HTTP 429)
└── Conflict            somebody else is writing the same thing now
"""

from __future__ import annotations


class SegueError(Exception):
    """Base of all errors Segue raises on purpose.

    `field` names what is wrong and `limit` what it must satisfy, where that applies.
    """

    def __init__(self, message: str, *, field: str | None = None, limit: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.limit = limit


class InvalidInput(SegueError):
    """A value from outside breaks its contract."""


class InvalidSettings(InvalidInput):
    """A settings file, an environment variable or a `--set` is wrong."""


class InvalidData(InvalidInput):
    """A file or table cannot be read as what it should be."""


class NotFound(SegueError):
    """An id, table, bundle or file is not there."""


class ContractBroken(SegueError):
    """A table breaks its contract after a step."""


class GateRefused(SegueError):
    """A challenger is not good enough to publish."""


class BundleCorrupt(SegueError):
    """A bundle's bytes are not what its manifest says."""


class Unavailable(SegueError):
    """A store, an engine or a log does not answer in time."""


class Overloaded(SegueError):
    """A limit of this process is reached; the caller should try again: in `retry_after_s` seconds, if it says so."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        limit: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, field=field, limit=limit)
        self.retry_after_s = retry_after_s


class Conflict(SegueError):
    """Somebody else is writing the same thing now."""
