"""Assignment: the documented vectors, the promises that analysis rests on, and one unit against a column of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_definition import experiment

from segue.contracts.experiments import Variant
from segue.experiments.assignment import PLACES, Split, assign, bucket, buckets, place, slot

VECTORS = json.loads((Path(__file__).parents[3] / "docs/concepts/assignment-vectors.json").read_text())
UNITS = np.arange(40_000, dtype=np.int64)


@pytest.mark.parametrize("case", VECTORS["buckets"], ids=lambda case: f"{case['salt']}:{case['unit']}")
def test_buckets_are_those_of_the_documented_vectors(case: dict[str, Any]) -> None:
    assert hashlib.sha256(f"{case['salt']}:{case['unit']}".encode()).hexdigest()[:16] == case["first_8_bytes"]
    assert bucket(case["salt"], case["unit"]) == case["bucket"]
    assert 0 <= case["bucket"] < 1


@pytest.mark.parametrize("case", VECTORS["variants"], ids=lambda case: case["experiment"]["name"])
def test_variants_are_those_of_the_documented_vectors(case: dict[str, Any]) -> None:
    said = dict(case["experiment"])
    weights = said.pop("weights")
    one = experiment(**said, variants={name: Variant(weight=weight) for name, weight in weights.items()})
    for unit in case["units"]:
        assert place(one.layer, unit["unit"]) == unit["place"]
        assert assign(one, unit["unit"]) == unit["variant"]
    assert {unit["variant"] for unit in case["units"]} == {None, *weights}


@given(st.lists(st.integers(0, 2**63 - 1), max_size=50), st.text(max_size=20))
def test_a_column_says_the_same_as_one_by_one(units: list[int], salt: str) -> None:
    column = np.array(units, np.int64)
    assert buckets(salt, column).tolist() == [bucket(salt, str(unit)) for unit in units]
    split = Split.of(experiment(salt=salt))
    names = [None if at < 0 else split.names[at] for at in split.column(column).tolist()]
    assert names == [split.variant(str(unit)) for unit in units]


def test_shares_and_weights_are_kept() -> None:
    variants = {name: Variant(weight=weight) for name, weight in (("control", 6), ("a", 3), ("b", 1))}
    split = Split.of(experiment(share=0.25, variants=variants))
    counts = dict(zip((None, *split.names), np.bincount(split.column(UNITS) + 1).tolist(), strict=True))
    for name, share in ((None, 0.75), ("control", 0.15), ("a", 0.075), ("b", 0.025)):
        n = len(UNITS)
        assert abs(counts[name] - share * n) < 4 * (n * share * (1 - share)) ** 0.5, name


def test_a_growing_share_keeps_who_was_in_and_with_what() -> None:
    before, after = (Split.of(experiment(share=share)).column(UNITS) for share in (0.1, 0.35))
    assert (after[before >= 0] == before[before >= 0]).all()
    assert (after >= 0).sum() > 3 * (before >= 0).sum()


def test_neither_the_order_of_variants_nor_a_common_factor_of_their_weights_matters() -> None:
    one = experiment(variants={"control": Variant(weight=2), "treatment": Variant(weight=6)})
    other = experiment(variants={"treatment": Variant(weight=3), "control": Variant(weight=1)})
    assert (Split.of(one).column(UNITS) == Split.of(other).column(UNITS)).all()


def test_slices_of_a_layer_share_nobody_and_leave_out_nobody() -> None:
    thirds = [Split.of(experiment(f"e{n}", offset=n / 3, share=1 / 3)) for n in range(3)]
    covered = [place for third in thirds for place in third.places]
    assert covered == list(range(PLACES))


def test_layers_and_salts_are_independent() -> None:
    one = Split.of(experiment("one", share=1.0)).column(UNITS)
    for other in (experiment("two", share=1.0), experiment("one", share=1.0, salt="again")):
        both = np.histogram2d(one, Split.of(other).column(UNITS), bins=2)[0]
        assert abs(both - len(UNITS) / 4).max() < 4 * (len(UNITS) * 3 / 16) ** 0.5
    inside = [Split.of(experiment(share=0.5, layer=layer)).column(UNITS) >= 0 for layer in ("home", "other")]
    assert abs((inside[0] & inside[1]).sum() - len(UNITS) / 4) < 4 * (len(UNITS) * 3 / 16) ** 0.5


def test_a_slot_is_the_same_for_everybody_within_it() -> None:
    hour = 3_600_000_000
    assert slot(10 * hour, 60) == slot(11 * hour - 1, 60) == slot(11 * hour, 60) - 1


def test_text_and_number_are_one_unit() -> None:
    one = msgspec.structs.replace(experiment(), share=1.0)
    assert assign(one, 17) == assign(one, "17")
