"""The settings tree. Each field's description is the documentation; `docs/reference/settings.md` is generated from it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from segue.settings.surfaces import Surface, default_surfaces

EngineName = Literal["duckdb", "spark", "bigquery"]
"""An engine of the warehouse."""


_PRICES = {"bigquery": 6.25}
"""Dollars for a TiB read, of engines that bill by it."""


class Spark(Struct, frozen=True, forbid_unknown_fields=True):
    """Spark as the engine of the warehouse."""

    master: Annotated[
        str,
        Meta(
            description="Spark's master: spark://HOST:PORT, yarn, k8s://...; empty means on this machine, with warehouse.threads"
        ),
    ] = ""
    app_name: Annotated[str, Meta(description="what Spark calls the application")] = "segue"
    conf: Annotated[
        dict[str, str], Meta(description="properties of Spark, by their names in Spark's documentation")
    ] = field(default_factory=dict)


class BigQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Where BigQuery is. Credentials come from where every Google Cloud program looks for them."""

    project: Annotated[
        str,
        Meta(
            description="Google Cloud project that holds the tables and is billed; empty means the credentials'"
        ),
    ] = ""
    dataset: Annotated[str, Meta(description="dataset of the tables, made where it lacks")] = "segue"
    location: Annotated[str, Meta(description="where the dataset is made, such as EU; empty means US")] = ""
    endpoint: Annotated[
        str,
        Meta(
            description="an emulator's REST address; empty means Google's variable BIGQUERY_EMULATOR_HOST, else Google"
        ),
    ] = ""
    storage_endpoint: Annotated[
        str,
        Meta(
            description="an emulator's gRPC address for its Storage API, HOST:PORT; empty means that its rows come by REST"
        ),
    ] = ""
    maximum_bytes_billed: Annotated[
        int, Meta(ge=0, description="a query that would bill more is refused; 0 means no limit")
    ] = 1_000_000_000_000
    deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            description="how long a refused or unanswered call is made again before it is given up; a query may run longer",
        ),
    ] = 600.0


class KeepDays(Struct, frozen=True, forbid_unknown_fields=True):
    """Days of tables that are kept; the step `maintain` drops older ones. Counted back from the last day of raw events."""

    raw: Annotated[
        int,
        Meta(
            ge=0,
            description="days kept of what landed: raw_events, exposures, candidates, rejects; 0 means for ever",
        ),
    ] = 0
    derived: Annotated[
        int, Meta(ge=0, description="days kept of what the flow makes of them; 0 means for ever")
    ] = 0


class Warehouse(Struct, frozen=True, forbid_unknown_fields=True):
    """Tables and the engine that runs over them."""

    engine: Annotated[
        EngineName,
        Meta(description="where table expressions run; see docs/concepts/engines.md"),
    ] = "duckdb"
    memory_mb: Annotated[
        int, Meta(ge=256, description="memory the engine may use before it spills to disk")
    ] = 4096
    threads: Annotated[int, Meta(ge=0, description="threads of the engine; 0 means one per core")] = 0
    chunk_rows: Annotated[
        int,
        Meta(
            ge=10_000,
            description="raw events a step works on at once; days are grouped up to this many, but not fewer than the step "
            "reads around each",
        ),
    ] = 5_000_000
    budget: Annotated[
        int,
        Meta(
            ge=0, description="bytes a run may read by its estimate (`segue run --dry-run`); 0 means no limit"
        ),
    ] = 0
    price_per_tib: Annotated[
        float | None,
        Meta(
            description="dollars for a TiB read; without one: 6.25 on bigquery, which bills by it (on demand), nothing elsewhere"
        ),
    ] = None
    expect: Annotated[
        bool,
        Meta(
            description="stop where a table is stale, or a day lost what is usual, see docs/concepts/quality.md; "
            "false accepts what is there"
        ),
    ] = True
    import_batch_rows: Annotated[
        int, Meta(ge=1_000, description="rows an import holds in memory at once")
    ] = 500_000
    keep_days: Annotated[KeepDays, Meta(description="days that are kept")] = KeepDays()
    vacuum_hours: Annotated[
        int,
        Meta(
            ge=1,
            description="files that no state of a table in these last hours needs are deleted by the step `maintain`; "
            "no reader may take longer",
        ),
    ] = 168
    spark: Annotated[Spark, Meta(description="where Spark is")] = field(default_factory=Spark)
    bigquery: Annotated[BigQuery, Meta(description="where BigQuery is")] = BigQuery()

    def dollars(self, read_bytes: int) -> float:
        """What reading so many bytes costs; 0 where they are not paid for."""
        price = _PRICES.get(self.engine, 0.0) if self.price_per_tib is None else self.price_per_tib
        return price * read_bytes / 2**40


class RankerFit(Struct, frozen=True, forbid_unknown_fields=True):
    """The growth of one ranker's trees."""

    requests: Annotated[int, Meta(ge=10, description="requests sampled to learn from")] = 3_000
    trees: Annotated[int, Meta(ge=1, le=5000, description="trees per objective")] = 100
    leaves: Annotated[int, Meta(ge=2, le=255, description="leaves per tree")] = 31
    learning_rate: Annotated[float, Meta(gt=0, le=1, description="shrinkage")] = 0.08
    min_rows: Annotated[int, Meta(ge=1, description="fewest samples in a leaf")] = 100


def default_growth() -> dict[str, RankerFit]:
    """Rankers as shipped."""
    return {
        "home": RankerFit(requests=3_000, trees=80, leaves=15, learning_rate=0.05, min_rows=200),
        "next-up": RankerFit(requests=10_000, trees=120, leaves=31, learning_rate=0.1, min_rows=100),
    }


class Training(Struct, frozen=True, forbid_unknown_fields=True):
    """Models and the samples they learn from."""

    seed: Annotated[int, Meta(ge=0, description="seed of everything random in training")] = 1
    threads: Annotated[int, Meta(ge=0, description="threads for training; 0 means one per core")] = 0
    history_days: Annotated[
        int, Meta(ge=1, description="days of listens the retrieval models are fitted on")
    ] = 365
    ranker_days: Annotated[
        int,
        Meta(
            ge=1,
            description="days of a window of ranker samples, before which retrieval is fitted; at most a quarter",
        ),
    ] = 28
    ranker_windows: Annotated[
        int,
        Meta(
            ge=1,
            description="most windows: earlier ones are used until there are enough requests, in half of the history at most",
        ),
    ] = 6
    als: Annotated[
        Literal["numba", "spark"],
        Meta(
            description="what fits iALS: this process, or Spark's MLlib where warehouse.spark says (see docs/concepts/scale.md)"
        ),
    ] = "numba"
    factors: Annotated[int, Meta(ge=8, le=1024, description="dimensions of the iALS factors")] = 128
    epochs: Annotated[int, Meta(ge=1, le=100, description="passes of iALS")] = 8
    regularization: Annotated[float, Meta(ge=0, description="iALS regularization")] = 0.003
    unobserved: Annotated[float, Meta(gt=0, description="iALS weight of what was not played")] = 0.02
    half_life_days: Annotated[
        float, Meta(gt=0, description="a listen's weight halves in this many days, for popularity and trends")
    ] = 14.0
    neighbours: Annotated[
        int, Meta(ge=1, le=1000, description="neighbours kept per track in item-item lists")
    ] = 200
    ease_tracks: Annotated[
        int,
        Meta(
            ge=0,
            le=50_000,
            description="largest catalogue on which EASE is among the baselines of an evaluation (12,000 tracks: 40 s, 2.4 GB)",
        ),
    ] = 12_000
    negatives: Annotated[
        int,
        Meta(
            ge=1,
            description="candidates of a sampled request that were not played, kept at random, on average",
        ),
    ] = 30
    rankers: Annotated[dict[str, RankerFit], Meta(description="how the ranker of each surface is grown")] = (
        field(default_factory=default_growth)
    )


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    """What a challenger must show before it is published."""

    tolerance: Annotated[
        float,
        Meta(
            ge=0,
            description="refused if worse than the champion by more than this share of the metric, beyond its interval",
        ),
    ] = 0.0
    drift: Annotated[
        float,
        Meta(
            ge=0,
            description="the same, where new data came and both were judged on days of their own",
        ),
    ] = 0.1
    days: Annotated[
        int,
        Meta(
            ge=1,
            description="last days that a challenger is judged on, trained without them; a fifth at most",
        ),
    ] = 7
    max_requests: Annotated[
        int, Meta(ge=100, description="requests of each task that are replayed to judge a challenger")
    ] = 2_000
    baselines: Annotated[
        bool, Meta(description="judge the baselines beside the challenger, for its report in the bundle")
    ] = False
    rungs: Annotated[
        tuple[Literal["off-policy", "simulation", "interleaving"], ...],
        Meta(
            description="further rungs of evidence (`segue evidence`) that a challenger must not fail; they take minutes"
        ),
    ] = ()


class Programme(Struct, frozen=True, forbid_unknown_fields=True):
    """What new uploads get in their first two weeks, on surfaces whose selector has `debuts`."""

    listeners: Annotated[
        int, Meta(ge=1, le=100_000, description="listeners whom it suits that each is shown to")
    ] = 100
    artist_per_day: Annotated[
        int,
        Meta(ge=1, description="listeners a day that all new uploads of one artist are shown to, on average"),
    ] = 120


class Bundles(Struct, frozen=True, forbid_unknown_fields=True):
    """Published models."""

    keep: Annotated[int, Meta(ge=1, description="bundles kept for rollback; older ones are removed")] = 5
    spare: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="room in a bundle for tracks that come before the next, as a share of its tracks; for 1,000 at least",
        ),
    ] = 0.01


class Redis(Struct, frozen=True, forbid_unknown_fields=True):
    """Where Redis is."""

    url: Annotated[str, Meta(description="address, as redis:// or rediss:// (TLS), password included")] = (
        "redis://127.0.0.1:6379/0"
    )
    prefix: Annotated[
        str, Meta(description="beginning of every key, so that others may use the same Redis")
    ] = "segue:"
    cluster: Annotated[bool, Meta(description="the address is one node of a Redis Cluster")] = False


class Bigtable(Struct, frozen=True, forbid_unknown_fields=True):
    """Where Bigtable is. Google's variable BIGTABLE_EMULATOR_HOST points it at the emulator."""

    project: Annotated[str, Meta(description="Google Cloud project")] = ""
    instance: Annotated[str, Meta(description="Bigtable instance")] = ""
    table: Annotated[str, Meta(description="table, made by `segue state create`")] = "segue-listeners"
    app_profile: Annotated[
        str, Meta(description="app profile with single-cluster routing; empty means the instance's default")
    ] = ""


class DynamoDB(Struct, frozen=True, forbid_unknown_fields=True):
    """Where DynamoDB is. Credentials come from where every AWS program looks for them."""

    table: Annotated[str, Meta(description="table, made by `segue state create`")] = "segue-listeners"
    region: Annotated[str, Meta(description="AWS region; empty means AWS_DEFAULT_REGION")] = ""
    endpoint_url: Annotated[
        str, Meta(description="another endpoint than Amazon's, such as an emulator's")
    ] = ""


class State(Struct, frozen=True, forbid_unknown_fields=True):
    """Listener state."""

    kind: Annotated[
        Literal["lmdb", "bigtable", "dynamodb", "redis"], Meta(description="where listener state lives")
    ] = "lmdb"
    max_plays: Annotated[int, Meta(ge=10, le=5_000, description="latest plays kept per listener")] = 500
    max_marks: Annotated[
        int,
        Meta(
            ge=10,
            le=50_000,
            description="likes, follows, hides and blocks kept per listener; hides and blocks go last",
        ),
    ] = 5_000
    when_down: Annotated[
        Literal["refuse", "popular"],
        Meta(
            description="answer to a listener whose state cannot be read: refuse with 503, or popular and context only, if "
            "the request says the country; without explicit tracks, but perhaps with what they hid or blocked"
        ),
    ] = "refuse"
    read_deadline_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="a read that takes longer fails; not for lmdb")
    ] = 250
    write_deadline_ms: Annotated[
        int, Meta(ge=10, le=600_000, description="a write that takes longer fails; not for lmdb")
    ] = 5_000
    tail_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="changes kept beside a record before they are folded in; not for lmdb",
        ),
    ] = 2_000
    expire_days: Annotated[
        int,
        Meta(
            ge=0,
            le=3_650,
            description="forget a listener, hides and blocks included, this long after their last event, until the flow "
            "fills them in again; 0 means never; not for lmdb",
        ),
    ] = 0
    map_size_mb: Annotated[int, Meta(ge=16, description="largest size of the embedded store")] = 16_384
    redis: Annotated[Redis, Meta(description="where Redis is")] = Redis()
    bigtable: Annotated[Bigtable, Meta(description="where Bigtable is")] = Bigtable()
    dynamodb: Annotated[DynamoDB, Meta(description="where DynamoDB is")] = DynamoDB()


class Kafka(Struct, frozen=True, forbid_unknown_fields=True):
    """Where Kafka is."""

    bootstrap_servers: Annotated[str, Meta(description="addresses to begin with, as HOST:PORT,HOST:PORT")] = (
        "127.0.0.1:9092"
    )
    prefix: Annotated[
        str,
        Meta(
            pattern="^[a-zA-Z0-9._-]*$",
            description="beginning of every topic's and group's name, so that others may use the same cluster",
        ),
    ] = "segue-"
    properties: Annotated[
        str,
        Meta(
            description="file of client properties, one name=value a line, for TLS and SASL; librdkafka gets them as they are"
        ),
    ] = ""
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="partitions of a topic that `segue log create` makes: as many processes fold events into listener "
            "state side by side",
        ),
    ] = 1
    replicas: Annotated[
        int, Meta(ge=1, le=9, description="copies of a topic that `segue log create` makes; 3 in production")
    ] = 1


class PubSub(Struct, frozen=True, forbid_unknown_fields=True):
    """Where Pub/Sub is. Google's variable PUBSUB_EMULATOR_HOST points it at the emulator."""

    project: Annotated[str, Meta(description="Google Cloud project")] = ""
    prefix: Annotated[
        str,
        Meta(
            pattern="^[a-zA-Z][a-zA-Z0-9._~+%-]*$",
            description="beginning of every topic's and subscription's name, so that others may use the same project",
        ),
    ] = "segue-"


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """The log of events and exposures."""

    kind: Annotated[Literal["files", "kafka", "pubsub"], Meta(description="where the log lives")] = "files"
    keep_days: Annotated[
        int,
        Meta(
            ge=1,
            le=31,
            description="records are kept this long: files are removed at a landing once they have landed too; Kafka and Pub/Sub "
            "are told when `segue log create` makes a topic, and remove what has not landed as well",
        ),
    ] = 7
    deadline_ms: Annotated[
        int,
        Meta(ge=100, le=60_000, description="what the log does not answer in this time fails; not for files"),
    ] = 5_000
    when_down: Annotated[
        Literal["refuse", "bundle"],
        Meta(
            description="what a worker does that starts while the log cannot be read: refuse, and not be ready, or answer from "
            "the bundle as it is, which may show a track that was withdrawn since, until the log is back"
        ),
    ] = "refuse"
    kafka: Annotated[Kafka, Meta(description="where Kafka is")] = Kafka()
    pubsub: Annotated[PubSub, Meta(description="where Pub/Sub is")] = PubSub()


Scope = Literal["read", "write", "catalogue", "experiments"]


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """A caller of the API. `segue key` makes one."""

    sha256: Annotated[
        str, Meta(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the key, in hexadecimal")
    ]
    scopes: Annotated[
        tuple[Scope, ...],
        Meta(
            description="`read`: everything that is asked; `write`: events may be sent; `catalogue`: tracks may be changed; "
            "`experiments`: they may be put and stopped, and variants asked for"
        ),
    ] = ("write",)
    events_per_s: Annotated[
        int, Meta(ge=0, description="events a second it may send, over all workers; 0: any number")
    ] = 0


class Serving(Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP server."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on")] = 8080
    workers: Annotated[int, Meta(ge=1, le=256, description="processes; they share the bundle's memory")] = 2
    own_cpu: Annotated[
        bool,
        Meta(
            description="keep each worker to one CPU where there are as many workers as CPUs the server may run on (Linux)"
        ),
    ] = True
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="names callers may use for this server besides its own and localhost; "
            "none given: any name, except on a loopback address"
        ),
    ] = ()
    read_threads: Annotated[
        int,
        Meta(ge=1, le=64, description="threads of a worker that answer; more only help while a store waits"),
    ] = 1
    write_threads: Annotated[
        int, Meta(ge=1, le=64, description="threads of a worker that take events in")
    ] = 1
    max_waiting: Annotated[
        int,
        Meta(
            ge=1, description="requests, and as many posts, a worker runs or lets wait; more get status 429"
        ),
    ] = 64
    max_waiting_events: Annotated[
        int,
        Meta(ge=1, description="events a worker lets wait for the log; more get status 429"),
    ] = 50_000
    max_k: Annotated[int, Meta(ge=1, le=1000, description="most items a request may ask for")] = 200
    max_batch: Annotated[int, Meta(ge=1, description="most events in one POST")] = 1_000
    max_body_bytes: Annotated[int, Meta(ge=1_000, description="largest request body")] = 4_000_000
    max_event_age_days: Annotated[int, Meta(ge=1, description="older events are refused")] = 30
    max_clock_skew_s: Annotated[int, Meta(ge=0, description="events further in the future are refused")] = 300
    listener_events_per_s: Annotated[
        int,
        Meta(
            ge=0,
            description="events of one listener a second that a worker takes, counted over ten seconds; more are refused "
            "(429 if a POST holds nothing else); 0: any number",
        ),
    ] = 200
    dead_letters_per_s: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000,
            description="refused events a second that a worker keeps for the table rejects, a minute's worth at once; "
            "0 keeps none",
        ),
    ] = 2
    console: Annotated[bool, Meta(description="serve the listener page at /")] = True
    keys: Annotated[
        dict[str, Key], Meta(description="callers by name; without any, everybody may do everything")
    ] = field(default_factory=dict)
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="origins of web pages that may send events, such as https://play.example; `*`: any"),
    ] = ()
    log_sample_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="share of requests that the exposure log keeps with feature vectors and candidates that lost",
        ),
    ] = 0.01
    log_losers: Annotated[
        int,
        Meta(ge=0, le=5_000, description="most losing candidates kept of such a request, drawn at random"),
    ] = 100


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole tree."""

    warehouse: Annotated[Warehouse, Meta(description="tables")] = Warehouse()
    training: Annotated[Training, Meta(description="models")] = Training()
    gate: Annotated[Gate, Meta(description="what a challenger must show")] = Gate()
    programme: Annotated[Programme, Meta(description="the new-artist programme")] = Programme()
    bundles: Annotated[Bundles, Meta(description="published models")] = Bundles()
    log: Annotated[Log, Meta(description="the log of events and exposures")] = Log()
    state: Annotated[State, Meta(description="listener state")] = State()
    serving: Annotated[Serving, Meta(description="the HTTP server")] = Serving()
    surfaces: Annotated[dict[str, Surface], Meta(description="the recipe of each surface")] = field(
        default_factory=default_surfaces
    )
