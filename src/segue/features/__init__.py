"""One definition per feature, run by every engine offline and by NumPy online.

`expression` is the language of definitions, `relations` what they may read, `definition` the registry; the definitions
stand in `track`, `artist`, `listener`, `affinity`, `context` and `candidates`. `offline` makes daily snapshots and the
point-in-time training join, `online` the matrix of a request, `page` the reference page.
"""

from segue.features import affinity, artist, candidates, context, listener, track
from segue.features.definition import FEATURES, Feature, candidate, feature, fingerprint, select

__all__ = [
    "FEATURES",
    "Feature",
    "affinity",
    "artist",
    "candidate",
    "candidates",
    "context",
    "feature",
    "fingerprint",
    "listener",
    "select",
    "track",
]
