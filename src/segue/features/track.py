"""Features of the candidate track, as of the start of the UTC day."""

from __future__ import annotations

from math import nan

from segue.features.definition import feature
from segue.features.expression import Facts, Rows, Value
from segue.features.relations import Track, days

OWNER = "discovery"


@feature(entity=Track, window=(days(1), days(7), days(28)), default=0.0, owner=OWNER)
def plays(plays: Rows) -> Value:
    """Plays, given up or not."""
    return plays.count()


@feature(entity=Track, window=(days(7), days(28)), default=0.0, owner=OWNER)
def listener_days(plays: Rows) -> Value:
    """Distinct listeners of each day, added up."""
    return plays.listener_days.sum()


@feature(entity=Track, window=(days(7), days(28)), default=nan, owner=OWNER)
def skip_rate(plays: Rows) -> Value:
    """Share of plays given up before 30 s."""
    return plays.skipped.mean()


@feature(entity=Track, window=days(28), default=nan, owner=OWNER)
def mean_seconds(plays: Rows) -> Value:
    """Seconds a play lasts on average."""
    return plays.ms_played.mean() * 0.001


@feature(entity=Track, window=days(28), default=nan, owner=OWNER)
def plays_per_listener_day(plays: Rows) -> Value:
    """Plays by one listener in a day: how much it is repeated."""
    return plays.count() / plays.listener_days.sum()


@feature(entity=Track, window=days(28), default=nan, owner=OWNER)
def trend(plays: Rows) -> Value:
    """Share of the plays of 28 days that fell into the last 7: a quarter is steady, more is rising."""
    return plays.count(within=days(7)) / plays.count()


@feature(entity=Track, window=(days(7), days(28)), default=0.0, owner=OWNER)
def likes(likes: Rows) -> Value:
    """Likes given, withdrawals not counted."""
    return likes.count()


@feature(entity=Track, window=days(28), default=nan, owner=OWNER)
def like_rate(likes: Rows, plays: Rows) -> Value:
    """Likes per play."""
    return likes.count() / plays.count()


@feature(entity=Track, window=days(28), default=0.0, owner=OWNER)
def adds(adds: Rows) -> Value:
    """Times put on a playlist."""
    return adds.count()


@feature(entity=Track, window=days(28), default=0.0, owner=OWNER)
def reposts(reposts: Rows) -> Value:
    """Reposts."""
    return reposts.count()


@feature(entity=Track, window=days(28), default=nan, owner=OWNER)
def hide_rate(hides: Rows, plays: Rows) -> Value:
    """Hides ("never again") per play."""
    return hides.count() / plays.count()


@feature(entity=Track, window=days(7), default=0.0, owner=OWNER)
def impressions(impressions: Rows) -> Value:
    """Times shown."""
    return impressions.count()


@feature(entity=Track, window=days(28), default=nan, owner=OWNER)
def plays_per_impression(plays: Rows, impressions: Rows) -> Value:
    """Plays from anywhere per time shown."""
    return plays.count() / impressions.count()


@feature(entity=Track, default=nan, owner=OWNER)
def age_days(track: Facts) -> Value:
    """Days since the upload; 0 on the day itself."""
    return track.age_days.at_least(0)


@feature(entity=Track, default=nan, owner=OWNER)
def duration_s(track: Facts) -> Value:
    """Length in seconds."""
    return track.duration_s


@feature(entity=Track, default=0.0, owner=OWNER)
def explicit(track: Facts) -> Value:
    """1 if it has explicit words."""
    return track.explicit
