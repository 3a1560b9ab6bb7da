"""Features of the candidate's artist, as of the start of the UTC day."""

from __future__ import annotations

from math import nan

from segue.features.definition import feature
from segue.features.expression import Facts, Rows, Value
from segue.features.relations import Artist, days

OWNER = "discovery"


@feature(entity=Artist, window=(days(7), days(28)), default=0.0, owner=OWNER)
def plays(plays: Rows) -> Value:
    """Plays of the artist's tracks, given up or not."""
    return plays.count()


@feature(entity=Artist, window=days(28), default=0.0, owner=OWNER)
def listener_days(plays: Rows) -> Value:
    """Distinct listeners of each day, added up."""
    return plays.listener_days.sum()


@feature(entity=Artist, window=days(28), default=nan, owner=OWNER)
def skip_rate(plays: Rows) -> Value:
    """Share of plays given up before 30 s."""
    return plays.skipped.mean()


@feature(entity=Artist, window=days(28), default=nan, owner=OWNER)
def trend(plays: Rows) -> Value:
    """Share of the plays of 28 days that fell into the last 7: a quarter is steady, more is rising."""
    return plays.count(within=days(7)) / plays.count()


@feature(entity=Artist, window=days(28), default=nan, owner=OWNER)
def like_rate(likes: Rows, plays: Rows) -> Value:
    """Likes per play."""
    return likes.count() / plays.count()


@feature(entity=Artist, window=(days(7), days(28)), default=0.0, owner=OWNER)
def follows(follows: Rows) -> Value:
    """New followers."""
    return follows.count()


@feature(entity=Artist, window=days(28), default=nan, owner=OWNER)
def plays_per_impression(plays: Rows, impressions: Rows) -> Value:
    """Plays from anywhere per time one of the tracks was shown."""
    return plays.count() / impressions.count()


@feature(entity=Artist, default=nan, owner=OWNER)
def age_days(artist: Facts) -> Value:
    """Days since the artist joined."""
    return artist.age_days.at_least(0)
