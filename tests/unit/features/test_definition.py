"""What a definition may say, and what it is told when it asks for more."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pytest

from segue.contracts.errors import InvalidInput, NotFound
from segue.features import FEATURES, definition, feature, fingerprint, select
from segue.features.expression import Facts, Rows, Value, evaluate, leaves
from segue.features.relations import ENTITIES, Artist, Candidate, Listener, ListenerGenre, Track, days, hours
from segue.settings.surfaces import default_surfaces


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Definitions of a test stay in the test."""
    monkeypatch.setattr(definition, "FEATURES", dict(FEATURES))


def test_a_feature_is_named_by_entity_function_and_window() -> None:
    @feature(entity=Listener, window=(hours(3), days(2)), default=0.0, owner="me")
    def loud(plays: Rows) -> Value:
        """Loud
        plays."""
        return plays.count()

    made = [definition.FEATURES[n] for n in ("listener_loud_3h", "listener_loud_2d")]
    assert [f.window for f in made] == [hours(3), days(2)]
    assert [leaf.within for f in made for leaf in leaves(f.value)] == [hours(3), days(2)]  # type: ignore[union-attr, arg-type]
    assert (made[0].doc, made[0].owner, made[0].relation) == ("Loud\nplays.", "me", "plays")


def test_a_shorter_window_inside_a_feature_stays() -> None:
    value = FEATURES["track_trend_28d"].value
    assert value is not None
    assert [leaf.within for leaf in leaves(value)] == [days(7), days(28)]  # type: ignore[union-attr]


def unknown_relation(songs: Rows) -> Value:
    """x"""
    return songs.count()


def unknown_column(plays: Rows) -> Value:
    """x"""
    return plays.loudness.sum()


def two_relations(plays: Rows, likes: Rows) -> Value:
    """x"""
    return likes.count() / plays.count()


def conditional(plays: Rows) -> Value:
    """x"""
    return plays.count(where=plays.listened)


def decayed(plays: Rows) -> Value:
    """x"""
    return plays.count(half_life=days(7))


def smallest(plays: Rows) -> Value:
    """x"""
    return plays.ms_played.min()


def distinct_of_sum(plays: Rows) -> Value:
    """x"""
    return (plays.track_id + plays.artist_id).nunique()


def undocumented(plays: Rows) -> Value:
    return plays.count()


def of_another_entity(artist: Facts) -> Value:
    """x"""
    return artist.age_days


def reads_nothing() -> Value:
    """x"""
    raise AssertionError("is not called")


def fine(plays: Rows) -> Value:
    """x"""
    return plays.count()


@pytest.mark.parametrize(
    ("entity", "window", "function", "says"),
    [
        (Track, days(7), unknown_relation, "track has no relation songs; it has plays, impressions"),
        (Listener, days(7), unknown_column, "plays has no column 'loudness'; it has listened"),
        (Listener, days(7), two_relations, "reads one relation"),
        (Track, days(7), conditional, "daily counts"),
        (Artist, days(7), decayed, "daily counts"),
        (Track, days(7), smallest, "daily counts"),
        (Track, hours(7), fine, "whole days"),
        (Listener, None, fine, "needs a window of at most 90 days"),
        (Listener, days(91), fine, "at most 90 days"),
        (Listener, days(7), distinct_of_sum, "nunique takes a named column"),
        (Listener, days(7), undocumented, "no docstring"),
        (ListenerGenre, None, of_another_entity, "no relation artist"),
        (Track, days(7), reads_nothing, "none is asked for"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    entity: object, window: int | None, function: object, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        feature(entity=entity, window=window, default=0.0, owner="me")(function)  # type: ignore[arg-type]


def test_a_name_is_defined_once() -> None:
    define = feature(entity=Listener, window=days(3), default=0.0, owner="me")
    define(fine)
    with pytest.raises(InvalidInput, match="listener_fine_3d is defined twice"):
        define(fine)


def test_columns_of_two_relations_cannot_meet_row_by_row() -> None:
    with pytest.raises(InvalidInput, match="cannot meet row by row"):
        Rows("plays", {"a": ""}).a + Rows("likes", {"b": ""}).b


def test_selecting_keeps_the_order_and_names_what_is_unknown() -> None:
    names = ["track_plays_7d", "context_hour"]
    assert [f.name for f in select(names)] == names
    with pytest.raises(
        NotFound, match="no feature is named gone; the model was trained with other definitions"
    ):
        select([*names, "gone"])


def counted(span: int) -> Callable[[Rows], Value]:
    def made(plays: Rows) -> Value:
        return plays.count(within=span)

    return made


def test_the_fingerprint_follows_values_not_prose() -> None:
    before = {}
    for prose, window, default in [("a", 3, 0.0), ("b", 3, 0.0), ("a", 4, 0.0), ("a", 3, nan)]:
        definition.FEATURES.clear()
        made = counted(days(window))
        made.__doc__ = prose
        feature(entity=Listener, window=days(5), default=default, owner="me")(made)
        before[prose, window, str(default)] = fingerprint(["listener_made_5d"])
    assert before["a", 3, "0.0"] == before["b", 3, "0.0"]
    assert len(set(before.values())) == 3


def test_there_are_sixty_and_every_entity_has_some() -> None:
    assert len(FEATURES) >= 60
    assert {f.entity for f in FEATURES.values()} == set(ENTITIES)


def test_every_source_of_the_shipped_surfaces_has_its_candidate_features() -> None:
    for surface in default_surfaces().values():
        for source in surface.sources:
            for what in ("score", "rank"):
                assert FEATURES[f"source_{source}_{what}"].entity is Candidate


def test_evaluate_walks_the_tree() -> None:
    rows = Rows("plays", {"x": ""})
    value = 1.0 - rows.x.sum() / (rows.count() + 2.0)
    operations = {
        "sub": lambda a, b: f"({a} - {b})",
        "div": lambda a, b: f"({a} / {b})",
        "add": lambda a, b: f"({a} + {b})",
    }
    shown = evaluate(value, lambda leaf: getattr(leaf, "op", "?"), str, operations)
    assert shown == "(1.0 - (sum / (count + 2.0)))"
