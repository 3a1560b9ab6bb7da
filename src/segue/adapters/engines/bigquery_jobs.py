"""How BigQuery is asked: with bounded patience, each statement done once, its errors turned into ours.

Three things may go wrong on the way, and each is tried again until `warehouse.bigquery.deadline_s`:
a call that is refused for the moment (5xx, a rate limit) or gets no answer; the sending of a statement, whose job has an id
that is made once, so that what is sent again is the same job; and a job that BigQuery itself gave up for a passing reason,
which left nothing behind and begins anew.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions as google
from google.api_core.client_options import ClientOptions
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, TransportError
from google.cloud import bigquery
from google.cloud.bigquery_storage import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from segue.adapters.engines.bigquery_storage import Stored, batches_of
from segue.adapters.engines.columns import first_line
from segue.contracts.errors import Conflict, InvalidData, InvalidSettings, Overloaded, SegueError, Unavailable
from segue.settings.tree import BigQuery

EMULATOR: Final = "BIGQUERY_EMULATOR_HOST"
"""Google's own variable."""
ANSWER_S: Final = 60.0
"""A call that is not answered by then is made again. (A statement may take longer: it is asked whether it still runs.)"""
PAGE: Final = 10_000
"""Rows of a result that come with the answer; what is larger comes by the Storage API where results can be read by it."""
POLL_S: Final = 0.5
_PASSING: Final = (
    google.InternalServerError,
    google.BadGateway,
    google.ServiceUnavailable,
    google.GatewayTimeout,
    google.TooManyRequests,
    TransportError,
    OSError,  # all errors of connections, those of the HTTP library too
)
_PASSING_REASONS: Final = {
    *("rateLimitExceeded", "jobRateLimitExceeded"),
    *("backendError", "internalError", "badGateway", "jobBackendError", "jobInternalError"),
}
_RATES: Final = {"quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded"}
_AT_ONCE: Final = ("concurrent update", "Transaction is aborted")


class Jobs:
    """BigQuery, one project and one dataset of it, which is made where it lacks."""

    def __init__(self, settings: BigQuery) -> None:
        self._settings = settings
        self._answer_s = min(ANSWER_S, settings.deadline_s)
        self._again = Retry(predicate=_passes, initial=0.5, maximum=30.0, timeout=settings.deadline_s)
        with self.running("BigQuery"):
            self._client, self._reader = _connected(settings)
            self._results = None if _endpoint(settings) else self._reader
            self._place = bigquery.DatasetReference(self._client.project, settings.dataset)
            try:
                self._client.get_dataset(self._place, **self.patience)
            except google.NotFound:
                self._make_dataset()

    @property
    def patience(self) -> dict[str, Any]:
        """How long a call of Google's libraries waits for its answer, and how it is made again."""
        return {"retry": self._again, "timeout": self._answer_s}

    def table(self, name: str) -> bigquery.TableReference:
        """A table of the dataset."""
        return self._place.table(name)

    def run(self, what: str, text: str, *, relative: bool = True) -> Any:
        """The rows that a statement gives, once it is done. `what` is said to be at work where it fails.

        Names are relative to the dataset unless the statement says where to look itself.
        """
        config = self._config()
        if relative:
            config.default_dataset = self._place
        with self.running(what):
            return self._again(lambda: self._result(self._sent(text, config)))()

    def stored(self, wanted: Stored) -> Iterator[pa.RecordBatch] | None:
        """Rows as they lie in a table, batch by batch, by the Storage API; None where that is not to be had."""
        if self._reader is None:
            return None
        place = self.table(wanted.table)
        with self.running(f"table {wanted.table}"):
            return batches_of(self._reader, place, wanted, **self.patience)

    def results(self, found: Any) -> Iterator[pa.RecordBatch]:
        """The rows that a statement gave, batch by batch."""
        batches: Iterator[pa.RecordBatch] = found.to_arrow_iterable(bqstorage_client=self._results)
        return batches

    def dry_run_bytes(self, text: str) -> int:
        """Bytes that a statement would read. Nothing runs."""
        config = self._config()
        config.default_dataset, config.dry_run = self._place, True
        with self.running("dry run"):
            job = self._client.query(text, job_config=config, job_retry=None, **self.patience)
            return int(job.total_bytes_processed)

    def schema(self, name: str) -> list[bigquery.SchemaField] | None:
        """The columns of a table, or None where it lacks."""
        with self.running(f"table {name}"):
            try:
                return list(self._client.get_table(self.table(name), **self.patience).schema)
            except google.NotFound:
                return None

    def create(self, table: bigquery.Table) -> None:
        """Make a table."""
        with self.running(f"table {table.table_id}"):
            self._client.create_table(table, exists_ok=True, **self.patience)

    def load(self, table: bigquery.Table, rows: pa.Table) -> None:
        """Make the rows those of a table, by a load job. Done twice, it leaves the same."""
        file = io.BytesIO()
        pq.write_table(rows, file, compression="zstd")
        lists = bigquery.ParquetOptions()
        lists.enable_list_inference = True
        config = bigquery.LoadJobConfig(
            source_format="PARQUET",
            schema=table.schema,
            write_disposition="WRITE_TRUNCATE",
            parquet_options=lists,
            labels=_LABELS,
        )

        def loaded() -> None:
            job = self._client.load_table_from_file(
                file,
                table.reference,
                rewind=True,
                num_retries=0,  # they would not end by our deadline
                job_config=config,
                timeout=self._answer_s,
            )
            while not job.done(**self.patience):
                time.sleep(POLL_S)
            if job.error_result is not None:
                raise job.exception()

        with self.running("load"):
            self._again(loaded)()

    def drop(self, name: str) -> None:
        """Remove a table that expires by itself: that it could not be removed is no reason to fail."""
        with suppress(SegueError), self.running(f"table {name}"):
            self._client.delete_table(self.table(name), not_found_ok=True, **self.patience)

    def close(self) -> None:
        """Release the connections."""
        self._client.close()
        if self._reader is not None:
            self._reader.transport.close()

    @contextmanager
    def running(self, what: str) -> Iterator[None]:
        """Turns the errors of Google's libraries into ours."""
        try:
            yield
        except DefaultCredentialsError as error:
            raise InvalidSettings(
                f"BigQuery: no credentials; run `gcloud auth application-default login`, or name a service account in "
                f"GOOGLE_APPLICATION_CREDENTIALS ({first_line(error)})",
                field="warehouse.bigquery.project",
            ) from error
        except google.RetryError as error:
            raise self._given_up(what, error.cause or error) from error
        except (google.GoogleAPICallError, TransportError, OSError) as error:
            raise self._ours(what, error) from error

    def _make_dataset(self) -> None:
        wanted = bigquery.Dataset(self._place)
        if self._settings.location:
            wanted.location = self._settings.location
        self._client.create_dataset(wanted, exists_ok=True, **self.patience)

    def _config(self) -> bigquery.QueryJobConfig:
        return bigquery.QueryJobConfig(
            maximum_bytes_billed=self._settings.maximum_bytes_billed or None,
            use_query_cache=False,
            labels=_LABELS,
        )

    def _sent(self, text: str, config: bigquery.QueryJobConfig) -> bigquery.QueryJob:
        """The job of a statement. Where the answer was lost, it is looked whether the job is there before it is sent again."""
        job_id = f"segue_{uuid4().hex}"
        sent = False

        def send() -> bigquery.QueryJob:
            nonlocal sent
            if sent:
                with suppress(google.NotFound):
                    return self._client.get_job(job_id, retry=None, timeout=self._answer_s)
            sent = True
            try:
                return self._client.query(
                    text, job_config=config, job_id=job_id, retry=None, job_retry=None, timeout=self._answer_s
                )
            except google.Conflict:
                return self._client.get_job(job_id, retry=None, timeout=self._answer_s)

        return self._again(send)()

    def _result(self, job: bigquery.QueryJob) -> Any:
        """What the job gives, however long it runs: no answer is what is given up, not a job that says it runs."""
        while True:
            with suppress(TimeoutError):
                return job.result(page_size=PAGE, job_retry=None, **self.patience)

    def _ours(self, what: str, error: Exception) -> SegueError:
        """An error that is no passing one."""
        text, reasons = first_line(error), _reasons(error)
        if "bytesBilledLimitExceeded" in reasons:
            return Overloaded(
                f"{what}: BigQuery would bill more than warehouse.bigquery.maximum_bytes_billed; raise it, or ask for fewer "
                f"days ({text})",
                field="warehouse.bigquery.maximum_bytes_billed",
                limit=str(self._settings.maximum_bytes_billed),
            )
        if _passes(error) or reasons & _RATES:
            return self._given_up(what, error)
        if any(sign in text for sign in _AT_ONCE):
            return Conflict(
                f"{what}: another writer changed the same rows meanwhile ({text}); nothing was written, run again"
            )
        if isinstance(error, google.Forbidden | google.Unauthorized):
            return InvalidSettings(
                f"{what}: BigQuery refuses ({text}); see docs/how-to/bigquery.md for the roles it needs",
                field="warehouse.bigquery.project",
            )
        return InvalidData(f"{what}: BigQuery cannot do that: {text}; nothing was changed")

    def _given_up(self, what: str, error: Exception) -> SegueError:
        """What to say when patience was no help."""
        text, reasons = first_line(error), _reasons(error)
        if "quotaExceeded" in reasons:
            return Overloaded(
                f"{what}: a quota of BigQuery is used up ({text}); run again when it is filled up, or have it raised"
            )
        deadline = f"{self._settings.deadline_s:g} s"
        if reasons & _RATES or isinstance(error, google.TooManyRequests):
            return Overloaded(
                f"{what}: BigQuery is asked too often, and still after {deadline} ({text}); run again later, or fewer at once",
                field="warehouse.bigquery.deadline_s",
                limit=deadline,
            )
        return Unavailable(
            f"{what}: BigQuery gives no good answer within {deadline} ({text}); run again",
            field="warehouse.bigquery.deadline_s",
            limit=deadline,
        )


_LABELS: Final = {"application": "segue"}


def _endpoint(settings: BigQuery) -> str:
    """The address of an emulator, or nothing."""
    endpoint = settings.endpoint or os.environ.get(EMULATOR, "")
    return endpoint if not endpoint or "://" in endpoint else f"http://{endpoint}"


def _connected(settings: BigQuery) -> tuple[bigquery.Client, BigQueryReadClient | None]:
    """The client, and the one of the Storage API (None for an emulator whose address for that is not known)."""
    location, endpoint = settings.location or None, _endpoint(settings)
    if not endpoint:
        client = bigquery.Client(project=settings.project or None, location=location)
        return client, BigQueryReadClient(credentials=client._credentials)
    client = bigquery.Client(
        project=settings.project or "test",
        location=location,
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=endpoint),
    )
    if not settings.storage_endpoint:
        return client, None
    import grpc

    # Why: an emulator's messages are as large as the table; Google's own stay far below any limit.
    channel = grpc.insecure_channel(
        settings.storage_endpoint, options=[("grpc.max_receive_message_length", -1)]
    )
    return client, BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def _passes(error: BaseException) -> bool:
    """Whether the same call may well succeed a little later."""
    reasons = _reasons(error)
    if "quotaExceeded" in reasons or isinstance(error, google.RetryError):
        return False
    return isinstance(error, _PASSING) or bool(reasons & _PASSING_REASONS)


def _reasons(error: BaseException) -> set[str]:
    return {str(item.get("reason")) for item in getattr(error, "errors", ()) if isinstance(item, dict)}
