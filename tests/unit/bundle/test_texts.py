"""Texts as bytes: any text comes back, alone and among others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from segue.bundle.catalogue import Texts

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.just("\0") | st.none()


@given(st.lists(words, min_size=1, max_size=20), st.data())
def test_texts_are_taken_as_they_were_given(given_texts: list[str | None], data: st.DataObject) -> None:
    texts = Texts.of(pa.array(given_texts, pa.string()))
    index = np.array(data.draw(st.lists(st.integers(0, len(given_texts) - 1), max_size=30)), np.int32)
    assert texts.take(index) == [given_texts[at] or None for at in index]
    assert [texts[int(at)] for at in index] == texts.take(index)


def test_bytes_that_are_no_text_spoil_no_other() -> None:
    texts = Texts(np.array([0, 2, 4, 6]), np.frombuffer(b"\xc3\xa9\xc3\xff\xe2\x82", np.uint8))
    assert texts.take(np.array([2, 0, 1, 0], np.int32)) == ["�", "é", "��", "é"]
