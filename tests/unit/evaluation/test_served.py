"""What would be served, judged: a listener's state at the split with a session laid on top."""

from __future__ import annotations

import numpy as np
import pytest
from made_split import TRACKS, made_catalogue

from segue.evaluation.served import with_session
from segue.listener.state import PLAY, ListenerState

UNKNOWN = -1, 10**6
"""Tracks outside the split's catalogue, and outside the bundle's."""


@pytest.mark.parametrize("artists", [True, False])
def test_a_session_laid_on_top_knows_its_artists_as_listener_state_does(artists: bool) -> None:
    catalogue = made_catalogue(artists=artists)
    earlier = np.zeros(1, PLAY)
    tracks = np.array([7 * 3, UNKNOWN[0], 7 * (TRACKS - 1), UNKNOWN[1]])
    state = with_session(ListenerState(1, plays=earlier), tracks, np.array([50, 60, 70, 80]), catalogue)
    assert state.plays[:1] == earlier
    session = state.plays[1:]
    assert session["track_id"].tolist() == [7 * 3, 7 * (TRACKS - 1), UNKNOWN[1]]
    assert session["ts"].tolist() == [50, 70, 80]
    assert session["artist_id"].tolist() == ([3, (TRACKS - 1) % 9, -1] if artists else [-1, -1, -1])
    assert session["session_start"].tolist() == [50, 50, 50]
    assert session["listened"].all()
