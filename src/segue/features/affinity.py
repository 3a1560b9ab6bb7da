"""Features of the listener crossed with the candidate: its track, its artist, its genre. As of the moment of the request."""

from __future__ import annotations

from math import nan

from segue.features.definition import feature
from segue.features.expression import Rows, Value
from segue.features.relations import ListenerArtist, ListenerGenre, ListenerTrack, days

OWNER = "personalization"
CROSSED = (ListenerTrack, ListenerArtist, ListenerGenre)

for _entity in CROSSED:

    @feature(entity=_entity, window=(days(7), days(90)), default=0.0, owner=OWNER)
    def plays(plays: Rows) -> Value:
        """Plays, given up or not."""
        return plays.count()

    @feature(entity=_entity, window=days(90), default=nan, owner=OWNER)
    def skip_rate(plays: Rows) -> Value:
        """Share of plays given up before 30 s."""
        return plays.skipped.mean()

    @feature(entity=_entity, window=days(90), default=0.0, owner=OWNER)
    def affinity(plays: Rows) -> Value:
        """Listens, each halved in weight with every week of its age."""
        return plays.listened.sum(half_life=days(7))

    @feature(entity=_entity, window=days(90), default=nan, owner=OWNER)
    def minutes_since_play(plays: Rows) -> Value:
        """Minutes since the last play began."""
        return plays.minutes_ago.min()

    @feature(entity=_entity, window=days(90), default=nan, owner=OWNER)
    def plays_ago(plays: Rows) -> Value:
        """How many plays ago the last one was; 1 is the listener's very last play."""
        return plays.recency.min()

    @feature(entity=_entity, window=days(1), default=0.0, owner=OWNER)
    def session_plays(plays: Rows) -> Value:
        """Plays in the current session."""
        return plays.count(where=plays.in_session)


for _entity in (ListenerArtist, ListenerGenre):

    @feature(entity=_entity, window=days(90), default=0.0, owner=OWNER)
    def tracks(plays: Rows) -> Value:
        """Different tracks played."""
        return plays.track_id.nunique()

    @feature(entity=_entity, window=days(90), default=0.0, owner=OWNER)
    def last_was(plays: Rows) -> Value:
        """1 if the listener's last play was of it."""
        return plays.recency.min() <= 1

    @feature(entity=_entity, window=days(1), default=0.0, owner=OWNER)
    def session_skips(plays: Rows) -> Value:
        """Plays in the current session that were given up."""
        return plays.skipped.sum(where=plays.in_session)


@feature(entity=ListenerTrack, window=days(90), default=nan, owner=OWNER)
def completion(plays: Rows) -> Value:
    """Seconds a play of it lasts on average."""
    return plays.ms_played.mean() * 0.001


@feature(entity=ListenerTrack, default=0.0, owner=OWNER)
def liked(likes: Rows) -> Value:
    """1 if liked, and not withdrawn."""
    return likes.count()


@feature(entity=ListenerTrack, default=nan, owner=OWNER)
def minutes_since_like(likes: Rows) -> Value:
    """Minutes since it was liked."""
    return likes.minutes_ago.min()


@feature(entity=ListenerTrack, default=0.0, owner=OWNER)
def added(adds: Rows) -> Value:
    """1 if put on a playlist."""
    return adds.count()


@feature(entity=ListenerTrack, default=0.0, owner=OWNER)
def reposted(reposts: Rows) -> Value:
    """1 if reposted, and not withdrawn."""
    return reposts.count()


@feature(entity=ListenerArtist, default=0.0, owner=OWNER)
def followed(follows: Rows) -> Value:
    """1 if followed, and not left."""
    return follows.count()
