"""Experiments' files: what is refused, and what the refusal says."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_definition import DIVERSE, experiment

from segue.contracts.errors import InvalidInput
from segue.contracts.experiments import Metrics, Targeting, Variant
from segue.experiments.definition import (
    changed,
    check,
    from_tree,
    parse,
    read_experiment,
    surfaces_of,
)
from segue.experiments.together import Together, check_together, clash
from segue.settings import Settings

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "experiments").glob("*.toml"))
SETTINGS = Settings()
CONTROL = {"control": Variant()}
FILE = """
name = "more-diverse-home"
layer = "home"
starts = 2026-11-01
ends = 2026-11-15
[variants.control]
[variants.treatment]
weight = 2
[variants.treatment.set]
"surfaces.home.selector.diversity" = 0.5
[metrics]
goals = ["listens_per_listener"]
guardrails = { skip_rate = 0.02 }
"""


def test_the_examples_are_sound_alone_and_together() -> None:
    found = [read_experiment(path) for path in EXAMPLES]
    assert [one.name for one in found if one.name.startswith("mmr")] == ["mmr-interleaved", "mmr"]
    for one in found:
        check(one, SETTINGS)
    check_together(found)


def test_toml_and_json_say_the_same() -> None:
    one = parse(FILE, "a.toml")
    assert (one.share, one.unit, one.starts) == (1.0, "listener", date(2026, 11, 1))
    assert from_tree(msgspec.json.decode(msgspec.json.encode(one)), "body") == one
    assert from_tree(tomllib.loads(FILE), "again") == one


@pytest.mark.parametrize(
    ("given", "instead", "said"),
    [
        ("weight", "wieght", "a.toml: unknown key variants.treatment.wieght; did you mean 'weight'?"),
        ("layer", "leyer", "unknown key leyer; did you mean 'layer'?"),
        ("weight = 2", "weight = 0", r"variants\[...\].weight: Expected `float` > 0.0"),
        ('"more-diverse-home"', '"More"', "name: Expected `str` matching"),
        ("0.02", "2", "guardrails.*<= 1.0"),
        ("2026-11-15", "soon", "not valid TOML"),
        ('layer = "home"', "", "missing required field `layer`"),
        ('"more-diverse-home"', '"more\\n"', "name: Expected `str` matching"),
        ('layer = "home"', "layer = " + "[" * 5_000, "not valid TOML"),
        ("weight = 2", "weight = " + "9" * 5_000, "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(given: str, instead: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(FILE.replace(given, instead), "a.toml")


def test_a_file_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text("#" * 1_000_001)
    with pytest.raises(InvalidInput, match="is longer than 1,000,000 characters"):
        read_experiment(path)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"ends": date(2026, 11, 1)}, "ends: 2026-11-01 is not after starts"),
        ({"salt": "layer:home"}, "salt: 'layer:' is what places in layers are drawn by"),
        ({"offset": 0.6}, "share: offset 0.6 and share 0.5 are no slice"),
        ({"variants": CONTROL}, "nothing to hold against control: add a .variants.treatment. that changes something"),
        ({"variants": {}}, "there are 0; name 2 to 20"),
        ({"variants": {"a": Variant(set=DIVERSE)}}, "'control', which the others are held against: add a .variants.control."),
        ({"variants": {"a": Variant(), "b": Variant(set=DIVERSE)}}, "one must be called 'control'"),
        ({"unit": "switchback"}, "slot_minutes: a switchback needs it"),
        ({"slot_minutes": 60}, "slot_minutes"),
        ({"metrics": Metrics()}, "metrics.goals: name the metric"),
        ({"metrics": Metrics(goals=("listen_per_exposure",))}, "did you mean 'listens_per_exposure'"),
        ({"metrics": Metrics(("skip_rate",), {"skip_rate": 0.1})}, "skip_rate: already a goal"),
        ({"unit": "request", "metrics": Metrics(("days_active",))}, "days_active is of listeners, not of a request"),
        ({"surfaces": ("hom",)}, "there is no surface 'hom'"),
        ({"surfaces": ("station",)}, "variants also change home"),
        ({"layer": "holdout"}, "those held out get what everybody gets"),
        ({"layer": "holdout", "variants": CONTROL, "targeting": Targeting(plans=("free",))}, "without targeting"),
        ({"variants": {**CONTROL, "b": Variant()}}, "name the surfaces"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_alone(known: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check(experiment(**known), SETTINGS)


@pytest.mark.parametrize(
    ("was", "is_", "said"),
    [
        ("starts =", 'unit = "user"\nstarts =', "unit: 'user' is none of listener, session, request, artist, switchback"),
        ("weight = 2", 'interleave = "ab"', "interleave: 'ab' is none of team-draft, competing-pairs"),
        ("weight = 2", 'weight = "2"', "weight: Expected `float`, got `str`"),
    ],
)  # fmt: skip
def test_what_a_value_may_be_is_listed(was: str, is_: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(FILE.replace(was, is_), "a.toml")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("surfaces.home.selector.divresity", 0.5, "did you mean surfaces.home.selector.diversity"),
        ("surfaces.home.selector.diversity", 1.5, "variants.b.set: surfaces.home.selector.diversity: must be a number <= 1"),
        ("surfaces.hom.selector.diversity", 0.5, "did you mean surfaces.home"),
        ("surfaces.home.selector.debuts", 1.0, "surfaces.home: must be a recipe with the source `debuts`"),
        ("serving.max_k", 5, "is no setting of a surface"),
        ("surfaces.home.sources.trendig.limit", 5, "no source is called 'trendig'; did you mean 'trending'"),
    ],
)  # fmt: skip
def test_a_variant_changes_only_what_there_is(key: str, value: float, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check(experiment(variants={**CONTROL, "b": Variant(set={key: value})}), SETTINGS)


def test_a_variant_may_change_any_part_of_a_recipe() -> None:
    keys = {
        "surfaces.home.selector": {"diversity": 0.4, "explore": 0.2},
        "surfaces.home.sources.fresh.limit": 200,
        "surfaces.home.scorer.weights.like": 2.0,
        "surfaces.station.scorer.ranker": "home",
    }
    one = experiment(variants={**CONTROL, "b": Variant(set=keys)})
    check(one, SETTINGS)
    home = changed(SETTINGS, one, "b", one.variants["b"]).surfaces["home"]
    assert (home.selector.diversity, home.selector.explore, home.selector.artist_spacing) == (0.4, 0.2, 2)
    assert (home.sources["fresh"].limit, home.scorer.weights["like"]) == (200, 2.0)
    assert surfaces_of(one, SETTINGS) == ("home", "station")


def test_another_bundle_may_differ_everywhere() -> None:
    one = experiment(variants={**CONTROL, "b": Variant(bundle="b1")})
    assert surfaces_of(one, SETTINGS) == tuple(SETTINGS.surfaces)


FRESH = {**CONTROL, "b": Variant(set={"surfaces.home.sources.fresh.limit": 9})}
EXPLORE = {**CONTROL, "b": Variant(set={"surfaces.home.selector": {"explore": 0.1}})}
SELECTOR = {**CONTROL, "b": Variant(set={"surfaces.home.selector": {"explore": 0.1, "diversity": 0.2}})}
BUNDLE = {**CONTROL, "b": Variant(bundle="b1")}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "experiments one and two: their slices of layer home overlap: 0 to 0.5 and 0 to 0.5"),
        ({"offset": 0.5}, None),
        ({"offset": 0.499_999}, "overlap"),
        ({"starts": date(2026, 11, 15), "ends": date(2026, 11, 20)}, None),
        ({"starts": date(2026, 11, 14), "ends": date(2026, 11, 20)}, "overlap"),
        ({"offset": 0.5, "unit": "request"}, "units must be of one kind, not listener and request"),
        ({"layer": "other"}, "both change surfaces.home.selector.diversity, and their layers share units"),
        ({"layer": "other", "variants": SELECTOR}, "both change surfaces.home.selector.diversity"),
        ({"layer": "other", "variants": EXPLORE}, None),
        ({"layer": "other", "variants": EXPLORE, "salt": "one"}, "both draw variants by the salt 'one'"),
        ({"layer": "other", "variants": FRESH}, None),
        ({"layer": "other", "variants": BUNDLE}, None),
        ({"layer": "holdout", "variants": CONTROL}, None),
    ],
)
def test_what_two_may_not_share(known: dict[str, Any], said: str | None) -> None:
    pair = [experiment("one"), experiment("two", **known)]
    if said is None:
        check_together(pair)
        return
    with pytest.raises(InvalidInput, match=said):
        check_together(pair)


KEYS = [
    f"surfaces.{surface}.{key}"
    for surface in ("home", "station")
    for key in ("selector.diversity", "selector.explore", "sources.fresh.limit", "no_repeat_hours")
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "holdout"]),
            st.sampled_from(["", "salt"]),
            st.sampled_from([0.0, 0.5]),
            st.sets(st.sampled_from(KEYS), max_size=2),
            st.sampled_from([None, "b1"]),
            st.sampled_from([None, "team-draft"]),
            st.integers(1, 20),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_looking_only_where_two_may_clash_misses_no_clash(drawn: list[Any]) -> None:
    """Held against every pair, which is what looking it up spares."""
    made = [
        experiment(
            f"e{n}",
            layer=layer,
            salt=salt,
            offset=offset,
            starts=date(2026, 11, day),
            ends=date(2026, 11, day + 5),
            variants={"treatment": Variant(set=dict.fromkeys(keys, 0), bundle=bundle, interleave=share)},
        )
        for n, (layer, salt, offset, keys, bundle, share, day) in enumerate(drawn)
    ]
    kept: list[Any] = []
    together = Together()
    for one in made:
        clashes = [other for other in kept if _refused([other, one])]
        try:
            together.add(one)
        except InvalidInput:
            assert clashes
        else:
            assert not clashes
            kept.append(one)


def _refused(pair: list[Any]) -> bool:
    one, other = pair
    return one.starts < other.ends and other.starts < one.ends and clash(one, other) is not None


def test_two_bundles_at_once_are_refused() -> None:
    pair = [experiment("one", variants=BUNDLE), experiment("two", layer="other", variants=BUNDLE)]
    with pytest.raises(InvalidInput, match="both choose a bundle"):
        check_together(pair)


def shared(**known: Any) -> Any:
    given = {"interleave": "team-draft", "set": DIVERSE} | known.pop("variant", {})
    return experiment(**({"variants": {"treatment": Variant(**given)}} | known))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"variants": CONTROL | {"treatment": Variant(set=DIVERSE, interleave="team-draft")}}, "leave out"),
        (
            {"variants": {"a": Variant(set=DIVERSE, interleave="team-draft"), "b": Variant(set=DIVERSE)}},
            "variants.b",
        ),
        ({"variant": {"set": {}}}, "change something"),
        ({"unit": "session"}, 'write unit = "listener"'),
        ({"metrics": Metrics(("listens_per_exposure",), {"skip_rate": 0.02})}, "guardrails need an A/B test"),
        (
            {"metrics": Metrics(("days_active",))},
            "days_active is of no slot; slots are credited with listens_per",
        ),
        ({"metrics": Metrics()}, "name the metric that decides"),
    ],
)
def test_an_interleaving_has_two_sides_and_slots_to_credit(known: dict[str, Any], said: str) -> None:
    check(shared(), SETTINGS)
    with pytest.raises(InvalidInput, match=said):
        check(shared(**known), SETTINGS)


def test_a_page_is_shared_by_one_interleaving_only() -> None:
    next_up = {"surfaces.next-up.selector.explore": 0.1}
    other = {"name": "other", "layer": "other"}
    check_together([shared(), shared(variant={"set": next_up}, **other)])
    check_together([shared(), shared(offset=0.5, name="beside")])
    fresh = {"surfaces.home.sources.fresh.limit": 9}
    for clashing in (
        shared(variant={"set": fresh}, **other),
        shared(variant={"set": {}, "bundle": "b"}, **other),
    ):
        with pytest.raises(InvalidInput, match="both interleave pages of one surface"):
            check_together([shared(), clashing])
