"""Finding ids against the obvious way of doing it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.bundle.room import find

ID = st.one_of(st.integers(0, 40), st.integers(0, 2**63 - 1))


@given(st.sets(ID, max_size=60), st.lists(ID, max_size=60), st.randoms())
def test_finds_every_id_that_is_there_and_no_other(
    there: set[int], others: list[int], random: object
) -> None:
    ids = sorted(there)
    wanted = [*ids, *others, -1, *ids]
    random.shuffle(wanted)  # type: ignore[attr-defined]
    place = {number: at for at, number in enumerate(ids)}
    found = find(np.array(ids, np.int64), np.array(wanted, np.int64))
    assert found.dtype == np.int32
    assert found.tolist() == [place.get(number, -1) for number in wanted]
    assert find(np.array(ids, np.int64), np.array(wanted, np.int64)[::2]).tolist() == found[::2].tolist()
