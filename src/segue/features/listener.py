"""Features of the listener, as of the moment of the request: habits, and the session that is going on."""

from __future__ import annotations

from math import nan

from segue.features.definition import feature
from segue.features.expression import Facts, Rows, Value
from segue.features.relations import Listener, days, hours

OWNER = "personalization"


@feature(entity=Listener, window=(hours(1), days(1), days(7), days(28), days(90)), default=0.0, owner=OWNER)
def plays(plays: Rows) -> Value:
    """Plays, given up or not; at most as many as the listener's state keeps."""
    return plays.count()


@feature(entity=Listener, window=(days(1), days(28)), default=nan, owner=OWNER)
def skip_rate(plays: Rows) -> Value:
    """Share of plays given up before 30 s."""
    return plays.skipped.mean()


@feature(entity=Listener, window=days(28), default=nan, owner=OWNER)
def mean_seconds(plays: Rows) -> Value:
    """Seconds a play lasts on average."""
    return plays.ms_played.mean() * 0.001


@feature(entity=Listener, window=days(28), default=0.0, owner=OWNER)
def active_days(plays: Rows) -> Value:
    """UTC days with a play."""
    return plays.day.nunique()


@feature(entity=Listener, window=days(28), default=0.0, owner=OWNER)
def artists(plays: Rows) -> Value:
    """Different artists played."""
    return plays.artist_id.nunique()


@feature(entity=Listener, window=days(28), default=0.0, owner=OWNER)
def genres(plays: Rows) -> Value:
    """Different genres played."""
    return plays.genre.nunique()


@feature(entity=Listener, window=days(28), default=nan, owner=OWNER)
def repeat_rate(plays: Rows) -> Value:
    """Share of plays of a track already played in the window."""
    return 1.0 - plays.track_id.nunique() / plays.count()


@feature(entity=Listener, window=days(90), default=nan, owner=OWNER)
def minutes_since_play(plays: Rows) -> Value:
    """Minutes since the last play began."""
    return plays.minutes_ago.min()


@feature(entity=Listener, window=days(90), default=nan, owner=OWNER)
def last_skipped(plays: Rows) -> Value:
    """1 if the last play was given up."""
    return plays.skipped.max(where=plays.recency <= 1)


@feature(entity=Listener, window=days(1), default=0.0, owner=OWNER)
def session_plays(plays: Rows) -> Value:
    """Plays of the current session so far."""
    return plays.count(where=plays.in_session)


@feature(entity=Listener, window=days(1), default=0.0, owner=OWNER)
def session_skips(plays: Rows) -> Value:
    """Plays of the current session that were given up."""
    return plays.skipped.sum(where=plays.in_session)


@feature(entity=Listener, window=days(1), default=0.0, owner=OWNER)
def session_artists(plays: Rows) -> Value:
    """Different artists in the current session."""
    return plays.artist_id.nunique(where=plays.in_session)


@feature(entity=Listener, window=days(1), default=0.0, owner=OWNER)
def session_minutes(plays: Rows) -> Value:
    """Minutes since the current session began; 0 without one."""
    return plays.minutes_ago.max(where=plays.in_session)


@feature(entity=Listener, window=days(90), default=nan, owner=OWNER)
def recent_skip_rate(plays: Rows) -> Value:
    """Share of the last 10 plays that were given up."""
    return plays.skipped.mean(where=plays.recency <= 10)


@feature(entity=Listener, window=(days(28), None), default=0.0, owner=OWNER)
def likes(likes: Rows) -> Value:
    """Tracks liked, and not withdrawn."""
    return likes.count()


@feature(entity=Listener, default=0.0, owner=OWNER)
def follows(follows: Rows) -> Value:
    """Artists followed, and not left."""
    return follows.count()


@feature(entity=Listener, default=nan, owner=OWNER)
def age_days(listener: Facts) -> Value:
    """Days since the listener joined."""
    return listener.age_days.at_least(0)
