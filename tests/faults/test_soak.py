"""The soak itself, for some seconds; and that it would notice what it is there to notice."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from soak import FLAT_MB, Found, Sample, count, growth, in_state, soak

from segue.listener.state import HIDE
from segue.load.report import Report, report_of
from segue.load.tally import Tally
from segue.wiring.home import Home

needs_proc = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
LANDINGS = [2.0, 3.0]
PLAY = {"type": "play", "ts": 10, "user_id": 1, "track_id": 7}
HIDDEN = {"type": "hide", "ts": 10, "user_id": 1, "track_id": 7}


def samples(slope: float, *, jump: float = 0.0) -> list[Sample]:
    """Ten minutes of a worker that grows so many MB a minute, with the noise of an allocator, after warming up."""
    noise = np.random.default_rng(1).normal(0, 1.5, 300)
    return [
        Sample(
            n / 30,
            300.0,
            200 + min(n, 90) * 0.3 + slope * n / 30 + float(noise[n]),
            40 + int(jump * (n > 250)),
            12,
        )
        for n in range(300)
    ]


def report() -> Report:
    return report_of(Tally(seconds=1.0), 1)


def test_a_slow_leak_is_noticed_and_a_warm_up_is_none() -> None:
    assert growth(samples(0.0)) == pytest.approx(0, abs=0.2)
    assert Found(report(), {1: samples(0.0)}, LANDINGS, 1).faults() == []
    (fault,) = Found(report(), {1: samples(FLAT_MB * 1.5)}, LANDINGS, 1).faults()
    assert "grows by 1." in fault
    (fault,) = Found(report(), {1: samples(0.0, jump=30)}, LANDINGS, 1).faults()
    assert "70 files at the end, 40 before" in fault


def test_what_is_lost_or_failed_is_a_fault() -> None:
    flat = {1: samples(0.0)}
    assert Found(report(), flat, LANDINGS, 0).faults() == ["no event was acknowledged"]
    assert Found(report(), flat, [1.0], 9).faults() == ["the log did not land while events came in"]
    assert Found(report(), flat, LANDINGS, 9, missing=Counter(log=2)).faults() == ["2 events lost: log"]
    assert Found(report(), flat, LANDINGS, 9, doubled=Counter(events=1)).faults() == [
        "1 events doubled: events"
    ]
    failed = msgspec.structs.replace(
        report(), total=msgspec.structs.replace(report().total, errors={"status 500": 3})
    )
    assert Found(failed, flat, LANDINGS, 9).faults() == ["requests failed: {'status 500': 3}"]


def test_a_listeners_state_knows_a_play_once_and_a_mark_as_of_its_time() -> None:
    assert in_state(PLAY, Counter({(10, 7): 1}), {}, 0)
    assert not in_state(PLAY, Counter({(10, 7): 2}), {}, 0)
    assert not in_state(PLAY, Counter(), {}, 0)
    assert in_state(PLAY, Counter(), {}, 11), "older than what a full state keeps"
    assert in_state(HIDDEN, Counter(), {(HIDE, 7): 12}, 0)
    assert not in_state(HIDDEN, Counter(), {(HIDE, 7): 9}, 0)
    assert not in_state(HIDDEN, Counter(), {}, 0)


@needs_proc
def test_a_short_soak_loses_nothing_and_a_made_up_loss_is_found(service: Home, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(service.root, home)
    found = soak(home, minutes=0.25)
    assert found.acknowledged > 50
    assert len(found.landings) >= 2
    assert (found.missing.total(), found.doubled.total()) == (0, 0), found.table()
    assert [len(seen) for seen in found.samples.values()] == pytest.approx([8, 8], abs=5)
    never = PLAY | {"event_id": "01a205ec-6ed4-7a4e-a953-32b2bf98f07e"}
    count(home, [never], found)
    assert found.missing == {"log": 1, "raw_events": 1, "events": 1, "state": 1}
