"""Listener state is brought up to date from the tables while servers go on changing it."""

from __future__ import annotations

import shutil
import threading
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from segue.flows.publish import fill_state
from segue.listener.fold import Changes
from segue.listener.state import HIDE, MARK, ListenerState, anonymous
from segue.wiring.home import Home

NOW = 1_795_305_600_000_000
TODAY = date(2026, 11, 21)


@pytest.fixture
def home(service: Home, tmp_path: Path) -> Home:
    """A copy of the published service."""
    shutil.copytree(service.root, tmp_path / "home")
    return Home(tmp_path / "home", service.settings)


def hidden(state: ListenerState) -> set[int]:
    marks = state.marks
    return set(marks["target_id"][(marks["kind"] == HIDE) & marks["on"]].tolist())


def hide(home: Home, user: int, track: int) -> None:
    """What a server does with a `hide`."""
    mark = np.zeros(1, MARK)
    mark["ts"], mark["target_id"], mark["kind"], mark["on"] = NOW, track, HIDE, True
    nothing = np.empty(0, np.int64)
    changes = Changes(nothing, anonymous(user).plays[:0], np.array([user]), mark)
    home.state.add(changes)


def state_of(home: Home, user: int) -> ListenerState:
    found = home.state.read(user)
    assert found is not None
    return found


def test_what_came_by_http_stays(home: Home) -> None:
    users = sorted(home.state.sample(1_000))
    hide(home, users[3], 42)
    before = {user: state_of(home, user) for user in users}
    assert fill_state(home.engine, home.settings, home.state, TODAY) == len(users)
    for user in users:
        after = state_of(home, user)
        assert after.plays.tolist() == before[user].plays.tolist()
        assert sorted(after.marks.tolist()) == sorted(before[user].marks.tolist())
    assert hidden(state_of(home, users[3])) >= {42}


def test_what_comes_by_http_meanwhile_stays(home: Home) -> None:
    users = sorted(home.state.sample(1_000))
    done = threading.Event()
    told: dict[int, int] = {}

    def listeners() -> None:
        while not done.is_set():
            for user in users:
                track = 1_000_000 + len(told) % 300
                hide(home, user, track)
                told[user] = track

    other = threading.Thread(target=listeners)
    other.start()
    try:
        for _ in range(3):
            fill_state(home.engine, home.settings, home.state, TODAY)
    finally:
        done.set()
        other.join()
    lost = [u for u, track in told.items() if track not in hidden(state_of(home, u))]
    assert lost == []
