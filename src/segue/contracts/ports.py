"""Ports: what the core asks of an engine, a state store and a log. Adapters implement them; one suite tests each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Protocol

from segue.contracts.schema import Table
from segue.contracts.vocabulary import DAY

if TYPE_CHECKING:  # a server has no warehouse, and need not load the libraries of one to name its types
    import ibis.expr.types as ir
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, order=True)
class Days:
    """A closed range of UTC days."""

    first: date
    last: date

    def __iter__(self) -> Iterator[date]:
        for n in range(len(self)):
            yield self.first + timedelta(days=n)

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    @classmethod
    def holding(cls, first: int, last: int) -> Days:
        """The days from one moment to another, both included (UTC microseconds)."""
        return cls(*(_EPOCH + timedelta(days=ts // DAY) for ts in (first, last)))

    def widen(self, before: int = 0, after: int = 0) -> Days:
        """The range with `before` more days at its start and `after` more at its end."""
        return Days(self.first - timedelta(days=before), self.last + timedelta(days=after))


class Engine(Protocol):
    """Where tables live and expressions run. Expressions are Ibis; every write is atomic."""

    def read(self, table: Table, days: Days | None = None) -> ir.Table:
        """The table, or its partitions of those days, as an Ibis expression. An absent table reads as empty."""

    def overwrite(self, table: Table, rows: ir.Table | pa.Table, days: Days | None = None) -> dict[date, int]:
        """Replace the partitions of `days` (or the whole table) with `rows` in one commit.

        A row whose `day` lies outside `days` is refused. Returns rows written per day (a whole table: under 1970-01-01).
        """

    def append(self, table: Table, rows: pa.Table, *, marker: tuple[str, int] | None = None) -> bool:
        """Add rows in one commit. With a `marker` (source, sequence) the same append happens only once: False if it had."""

    def marker(self, source: str, table: Table) -> int | None:
        """The highest sequence appended for that source, or None."""

    def collect(self, rows: ir.Table) -> pa.Table:
        """Run the expression and fetch its rows."""

    def stream(self, rows: ir.Table) -> pa.RecordBatchReader:
        """Run the expression and fetch its rows batch by batch."""

    def days(self, table: Table) -> Days | None:
        """First and last partition that holds rows, or None."""

    def row_counts(self, table: Table) -> dict[date, int]:
        """Rows of each day that has some, without reading them. A table without days: under 1970-01-01."""

    def scan_bytes(self, rows: ir.Table) -> int:
        """Bytes that running the expression would read, without running it: at most so many, where the engine cannot tell."""

    def staged(self, rows: ir.Table) -> AbstractContextManager[ir.Table]:
        """The rows, computed once and held by the engine until the block ends: to be checked, then written."""

    def compact(self, table: Table) -> int:
        """Merge small files where there are many; rows stay the same. Returns files removed, 0 where it has no meaning."""

    def vacuum(self, table: Table, keep: timedelta = timedelta(days=7)) -> int:
        """Delete files that hold no rows any more but those of writes older than `keep`, for good; 0 where it has no meaning."""

    def close(self) -> None:
        """Release what the engine holds. It cannot be used afterwards."""


@dataclass(frozen=True)
class Factorization:
    """A weighted matrix factorization for implicit feedback, as it is asked for; names as in `models.ials.IALSConfig`."""

    factors: int
    epochs: int
    unobserved_weight: float
    regularization: float
    regularization_exponent: float
    seed: int


class Factorizer(Protocol):
    """Factorizes elsewhere than in this process what outgrows it."""

    def item_factors(
        self,
        indptr: npt.NDArray[np.int64],
        items: npt.NDArray[np.int32],
        weights: npt.NDArray[np.float32],
        n_items: int,
        asked: Factorization,
    ) -> npt.NDArray[np.float32]:
        """float32[n_items, factors] from rows of items with weights > 0 (CSR: int64[rows + 1], int32[n], float32[n])."""


Fold = Callable[[int, bytes | None, bytes], bytes]
"""(listener, record, rows) -> the record with the rows folded in."""
Change = Callable[[int, bytes | None, bytes], bytes | None]
"""(listener, record, tail) -> the record that replaces both, or None to delete everything kept of the listener."""


class StateStore(Protocol):
    """What is kept of each listener, as bytes: a `record`, and a `tail` of rows that are not folded into it yet.

    To add rows is to append to the tail, which every store does without reading. A tail that has grown long is
    folded into the record, which is a read and a conditional write. A reader folds the tail in for itself. A store in which
    rewriting the record is cheap folds at once, and its tails are empty.

    Whatever is handed in must bear repetition: a write whose answer is lost is made again. Every method raises
    Unavailable when the store does not answer within its deadline, and InvalidInput for an id that is none.
    """

    def get(self, user_id: int) -> tuple[bytes | None, bytes]:
        """Record and tail of the listener; (None, b"") where nothing is kept. One round trip."""

    def add(self, rows: Mapping[int, bytes], fold: Fold) -> None:
        """Add rows of many listeners. When this returns, every later `get` has them."""

    def update(self, user_ids: Iterable[int], change: Change) -> None:
        """Replace what is kept of each listener by `change` of it, atomically for each; nothing is written if it is equal.

        `change` may run more than once. Raises Conflict if others write the same listeners until the deadline.
        """

    def sample(self, limit: int) -> list[int]:
        """Up to `limit` listeners of whom something is kept, each once, from an arbitrary place; all, if there are fewer."""

    def create(self) -> None:
        """Make what the store needs before first use, such as its table, unless it is there."""

    def close(self) -> None:
        """Release the store."""


@dataclass(frozen=True)
class Records:
    """Some records of a topic, and for each a number that names it for good."""

    records: list[bytes]
    places: list[int]

    def __len__(self) -> int:
        return len(self.records)


class Log(Protocol):
    """An append-only log of records by topic. What `append` returned for survives whatever happens to this process.

    Where a network lies between, every method raises Unavailable when no answer comes within its deadline; what an append that
    failed had sent already may be in the log all the same.
    """

    def append(self, topic: str, records: Sequence[bytes]) -> int | None:
        """Make the records durable. Returns their place, which a group can be asked about; None where records have no places.

        Raises InvalidInput for a record that is larger than the log takes.
        """

    def consumer(self, topic: str, group: str, *, shared: bool = False) -> Consumer:
        """The reader of a topic on behalf of a group, whose place in it is kept by the log.

        With `shared` several processes may read for the group: the log deals the records out among them, or has one read while
        the others stand by. Raises Conflict while another process reads and this one cannot.
        """

    def reader(self, topic: str, since: int | None = None) -> Reader:
        """A reader of its own, beside all groups: it sees every record appended at or after a moment (UTC microseconds).

        None: every record that is kept. It may see some that were appended shortly before.
        """

    def passed(self, topic: str, group: str, place: int) -> bool:
        """Whether a group has committed what an append returned this place for."""

    def create(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Make what the log needs before first use, for topics and the groups that read them, unless it is there."""

    def prune(self, topic: str, groups: Sequence[str], before: int) -> int:
        """Remove what was appended before a moment (UTC microseconds) and passed by all of `groups`; returns pieces removed.

        A log whose keeper removes old records by itself has nothing to do.
        """

    def close(self) -> None:
        """Release the log."""


class Reader(Protocol):
    """Reads a topic."""

    def poll(self, limit: int, wait_s: float = 0.0) -> Records:
        """Up to `limit` records behind those polled before.

        Without `wait_s` as many as there are: none means that the end was reached. With it some, as soon as there are any; none
        if none comes in that time.
        """

    def close(self) -> None:
        """Release what it holds; of a group, let another process read for it."""


class Consumer(Reader, Protocol):
    """Reads a topic for a group: every record at least once, until it is committed."""

    def commit(self) -> None:
        """Everything polled so far is dealt with, and does not come again. Without it, it comes again to the next consumer."""

    def behind(self) -> int | None:
        """How much lies behind what was polled, as far as is known: bytes of files, records in Kafka, or None."""

    def rewind(self, since: int | None = None) -> None:
        """Go back to the records appended at or after a moment (UTC microseconds), or to the first that are kept."""
