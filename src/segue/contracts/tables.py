"""Every table of the warehouse, described once.

Times are int64 UTC microseconds (see docs/adr): every engine compares, windows and joins integers alike. `day` is the UTC
date of the row's `ts` and the partition of every daily table.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from segue.contracts.ids import MAX_ID
from segue.contracts.measures import Bins, Filled, Hours, Known, Letters, Single, Values
from segue.contracts.schema import Column, Table
from segue.contracts.vocabulary import HOUR, MINUTE, EventType, Removed, Surface, Team

I64, I32, I16, F32, F64, BOOL, TEXT = (
    pa.int64(),
    pa.int32(),
    pa.int16(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
)
UUID = pa.binary()
EARLIEST: Final = 946_684_800_000_000
"""2000-01-01: no event of a streaming service is older."""
LATEST: Final = 4_102_444_800_000_000
"""2100-01-01: a clock that says later is wrong."""
MAX_TEXT: Final = 1_000
"""Bytes of UTF-8, like every `max_bytes`."""
MAX_DESCRIPTION: Final = 10_000
MAX_TAGS: Final = 50
MAX_TAG: Final = 100
"""Bytes of one tag that is sent."""
MAX_BLOCKED: Final = 250
"""Countries; there are 249 codes."""
_PLAYED: Final = (1, 1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
"""Milliseconds: seconds taken for milliseconds, or the other way round, leave nothing where it was."""
_COUNTED: Final = (1, 2, 4, 8, 16, 32, 64, 128, 512)

DAY = Column("day", pa.date32(), "UTC date of `ts`; the partition")
TS = Column("ts", I64, "when it happened, UTC microseconds", ge=EARLIEST, le=LATEST)
USER = Column("user_id", I64, "the listener", ge=0, le=MAX_ID, references="listeners")
VIEWER = Column(
    "user_id",
    I64,
    "the listener; null for a stranger",
    nullable=True,
    ge=0,
    le=MAX_ID,
    references="listeners",
)
TRACK = Column("track_id", I64, "the track", ge=0, le=MAX_ID, references="tracks")
ARTIST_OPT = Column(
    "artist_id", I64, "the artist, where known", nullable=True, ge=0, le=MAX_ID, references="artists"
)
COUNTRY_OPT = Column(
    "country", TEXT, "ISO 3166 alpha-2 code, upper case", nullable=True, max_bytes=2, pattern="[A-Z]{2}"
)
OUTSIDE = Column("external_id", TEXT, "the id in the system it came from", nullable=True, max_bytes=MAX_TEXT)

TRACKS = Table(
    "tracks",
    "Music that can be played.",
    (
        TRACK,
        ARTIST_OPT,
        Column("title", TEXT, "as shown to people", nullable=True, max_bytes=MAX_TEXT),
        Column("description", TEXT, "the uploader's words", nullable=True, max_bytes=MAX_DESCRIPTION),
        Column("genre", TEXT, "main genre, lower case", nullable=True, max_bytes=100),
        Column("tags", pa.list_(TEXT), "free tags, lower case, at most 50", nullable=True),
        Column("duration_ms", I32, "length in milliseconds", nullable=True, ge=0, le=86_400_000),
        Column("uploaded_at", I64, "UTC microseconds; unknown is null", nullable=True, ge=0, le=LATEST),
        Column("explicit", BOOL, "has explicit words"),
        Column("public", BOOL, "may be shown to anyone but its artist"),
        Column("blocked_countries", pa.list_(TEXT), "ISO codes where it may not be played", nullable=True),
        OUTSIDE,
    ),
    key=("track_id",),
    daily=False,
    derived=False,
)
ARTISTS = Table(
    "artists",
    "Who makes the music.",
    (
        Column("artist_id", I64, "the artist", ge=0, le=MAX_ID),
        Column("name", TEXT, "as shown to people", nullable=True, max_bytes=MAX_TEXT),
        COUNTRY_OPT,
        Column("joined_at", I64, "UTC microseconds", nullable=True, ge=0, le=LATEST),
        OUTSIDE,
    ),
    key=("artist_id",),
    daily=False,
    derived=False,
)
LISTENERS = Table(
    "listeners",
    "Who listens.",
    (
        USER,
        COUNTRY_OPT,
        Column("joined_at", I64, "UTC microseconds", nullable=True, ge=0, le=LATEST),
        Column("plan", TEXT, "free or premium", nullable=True, max_bytes=40),
        Column("explicit_ok", BOOL, "wants explicit music"),
        Column("personalization_consent", BOOL, "allows their history to be read"),
        OUTSIDE,
    ),
    key=("user_id",),
    daily=False,
    derived=False,
)
FRIENDSHIPS = Table(
    "friendships",
    "Who follows whom among listeners; each pair both ways.",
    (USER, Column("friend_id", I64, "the other listener", ge=0, le=MAX_ID, references="listeners")),
    key=("user_id", "friend_id"),
    daily=False,
    derived=False,
)

_EVENT = (
    DAY,
    Column("event_id", UUID, "UUIDv7, 16 bytes: the idempotency key"),
    TS,
    Column("received_at", I64, "when the platform got it, UTC microseconds", ge=EARLIEST, le=LATEST),
    USER,
    Column("session_id", I64, "the client's session, where it names one", nullable=True, ge=0, le=MAX_ID),
    Column("type", TEXT, "what happened", one_of=tuple(EventType)),
    Column(
        "track_id",
        I64,
        "the track, where the type has one",
        nullable=True,
        ge=0,
        le=MAX_ID,
        references="tracks",
    ),
    ARTIST_OPT,
    Column("ms_played", I32, "how long it played, milliseconds", nullable=True, ge=0, le=86_400_000),
    Column("surface", TEXT, "where it was shown or played from", nullable=True, one_of=tuple(Surface)),
    Column("position", I16, "slot on that surface, from 0", nullable=True, ge=0, le=10_000),
    Column("request_id", UUID, "the recommendation it answers", nullable=True),
    Column("playlist_id", I64, "the playlist of a playlist_add", nullable=True, ge=0, le=MAX_ID),
    Column("query", TEXT, "the words of a search", nullable=True, max_bytes=MAX_TEXT),
    COUNTRY_OPT,
    Column("device", TEXT, "phone, desktop, speaker, ...", nullable=True, max_bytes=40),
)
RAW_EVENTS = Table(
    "raw_events",
    "Events as they landed: checked against the contract, each event_id once a day: the first that came.",
    _EVENT,
    key=("event_id",),
    sort=("user_id", "ts"),
    derived=False,
)
REJECTS = Table(
    "rejects",
    "Rows that broke the contract when they came in, with the reason.",
    (
        Column("day", pa.date32(), "UTC date of the rejection; the partition"),
        Column("at", I64, "when it was rejected, UTC microseconds"),
        Column("origin", TEXT, "import, file or endpoint it came from", max_bytes=MAX_TEXT),
        Column("row", I64, "row or line number in the origin, from 0", nullable=True),
        Column("reason", TEXT, "short name of the broken rule", max_bytes=100),
        Column("field", TEXT, "the column that broke it", nullable=True, max_bytes=100),
        Column("content", TEXT, "the row, as JSON, cut at 2,000 characters", nullable=True),
    ),
    key=("origin", "row", "reason"),
    derived=False,
)
EVENTS = Table(
    "events",
    "Clean events: one row an event_id, artist filled in, sessions cut, plays judged.",
    (
        *_EVENT,
        Column(
            "session_start",
            I64,
            "start of the session it belongs to, UTC microseconds; with user_id it names the session",
        ),
        Column("listened", BOOL, "a play of 30 s or more, or to the track's end"),
        Column("skipped", BOOL, "a play given up before that, or a skip"),
    ),
    key=("event_id",),
    sort=("user_id", "ts"),
    fresh_hours=12,
    measures=(
        Values("type"),
        Values("surface"),
        Values("country"),
        Values("device"),
        Hours("ts"),
        Bins("received_at", (0, 10 * MINUTE, HOUR // 2, 2 * HOUR), since="ts", unit="min", scale=MINUTE),
        Bins("ms_played", _PLAYED),
        Bins("position", (1, 4, 8, 16)),
        Filled("session_id"),
        Filled("request_id"),
        Letters("query"),
        Known("user_id", same="country"),
        Known("track_id", same="artist_id"),
        Known("artist_id"),
        Single(("user_id", "ts", "type", "track_id"), among="user_id"),
    ),
    client="device",
)
SESSIONS = Table(
    "sessions",
    "A listener's stretches of activity; a row stands in the day the session began.",
    (
        DAY,
        USER,
        Column("session_start", I64, "UTC microseconds"),
        Column("session_end", I64, "last event's time, UTC microseconds"),
        Column("events", I64, "events of any type"),
        Column("plays", I64, "plays"),
        Column("listens", I64, "plays of 30 s or more, or to the end"),
        Column("skips", I64, "plays given up before that"),
        Column("tracks", I64, "distinct tracks played"),
        Column("ms_played", I64, "milliseconds played"),
    ),
    key=("user_id", "session_start"),
    sort=("user_id", "session_start"),
    measures=(
        Bins("events", _COUNTED),
        Bins("plays", _COUNTED),
        Bins("ms_played", (1, 60_000, 600_000, 3_600_000)),
    ),
)
LISTENS = Table(
    "listens",
    "Plays of 30 s or more, or to the track's end: the unit of liking something enough to stay.",
    (
        DAY,
        TS,
        USER,
        TRACK,
        ARTIST_OPT,
        Column("session_start", I64, "UTC microseconds"),
        Column("ms_played", I32, "milliseconds", nullable=True),
        Column("surface", TEXT, "where it was played from", nullable=True),
        COUNTRY_OPT,
    ),
    key=(),
    sort=("user_id", "ts"),
    measures=(Bins("ms_played", _PLAYED), Values("surface")),
)
_COUNTS = (
    Column("plays", I64, "plays"),
    Column("listens", I64, "plays of 30 s or more, or to the end"),
    Column("skips", I64, "plays given up before that"),
    Column("ms_played", I64, "milliseconds played"),
    Column("impressions", I64, "times shown"),
    Column("likes", I64, "likes minus nothing: withdrawals are not counted"),
    Column("reposts", I64, "reposts"),
    Column("adds", I64, "times put on a playlist"),
    Column("hides", I64, "times hidden for good"),
)
DAILY_TRACKS = Table(
    "daily_tracks",
    "What happened to a track in a day.",
    (DAY, TRACK, ARTIST_OPT, *_COUNTS, Column("listeners", I64, "distinct listeners who played it")),
    key=("day", "track_id"),
    sort=("track_id",),
)
DAILY_ARTISTS = Table(
    "daily_artists",
    "What happened to an artist in a day.",
    (
        DAY,
        Column("artist_id", I64, "the artist"),
        *_COUNTS,
        Column("follows", I64, "new followers"),
        Column("listeners", I64, "distinct listeners who played them"),
    ),
    key=("day", "artist_id"),
    sort=("artist_id",),
)
DAILY_LISTENERS = Table(
    "daily_listeners",
    "What a listener did in a day.",
    (
        DAY,
        USER,
        *_COUNTS,
        Column("sessions", I64, "sessions begun"),
        Column("tracks", I64, "distinct tracks played"),
        Column("artists", I64, "distinct artists played"),
    ),
    key=("day", "user_id"),
    sort=("user_id",),
    measures=(Bins("plays", _COUNTED), Bins("sessions", (1, 2, 3, 6)), Bins("tracks", _COUNTED)),
)
CO_LISTENS = Table(
    "co_listens",
    "Pairs of tracks one listener played close together in a session, per day. A pair counts 1 at distance one, 1/2 at two, ...",
    (
        DAY,
        TRACK,
        Column("other_id", I64, "the track played within five plays of it, before or after"),
        Column("weight", F64, "sum of 1/distance"),
        Column("pairs", I64, "how often"),
    ),
    key=("day", "track_id", "other_id"),
    sort=("track_id", "other_id"),
)
EXPOSURES = Table(
    "exposures",
    "The decision log, a row a slot: what was shown, why, and how likely that was.",
    (
        DAY,
        Column("request_id", UUID, "the recommendation"),
        TS,
        VIEWER,
        Column("surface", TEXT, "where", one_of=tuple(Surface)),
        Column("bundle", TEXT, "bundle version", nullable=True),
        Column("config", TEXT, "hash of the settings of the surface", nullable=True),
        Column(
            "variants",
            TEXT,
            "experiment to variant as JSON, of the experiments that could make a difference here",
            nullable=True,
        ),
        Column("took_us", I32, "microseconds it took to make the answer", nullable=True, ge=0),
        Column("degraded", I16, "stages that left something out", nullable=True, ge=0),
        Column("position", I16, "slot, from 0"),
        TRACK,
        Column("score", F32, "final score", nullable=True),
        Column("sources", pa.list_(TEXT), "sources that proposed it", nullable=True),
        Column(
            "propensity", F64, "probability of this track in this slot given the slots before", nullable=True
        ),
        Column(
            "team",
            TEXT,
            "of an interleaved page: the side that the slot is credited to; such pages have no propensities",
            nullable=True,
            one_of=tuple(Team),
        ),
        Column("features", pa.list_(F32), "feature vector as scored, for a sample", nullable=True),
    ),
    key=("request_id", "position"),
    sort=("user_id", "ts"),
    derived=False,
)
CANDIDATES = Table(
    "candidates",
    "The other half of the decision log: what was considered for a response and not shown. All that a rule removed; for a"
    " sample of the responses, some of the candidates that lost.",
    (
        DAY,
        Column("request_id", UUID, "the recommendation"),
        TS,
        VIEWER,
        Column("surface", TEXT, "where", one_of=tuple(Surface)),
        TRACK,
        Column("reason", TEXT, "why it was not shown; `lost`: others scored higher", one_of=tuple(Removed)),
        Column(
            "share",
            F64,
            "probability that this response's candidate was logged, given that the response is in the sample",
            ge=0,
            le=1,
        ),
        Column("score", F32, "final score, of those that lost", nullable=True),
        Column("sources", pa.list_(TEXT), "sources that proposed it, of those that lost", nullable=True),
        Column("features", pa.list_(F32), "feature vector as scored, of those that lost", nullable=True),
    ),
    key=("request_id", "track_id"),
    sort=("user_id", "ts"),
    derived=False,
)
OUTCOMES = Table(
    "outcomes",
    "Exposures with what the listener then did with the track within 24 hours.",
    (
        DAY,
        Column("request_id", UUID, "the recommendation"),
        TS,
        VIEWER,
        Column("surface", TEXT, "where"),
        Column("position", I16, "slot, from 0"),
        TRACK,
        Column("propensity", F64, "as logged", nullable=True),
        Column("played", BOOL, "started"),
        Column("listened", BOOL, "played 30 s or more, or to the end"),
        Column("skipped", BOOL, "given up before that and never listened"),
        Column("liked", BOOL, "liked"),
        Column("hidden", BOOL, "hidden for good"),
        Column("ms_played", I64, "milliseconds played"),
    ),
    key=("request_id", "position"),
    sort=("user_id", "ts"),
    measures=(
        Values("surface"),
        Bins("position", (1, 4, 8, 16)),
        # They go with settings and experiments: pages that are interleaved have none.
        Bins("propensity", (0.0001, 0.001, 0.01, 0.1, 1.0), lost=0.0),
        Values("played"),
        Values("listened"),
    ),
)
DEBUTS = Table(
    "debuts",
    "New public uploads in their first 14 days, as they stand at the end of the day.",
    (
        DAY,
        TRACK,
        ARTIST_OPT,
        Column("genre", TEXT, "main genre", nullable=True),
        Column("uploaded_at", I64, "UTC microseconds"),
        Column("days_left", I32, "whole days that follow in which it is still a debut"),
        Column("exposures", I64, "slots it was shown in since its upload"),
        Column(
            "relevant",
            I64,
            "of these, to a known listener and proposed by a source that looks at taste or the seed",
        ),
        Column("listeners", I64, "distinct listeners of relevant exposures: what the programme counts"),
        Column("listens", I64, "exposures that were listened to"),
        Column("skips", I64, "exposures whose play was given up and never listened to"),
        Column("prior", F64, "listens per exposure of its genre's debuts, shrunk to those of all"),
        Column("rate", F64, "expected listens per exposure, by the prior and its own"),
        Column("upper", F64, "upper bound of that rate, 95% one-sided"),
        Column(
            "paused", TEXT, "why the quality guard gives it nothing; null where it does not", nullable=True
        ),
    ),
    key=("day", "track_id"),
    sort=("track_id",),
)
RUNS = Table(
    "runs",
    "The ledger: which run wrote which partition from which inputs.",
    (
        Column("day", pa.date32(), "the partition written; 1970-01-01 for a whole table"),
        Column("run_id", UUID, "one execution of a step over some days"),
        Column("step", TEXT, "name of the step"),
        Column("table", TEXT, "the table written"),
        Column("fingerprint", TEXT, "hash of the step's code version, settings and input partitions"),
        Column("rows", I64, "rows in the partition"),
        Column("read_rows", I64, "rows read by the run", nullable=True),
        Column("started_at", I64, "UTC microseconds"),
        Column("seconds", F64, "wall time of the run"),
        Column("code", TEXT, "version of Segue"),
        Column("read_bytes", I64, "bytes read by the run, or the most it can have read", nullable=True),
        Column("engine", TEXT, "the engine it ran on", nullable=True),
        Column("version", I32, "version of the step", nullable=True),
        Column("settings", TEXT, "the settings the step depends on, as JSON", nullable=True),
        Column(
            "inputs",
            TEXT,
            "what it was made from, as JSON: by table, days from and to and the run that had written them last",
            nullable=True,
        ),
    ),
    key=("run_id", "table", "day"),
    daily=False,
    derived=False,
)
VERDICTS = Table(
    "verdicts",
    "What the gate said of each challenger.",
    (
        Column("at", I64, "when it was judged, UTC microseconds"),
        Column("version", TEXT, "the challenger's bundle"),
        Column("champion", TEXT, "the bundle it was held against; null where there was none", nullable=True),
        Column("passed", BOOL, "it was published"),
        Column("reason", TEXT, "why, or why not"),
        Column("comparisons", TEXT, "both results and their difference with its interval, per task, as JSON"),
    ),
    key=("version", "at"),
    daily=False,
    derived=False,
)
ERASURES = Table(
    "erasures",
    "Listeners who are erased: nothing of theirs lands any more.",
    (USER, Column("at", I64, "since when, UTC microseconds")),
    key=("user_id",),
    daily=False,
    derived=False,
)
QUALITY = Table(
    "quality",
    "How many rows of a day fall into each part of each measure; of a day that was measured again the latest counts.",
    (
        Column("day", pa.date32(), "the day that was measured"),
        Column("table", TEXT, "the table"),
        Column("at", I64, "when it was measured, UTC microseconds"),
        Column(
            "counted_as",
            TEXT,
            "hash of what is counted of the table: days counted otherwise are counted again",
        ),
        Column("measure", TEXT, "what was counted; `rows` is all of them"),
        Column(
            "client",
            TEXT,
            "the client whose rows alone these are, where the table tells them apart",
            nullable=True,
        ),
        Column("part", TEXT, "a value, a range of numbers, an hour, ..."),
        Column("rows", I64, "rows in it"),
    ),
    key=("day", "table", "at", "measure", "client", "part"),
    daily=False,
    sort=("day", "table", "at"),
    derived=False,
)
INCIDENTS = Table(
    "incidents",
    "What stopped the flow: a row for each thing that was found, and one more where somebody accepted it.",
    (
        Column("at", I64, "when it was found, or accepted, UTC microseconds"),
        Column("incident", TEXT, "its name, and that of its file in HOME/incidents"),
        Column("status", TEXT, "found or accepted", one_of=("found", "accepted")),
        Column(
            "step", TEXT, "the step that was stopped; null where a day was set aside by hand", nullable=True
        ),
        Column("table", TEXT, "the table that would have been written"),
        Column("day", pa.date32(), "the day; null where it is rows of any day", nullable=True),
        Column("measure", TEXT, "the measure, or the rule of a column"),
        Column("client", TEXT, "the client whose rows alone these are", nullable=True),
        Column("part", TEXT, "part of the measure", nullable=True),
        Column("seen", F64, "rows"),
        Column("low", F64, "fewest rows that are usual", nullable=True),
        Column("high", F64, "most rows that are usual", nullable=True),
        Column("said", TEXT, "what was found, or why it was accepted, in words"),
        Column(
            "fingerprint",
            TEXT,
            "what the day would have been built from: while that is the same it is not tried again",
            nullable=True,
        ),
    ),
    key=("at", "incident", "measure", "client", "part"),
    daily=False,
    derived=False,
)

TABLES: Final[dict[str, Table]] = {
    t.name: t
    for t in (
        TRACKS,
        ARTISTS,
        LISTENERS,
        FRIENDSHIPS,
        RAW_EVENTS,
        REJECTS,
        EVENTS,
        SESSIONS,
        LISTENS,
        DAILY_TRACKS,
        DAILY_ARTISTS,
        DAILY_LISTENERS,
        CO_LISTENS,
        EXPOSURES,
        CANDIDATES,
        OUTCOMES,
        DEBUTS,
        RUNS,
        VERDICTS,
        ERASURES,
        QUALITY,
        INCIDENTS,
    )
}
