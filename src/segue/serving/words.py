"""Features in words, for the page that tells a listener why: engineers have their names and the reference page."""

from __future__ import annotations

from typing import Final

from segue.contracts.vocabulary import DAY, HOUR
from segue.features import FEATURES, Feature
from segue.recommend.sources import PHRASES

_MUSIC: Final = {
    "plays": "how often {it} is played",
    "listener_days": "how many people play {it}",
    "skip_rate": "how often {it} is skipped",
    "mean_seconds": "how long people stay with {it}",
    "plays_per_listener_day": "how much {it} is repeated",
    "trend": "whether {it} is rising",
    "likes": "how many people like {it}",
    "like_rate": "how often a play of {it} is liked",
    "adds": "how often {it} is put on a playlist",
    "reposts": "how often {it} is reposted",
    "hide_rate": "how often {it} is hidden",
    "impressions": "how often {it} was shown",
    "plays_per_impression": "how often {it} is played when shown",
    "follows": "new followers of {it}",
    "age_days": "how new {it} is",
    "duration_s": "how long {it} is",
    "explicit": "explicit words",
}
_YOU: Final = {
    "plays": "how much you listen",
    "skip_rate": "how often you skip",
    "mean_seconds": "how long you stay with a track",
    "active_days": "on how many days you listen",
    "artists": "how many artists you play",
    "genres": "how many genres you play",
    "repeat_rate": "how much you repeat",
    "minutes_since_play": "how long ago you last played something",
    "last_skipped": "whether you just skipped",
    "session_plays": "plays in this session",
    "session_skips": "skips in this session",
    "session_artists": "artists in this session",
    "session_minutes": "how long this session is",
    "recent_skip_rate": "how often you skipped just now",
    "likes": "how many tracks you like",
    "follows": "how many artists you follow",
    "age_days": "how long you have been here",
}
_YOU_AND_MUSIC: Final = {
    "plays": "how often you played {it}",
    "skip_rate": "how often you skip {it}",
    "affinity": "how much you listen to {it} lately",
    "minutes_since_play": "how long ago you played {it}",
    "plays_ago": "how many plays ago you played {it}",
    "session_plays": "plays of {it} in this session",
    "session_skips": "skips of {it} in this session",
    "completion": "how long you stay with {it}",
    "tracks": "how many tracks of {it} you know",
    "last_was": "whether you just played {it}",
    "liked": "whether you like {it}",
    "minutes_since_like": "how long ago you liked {it}",
    "added": "whether you put {it} on a playlist",
    "reposted": "whether you reposted {it}",
    "followed": "whether you follow {it}",
}
_WORDS: Final = {
    "track": _MUSIC,
    "artist": _MUSIC,
    "listener": _YOU,
    "listener_track": _YOU_AND_MUSIC,
    "listener_artist": _YOU_AND_MUSIC,
    "listener_genre": _YOU_AND_MUSIC,
    "context": {
        "hour": "the time of day",
        "weekday": "the day of the week",
        "weekend": "whether it is the weekend",
        "surface": "where you are in the app",
    },
    "candidate": {
        "sources": "how many ways led here",
        "agreement": "whether different ways agree",
        "blend": "all ways together",
        "best_rank": "how far up it came in any way",
        "similarity_recent_max": "how like something you played lately",
        "similarity_recent_mean": "how like what you played lately",
        "similarity_last": "how like what you played last",
        **{
            f"source_{source}_{kind}": f"{phrase}: {how}"
            for source, phrase in PHRASES.items()
            for kind, how in (("score", "how strongly"), ("rank", "how far up"), ("share", "beside the best"))
        },
    },
}
"""By entity and by what is behind the entity in the feature's name."""


def features_in_words() -> dict[str, str]:
    """Every feature by name: what it is, in words that need no knowledge of models. One that has none is told by its prose."""
    return {name: _in_words(feature) for name, feature in FEATURES.items()}


def _in_words(feature: Feature) -> str:
    entity, what, window = feature.entity.name, feature.name, ""
    if feature.window is not None:
        whole = feature.window % DAY == 0
        count, unit = (feature.window // DAY, "day") if whole else (feature.window // HOUR, "hour")
        what = what.removesuffix(f"_{count}{unit[0]}")
        window = f", in {count} {unit}{'' if count == 1 else 's'}"
    words = _WORDS[entity].get(what.removeprefix(f"{entity}_"))
    if words is None:
        return " ".join(feature.doc.split()).rstrip(".")
    return words.replace("{it}", f"this {entity.removeprefix('listener_')}") + window
