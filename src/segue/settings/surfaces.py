"""A surface is a recipe: which sources, how they are scored, how a page is chosen. All of it is settings."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

UNIFORM: Final = "uniform"
THOMPSON: Final = "thompson"


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """One source of candidates."""

    limit: Annotated[
        int, Meta(ge=0, le=10_000, description="candidates asked of this source; 0 turns it off")
    ]
    deadline_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="above 0: runs beside the request, which waits at most so long; for what waits for something outside",
        ),
    ] = 0


class Scorer(Struct, frozen=True, forbid_unknown_fields=True):
    """How candidates are scored."""

    ranker: Annotated[
        str,
        Meta(
            description="which ranker of the bundle: 'home', 'next-up', or '' for the blend of source scores"
        ),
    ] = ""
    weights: Annotated[
        dict[str, float], Meta(description="weight of each of the ranker's objectives in the final score")
    ] = {}
    blend: Annotated[
        dict[str, float],
        Meta(description="weight of each source's standardised score where no ranker is used"),
    ] = {}


class Selector(Struct, frozen=True, forbid_unknown_fields=True):
    """How a page is chosen from scored candidates."""

    diversity: Annotated[
        float,
        Meta(ge=0, le=1, description="strength of maximal marginal relevance; 0 keeps the order of scores"),
    ] = 0.0
    artist_spacing: Annotated[
        int, Meta(ge=0, le=50, description="slots between two tracks of one artist, where candidates allow")
    ] = 0
    explore: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="share of slots drawn at random from the exploration pool, propensity logged",
        ),
    ] = 0.0
    explore_pool: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="candidates in the exploration pool behind the page's, besides those never played",
        ),
    ] = 50
    bandit: Annotated[
        Literal["uniform", "contextual", "thompson"],
        Meta(
            description="how an exploration draw weighs its pool: all alike; by how far a score is from the best (inverse-gap "
            "weighting); or by the chance of being the best, a score being surer the more its track was listened to"
        ),
    ] = "uniform"
    debuts: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="largest share of the exploration draws that goes to new uploads of the new-artist programme, one of a "
            "page at most; needs the source `debuts`",
        ),
    ] = 0.0


class Surface(Struct, frozen=True, forbid_unknown_fields=True):
    """The recipe of one surface."""

    sources: Annotated[dict[str, Source], Meta(description="sources by name")]
    scorer: Annotated[Scorer, Meta(description="scoring")] = Scorer()
    selector: Annotated[Selector, Meta(description="page selection")] = Selector()
    no_repeat_hours: Annotated[
        float, Meta(ge=0, le=24 * 365, description="tracks the listener played within this time are left out")
    ] = 0.0
    skip_session_tracks: Annotated[
        bool, Meta(description="leave out what was already played in the current session")
    ] = False
    deadline_ms: Annotated[
        int,
        Meta(
            ge=1,
            le=60_000,
            description="once a request is this old, sources not yet asked are left out, and the trace says so",
        ),
    ] = 200
    max_candidates: Annotated[
        int, Meta(ge=1, le=10_000, description="candidates kept after the merge, best of each source first")
    ] = 500

    def __post_init__(self) -> None:
        if self.selector.debuts > 0 and "debuts" not in self.sources:
            raise ValueError(
                "Expected a recipe with the source `debuts` (sources.debuts.limit=30), from which selector.debuts draws"
            )


def default_surfaces() -> dict[str, Surface]:
    """The surfaces as shipped."""
    return {
        "home": Surface(
            sources={
                "fold_in": Source(300),
                "graph": Source(300),
                "own_plays": Source(100),
                "co_listened": Source(100),
                "followed": Source(50),
                "trending": Source(50),
                "fresh": Source(30),
            },
            scorer=Scorer(
                ranker="home",
                weights={"play": 1.0, "like": 0.5, "skip": -0.3},
                blend={
                    "graph": 1.0,
                    "fold_in": 1.0,
                    "own_plays": 0.7,
                    "co_listened": 0.3,
                    "trending": 0.3,
                    "fresh": 0.1,
                },
            ),
            selector=Selector(diversity=0.1, artist_spacing=2, explore=0.05),
            # On 30Music 150 and 1,000 find as much; each hundred costs a tenth of a request.
            max_candidates=200,
        ),
        "next-up": Surface(
            sources={
                "rules": Source(100),
                "session_knn": Source(100),
                "own_next": Source(50),
                "fold_in": Source(100),
                "co_listened": Source(100),
                "graph": Source(60),
                "own_plays": Source(40),
                "trending": Source(30),
            },
            scorer=Scorer(
                ranker="next-up",
                weights={"play": 1.0, "like": 0.2, "skip": -0.3},
                blend={"rules": 1.0, "session_knn": 1.0, "own_next": 0.5, "fold_in": 0.3, "co_listened": 0.3},
            ),
            max_candidates=150,
        ),
        "station": Surface(
            sources={
                "similar": Source(300),
                "co_listened": Source(200),
                "rules": Source(100),
                "same_artist": Source(50),
                "fold_in": Source(50),
                "trending": Source(30),
            },
            scorer=Scorer(
                blend={"similar": 1.0, "co_listened": 1.0, "rules": 0.5, "same_artist": 0.3, "fold_in": 0.3}
            ),
            selector=Selector(diversity=0.2, artist_spacing=2, explore=0.05),
            no_repeat_hours=2.0,
        ),
        "related": Surface(
            sources={
                "co_listened": Source(200),
                "similar": Source(200),
                "same_artist": Source(50),
                "trending": Source(30),
            },
            scorer=Scorer(blend={"co_listened": 1.0, "similar": 1.0, "same_artist": 0.2}),
            selector=Selector(artist_spacing=1),
        ),
    }
