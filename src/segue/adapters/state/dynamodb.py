"""Listener state in DynamoDB: two items per listener, read together by one Query.

Partition key `u` (number) is the listener; sort key `k` is "r" for the record (`v`, binary) or "t" for the tail (`c`, a list
of binaries, and `n`, the token). They are two items because a write is charged by the kilobytes of its item: an append
touches the tail alone. Both have `x`, the second they may expire, where `state.expire_days` is set (TTL).

An append is one UpdateItem (`list_append`, ADD to the token), which returns the tail and the token. A fold is one
TransactWriteItems, on condition of the token. Many listeners are read by BatchGetItem: 100 keys and 16 MB at most, what is
left unprocessed is asked for again.

What it promises: reads are consistent (they cost twice the others), so they see every write before them. An item
holds 400 KB: settings whose longest record would not fit are refused at the start.

A socket's timeout is a quarter of the deadline: an attempt may connect and then read, and none starts in the second half.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoRegionError
from botocore.exceptions import ConnectionError as NoConnection

from segue.adapters.state import tokens
from segue.adapters.state.keys import slices
from segue.adapters.state.tailed import Kept, Replacement, TailedState, Transient
from segue.contracts.errors import InvalidSettings, Unavailable
from segue.contracts.ids import MAX_ID
from segue.settings.tree import State

Item = dict[str, Any]
"""An item as DynamoDB's API writes it: {"u": {"N": "5"}, "k": {"S": "r"}, ...}."""

_RECORD: Final = "r"
_TAIL: Final = "t"
_PARALLEL: Final = 16
"""Requests in flight for one batch of writes."""
_BATCH_LISTENERS: Final = 50
"""BatchGetItem takes 100 keys; a listener has two."""
_DAY_S: Final = 86_400
MAX_ITEM: Final = 400 * 1024
_OTHER_ATTRIBUTES: Final = 100
"""Bytes of an item besides its record, at most."""
_APPEND: Final = "SET c = list_append(if_not_exists(c, :none), :rows)"
_SAME_TOKEN: Final = "n = :n"
_NO_TOKEN: Final = "attribute_not_exists(n)"
_MAY_PASS: Final = {
    "InternalServerError",
    "ItemCollectionSizeLimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionInProgressException",
    "TransactionConflictException",
}


class DynamoDBState(TailedState):
    """The StateStore port over a DynamoDB table. One object serves many threads; open it after forking.

    `longest_record` is what a record can take by the settings, in bytes. Raises InvalidSettings where that is too much.
    """

    reserve = 0.5

    def __init__(self, settings: State, longest_record: int) -> None:
        at = settings.dynamodb
        super().__init__(settings, f"DynamoDB table {at.table} at {at.endpoint_url or at.region or 'AWS'}")
        if longest_record + _OTHER_ATTRIBUTES > MAX_ITEM:
            raise InvalidSettings(
                f"state.max_plays, state.max_marks: a record of {longest_record:,} bytes would not fit a DynamoDB item of "
                f"{MAX_ITEM:,}; lower one of them",
                field="state.max_marks",
                limit=f"records up to {MAX_ITEM - _OTHER_ATTRIBUTES:,} bytes",
            )
        self._table = at.table
        self._tail_bytes = settings.tail_bytes
        self._expire_days = settings.expire_days
        session = boto3.session.Session()
        self._reads = self._client(session, settings, self._read_s / 4)
        self._writes = self._client(session, settings, self._write_s / 4)
        self._pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="dynamodb")

    def _read(self, user_ids: Sequence[int], seconds: float) -> Mapping[int, Kept]:
        if len(user_ids) == 1:
            with self._guard():
                found = self._reads.query(
                    TableName=self._table,
                    KeyConditionExpression="u = :u",
                    ExpressionAttributeValues={":u": {"N": str(user_ids[0])}},
                    ConsistentRead=True,
                )
            return _kept(found["Items"])
        kept: dict[int, Kept] = {}
        for some in slices(user_ids, _BATCH_LISTENERS):
            kept.update(_kept(self._batch_get(some)))
        return kept

    def _batch_get(self, user_ids: Sequence[int]) -> list[Item]:
        items: list[Item] = []
        keys = [_key(user, kind) for user in user_ids for kind in (_RECORD, _TAIL)]
        wanted: dict[str, Any] = {self._table: {"Keys": keys, "ConsistentRead": True}}
        while wanted:
            with self._guard():
                answer = self._writes.batch_get_item(RequestItems=wanted)
            some = answer["Responses"].get(self._table, [])
            wanted = answer.get("UnprocessedKeys", {})
            items += some
            if wanted and not some:
                raise Transient("every key was left unprocessed")
        return items

    def _append(self, rows: Mapping[int, bytes], seconds: float) -> list[int]:
        due = self._parallel(lambda user: self._append_one(user, rows[user]), rows)
        return [user for user, is_due in zip(rows, due, strict=True) if is_due]

    def _append_one(self, user_id: int, rows: bytes) -> bool:
        expiry = self._expiry()
        with self._guard():
            after = self._writes.update_item(
                TableName=self._table,
                Key=_key(user_id, _TAIL),
                UpdateExpression=_APPEND + (", x = :x" if expiry else "") + " ADD n :step",
                ExpressionAttributeValues={
                    ":none": {"L": []},
                    ":rows": {"L": [{"B": rows}]},
                    ":step": {"N": str(tokens.step())},
                    **{f":{name}": value for name, value in expiry.items()},
                },
                ReturnValues="UPDATED_NEW",
            )["Attributes"]
        length = sum(len(some["B"]) for some in after["c"]["L"])
        return length > self._tail_bytes or tokens.is_old(int(after["n"]["N"]), self._expire_days)

    def _replace(self, changes: Mapping[int, Replacement], seconds: float) -> list[int]:
        done = self._parallel(lambda user: self._replace_one(user, changes[user]), changes)
        return [user for user, ok in zip(changes, done, strict=True) if not ok]

    def _replace_one(self, user_id: int, new: Replacement) -> bool:
        record, tail = _key(user_id, _RECORD), _key(user_id, _TAIL)
        condition: dict[str, Any] = {"ConditionExpression": _NO_TOKEN}
        if new.token is not None:
            values = {":n": {"N": str(new.token)}}
            condition = {"ConditionExpression": _SAME_TOKEN, "ExpressionAttributeValues": values}
        if new.record is None:
            writes = [{"Delete": {"Key": record}}, {"Delete": {"Key": tail, **condition}}]
        else:
            expiry = self._expiry()
            stored = {**record, **expiry, "v": {"B": new.record}}
            emptied = {**tail, **expiry, "c": {"L": []}, "n": {"N": str(tokens.fresh())}}
            writes = [{"Put": {"Item": stored}}, {"Put": {"Item": emptied, **condition}}]
        for write in writes:
            for part in write.values():
                part["TableName"] = self._table
        try:
            with self._guard():
                self._writes.transact_write_items(TransactItems=writes)
        except _OtherToken:
            return False
        return True

    def _sample(self, limit: int, seconds: float) -> list[int]:
        start = {"u": {"N": str(secrets.randbelow(MAX_ID))}, "k": {"S": _TAIL}}
        found: dict[int, None] = {}
        for place in ({"ExclusiveStartKey": start}, {}):
            if len(found) < limit:
                with self._guard():
                    page = self._writes.scan(
                        TableName=self._table, ProjectionExpression="u", Limit=2 * limit, **place
                    )
                found.update((int(item["u"]["N"]), None) for item in page["Items"])
        return list(found)[:limit]

    def create(self) -> None:
        """Make the table, paid per request, unless it is there; switch its expiry on where that is set."""
        kinds = {"u": "N", "k": "S"}
        with self._guard():
            if self._table not in _tables(self._writes):
                self._writes.create_table(
                    TableName=self._table,
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": kind} for name, kind in kinds.items()
                    ],
                    KeySchema=[
                        {"AttributeName": "u", "KeyType": "HASH"},
                        {"AttributeName": "k", "KeyType": "RANGE"},
                    ],
                    BillingMode="PAY_PER_REQUEST",
                )
                self._writes.get_waiter("table_exists").wait(TableName=self._table)
            if self._expire_days and not self._expires():
                self._writes.update_time_to_live(
                    TableName=self._table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "x"}
                )

    def close(self) -> None:
        """Release threads and connections."""
        self._pool.shutdown()
        self._reads.close()
        self._writes.close()

    def _client(self, session: Any, settings: State, timeout_s: float) -> Any:
        at = settings.dynamodb
        config = Config(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=2 * _PARALLEL,
        )
        try:
            return session.client(
                "dynamodb",
                region_name=at.region or None,
                endpoint_url=at.endpoint_url or None,
                config=config,
            )
        except (NoRegionError, ValueError) as error:
            raise InvalidSettings(f"state.dynamodb: {error}", field="state.dynamodb") from error

    def _expires(self) -> bool:
        found = self._writes.describe_time_to_live(TableName=self._table)["TimeToLiveDescription"]
        return str(found["TimeToLiveStatus"]).startswith("ENABL")

    def _expiry(self) -> Item:
        if not self._expire_days:
            return {}
        return {"x": {"N": str(int(time.time()) + self._expire_days * _DAY_S)}}

    def _parallel(self, verb: Callable[[int], bool], user_ids: Collection[int]) -> list[bool]:
        if len(user_ids) == 1:
            return [verb(user) for user in user_ids]
        return list(self._pool.map(verb, user_ids))

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (NoConnection, HTTPClientError) as error:  # no connection, no answer, or half of one
            raise Transient(str(error)) from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            reasons = {reason.get("Code") for reason in error.response.get("CancellationReasons", ())}
            if "ConditionalCheckFailed" in reasons:
                raise _OtherToken from error
            if code in _MAY_PASS or "TransactionConflict" in reasons or _status(error) >= 500:
                raise Transient(str(error)) from error
            hint = "; make it with `segue state create`" if code == "ResourceNotFoundException" else ""
            raise Unavailable(f"{self._where} refuses: {error}{hint}", field="state.dynamodb") from error
        except BotoCoreError as error:
            raise Unavailable(f"{self._where} refuses: {error}", field="state.dynamodb") from error


class _OtherToken(Exception):
    """Somebody else wrote the listener since the token was read."""


def _key(user_id: int, kind: str) -> Item:
    return {"u": {"N": str(user_id)}, "k": {"S": kind}}


def _kept(items: Sequence[Item]) -> dict[int, Kept]:
    """Items of any listeners, put together."""
    records = {int(item["u"]["N"]): item["v"]["B"] for item in items if item["k"]["S"] == _RECORD}
    tails = {int(item["u"]["N"]): item for item in items if item["k"]["S"] == _TAIL}
    return {
        user: Kept(records.get(user), b"".join(some["B"] for some in tail["c"]["L"]), int(tail["n"]["N"]))
        for user, tail in tails.items()
    }


def _tables(client: Any) -> set[str]:
    pages = client.get_paginator("list_tables").paginate()
    return {name for page in pages for name in page["TableNames"]}


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
