"""Listener state in Google Bigtable: one row per listener, read with one ReadRows of one key.

Row key: the 8 bytes of the id, lowest first, so that ids given out in sequence are spread over all tablets. Families: `s` with
`s:r`, the record; `t` with `t:t`, the tail, and `t:n`, the token. Both keep one version and, with `state.expire_days`,
cells of that age. The families are apart because the tail changes with every play and the record does not.

An append is one ReadModifyWriteRow: it appends to the tail, counts the token up and returns both. A fold is one
CheckAndMutateRow on the token. Both need an app profile with single-cluster routing, which is also what makes reads see
every write before them; the other clusters of an instance follow later and serve when the profile is switched.

The cells a fold sets are deleted in the same mutation first: a cell with a later timestamp, from a clock that is
ahead, would otherwise hide them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import google.auth.exceptions
from google.api_core import exceptions as google_errors
from google.cloud.bigtable import Client as AdminClient
from google.cloud.bigtable import column_family
from google.cloud.bigtable.data import (
    BigtableDataClient,
    DeleteAllFromFamily,
    DeleteAllFromRow,
    Mutation,
    ReadRowsQuery,
    Row,
    RowRange,
    SetCell,
)
from google.cloud.bigtable.data import row_filters as filters
from google.cloud.bigtable.data.read_modify_write_rules import AppendValueRule, IncrementRule

from segue.adapters.state import tokens
from segue.adapters.state.tailed import Kept, Replacement, TailedState, Transient
from segue.contracts.errors import InvalidSettings, Unavailable
from segue.settings.tree import State

_RECORDS: Final = "s"
_TAILS: Final = "t"
_RECORD: Final = b"r"
_TAIL: Final = b"t"
_TOKEN: Final = b"n"
_PARALLEL: Final = 16
"""Requests in flight for one batch of writes."""
_LATEST: Final = filters.CellsColumnLimitFilter(1)
_MAY_PASS: Final = (
    google_errors.Aborted,
    google_errors.Cancelled,
    google_errors.DeadlineExceeded,
    google_errors.InternalServerError,
    google_errors.ResourceExhausted,
    google_errors.ServiceUnavailable,
    google_errors.TooManyRequests,
)
_SERVER_CLOCK: Final = -1


class BigtableState(TailedState):
    """The StateStore port over a Bigtable table. Open it after forking: its channel and threads do not survive a fork.

    Raises InvalidSettings without project or instance, Unavailable without credentials.
    """

    def __init__(self, settings: State) -> None:
        at = settings.bigtable
        for name in ("project", "instance"):
            if not getattr(at, name):
                raise InvalidSettings(
                    f"state.bigtable.{name}: is empty; say where the table is", field=f"state.bigtable.{name}"
                )
        super().__init__(settings, f"Bigtable table {at.project}/{at.instance}/{at.table}")
        self._at = at
        self._tail_bytes = settings.tail_bytes
        self._expire_days = settings.expire_days
        try:
            self._client = BigtableDataClient(project=at.project)
        except google.auth.exceptions.GoogleAuthError as error:
            raise Unavailable(f"{self._where}: {error}", field="state.bigtable") from error
        self._table = self._client.get_table(at.instance, at.table, app_profile_id=at.app_profile or None)
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="bigtable")

    def _read(self, user_ids: Sequence[int], seconds: float) -> Mapping[int, Kept]:
        query = ReadRowsQuery(row_keys=[_key(user) for user in user_ids], row_filter=_LATEST)
        with self._guard():
            rows = self._table.read_rows(query, operation_timeout=seconds, attempt_timeout=seconds)
        return {_id(row.row_key): _kept(row) for row in rows}

    def _append(self, rows: Mapping[int, bytes], seconds: float) -> list[int]:
        due = self._parallel(lambda user: self._append_one(user, rows[user], seconds), rows)
        return [user for user, is_due in zip(rows, due, strict=True) if is_due]

    def _append_one(self, user_id: int, rows: bytes, seconds: float) -> bool:
        rules = [AppendValueRule(_TAILS, _TAIL, rows), IncrementRule(_TAILS, _TOKEN, tokens.step())]
        with self._guard():
            after = _kept(self._table.read_modify_write_row(_key(user_id), rules, operation_timeout=seconds))
        return len(after.tail) > self._tail_bytes or tokens.is_old(_number(after.token), self._expire_days)

    def _replace(self, changes: Mapping[int, Replacement], seconds: float) -> list[int]:
        done = self._parallel(lambda user: self._replace_one(user, changes[user], seconds), changes)
        return [user for user, ok in zip(changes, done, strict=True) if not ok]

    def _replace_one(self, user_id: int, new: Replacement, seconds: float) -> bool:
        mutations: list[Mutation] = [DeleteAllFromRow()]
        if new.record is not None:
            mutations = [
                DeleteAllFromFamily(_RECORDS),
                DeleteAllFromFamily(_TAILS),
                SetCell(_RECORDS, _RECORD, new.record, timestamp_micros=_SERVER_CLOCK),
                SetCell(_TAILS, _TOKEN, _bytes(tokens.fresh()), timestamp_micros=_SERVER_CLOCK),
            ]
        with self._guard():
            matched = self._table.check_and_mutate_row(
                _key(user_id),
                _token_is(new.token),
                true_case_mutations=None if new.token is None else mutations,
                false_case_mutations=mutations if new.token is None else None,
                operation_timeout=seconds,
            )
        return bool(matched) != (new.token is None)

    def _sample(self, limit: int, seconds: float) -> list[int]:
        start = secrets.token_bytes(8)
        found: list[int] = []
        for part in (RowRange(start_key=start), RowRange(end_key=start)):
            if len(found) < limit:
                query = ReadRowsQuery(
                    row_ranges=part,
                    limit=limit - len(found),
                    row_filter=filters.StripValueTransformerFilter(True),
                )
                with self._guard():
                    rows = self._table.read_rows(query, operation_timeout=seconds, attempt_timeout=seconds)
                found += [_id(row.row_key) for row in rows]
        return found

    def create(self) -> None:
        """Make the table and its families, unless the table is there."""
        rule = column_family.MaxVersionsGCRule(1)
        if self._expire_days:
            age = timedelta(days=self._expire_days)
            rule = column_family.GCRuleUnion([rule, column_family.MaxAgeGCRule(age)])
        with self._guard():
            table = (
                AdminClient(project=self._at.project, admin=True)
                .instance(self._at.instance)
                .table(self._at.table)
            )
            if not table.exists():
                table.create(column_families={_RECORDS: rule, _TAILS: rule})

    def close(self) -> None:
        """Release threads and channel."""
        self._pool.shutdown()
        self._client.close()

    def _parallel(self, verb: Callable[[int], bool], user_ids: Collection[int]) -> list[bool]:
        if len(user_ids) == 1:
            return [verb(user) for user in user_ids]
        return list(self._pool.map(verb, user_ids))

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except _MAY_PASS as error:
            raise Transient(str(error)) from error
        except google_errors.NotFound as error:
            raise Unavailable(
                f"{self._where}: {error.message}; make it with `segue state create`", field="state.bigtable"
            ) from error
        except (google_errors.GoogleAPIError, google.auth.exceptions.GoogleAuthError) as error:
            raise Unavailable(f"{self._where} refuses: {error}", field="state.bigtable") from error


def _key(user_id: int) -> bytes:
    return user_id.to_bytes(8, "little")


def _id(key: bytes) -> int:
    return int.from_bytes(key, "little")


def _bytes(token: int) -> bytes:
    return token.to_bytes(8, "big")


def _number(token: bytes | int | None) -> int:
    return int.from_bytes(token, "big") if isinstance(token, bytes) else 0


def _kept(row: Row) -> Kept:
    cells = {(cell.family, bytes(cell.qualifier)): bytes(cell.value) for cell in row}
    record, tail, token = ((_RECORDS, _RECORD), (_TAILS, _TAIL), (_TAILS, _TOKEN))
    return Kept(cells.get(record), cells.get(tail, b""), cells.get(token))


def _token_is(token: bytes | int | None) -> filters.RowFilter:
    """Matches a row whose token is this one; None: any row that has a token."""
    parts = [
        filters.FamilyNameRegexFilter(_TAILS),
        filters.ColumnQualifierRegexFilter(_TOKEN),
        _LATEST,
    ]
    if token is not None:
        parts.append(filters.ValueRangeFilter(token, token))
    return filters.RowFilterChain(parts)
