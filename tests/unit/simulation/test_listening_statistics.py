"""Listening statistics on histories small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segue.contracts.errors import InvalidData
from segue.simulation.config import SimulationConfig
from segue.simulation.statistics import (
    Plays,
    cut_like_30music,
    main,
    plays_of_events,
    read_30music,
    statistics,
)


def history() -> Plays:
    """Listener 1: a b a | b ; listener 2: a b."""
    return Plays(
        user=np.array([1, 1, 1, 1, 2, 2]),
        track=np.array([10, 20, 10, 20, 10, 20]),
        session=np.array([1, 1, 1, 2, 3, 3]),
        ts=np.array([0, 100, 300, 7_500, 50, 250]),
    )


def test_statistics_by_hand() -> None:
    got = statistics(history())
    assert (got.plays, got.listeners, got.tracks, got.sessions) == (6, 2, 2, 3)
    assert got.plays_per_listener == 3
    assert got.session_plays[2] == 2
    assert got.gap_seconds[2] == 200  # of 100, 200 and 200
    assert got.away_hours[2] == 2
    assert got.repeats == pytest.approx(2 / 6)
    assert got.repeats_in_session == pytest.approx(1 / 6)
    assert got.rank_share[0] == got.rank_share[1] == 1
    assert got.gini == pytest.approx(0)
    assert got.pairs_again == pytest.approx(2 / 3)  # a b twice, b a once
    assert got.top_10_percent == pytest.approx(0.5)


def test_gini_of_a_monopoly_nears_one() -> None:
    n, often = 50, 10_000
    track = np.concatenate([np.zeros(often, np.int64), np.arange(1, n)])
    plays = Plays(np.ones(len(track), np.int64), track, np.ones(len(track), np.int64), np.arange(len(track)))
    count = np.sort(np.bincount(track))
    textbook = np.abs(count[:, None] - count[None, :]).sum() / (2 * n * n * count.mean())
    assert statistics(plays).gini == pytest.approx(textbook)


def test_no_plays_are_an_error() -> None:
    nothing = np.empty(0, np.int64)
    with pytest.raises(InvalidData, match="no plays"):
        statistics(Plays(nothing, nothing, nothing, nothing))


def test_sessions_are_cut_at_silence_after_the_end() -> None:
    minute = 60_000_000
    events = pa.table(
        {
            "type": ["play", "play", "like", "play", "play"],
            "user_id": [1, 1, 1, 1, 2],
            "track_id": [5, 6, 6, 7, 8],
            "ts": [0, 33 * minute, 33 * minute, 66 * minute, 66 * minute],
            "ms_played": pa.array([4 * 60_000, 60_000, None, 0, 0], pa.int32()),
        }
    )
    got = plays_of_events(events)
    assert got.track.tolist() == [5, 6, 7, 8]
    assert got.session.tolist() == [1, 1, 2, 3]


def test_the_cut_keeps_popular_tracks_long_sessions_and_few_of_them() -> None:
    rng = np.random.default_rng(0)
    n = 30_000
    session = np.sort(rng.integers(0, 3_000, n))
    plays = Plays(session // 30, rng.zipf(1.5, n) % 500, session, np.arange(n))
    got = cut_like_30music(plays, tracks=50, sessions_per_listener=2.0, seed=1)
    assert len(np.unique(got.track)) <= 50
    count = np.bincount(plays.track)
    assert count[np.unique(got.track)].min() >= np.sort(count)[::-1][:50].min()
    sizes = np.unique(got.session, return_counts=True)[1]
    assert sizes.min() >= 3
    per_listener = len(sizes) / len(np.unique(got.user))
    assert 1.5 < per_listener < 2.5


def test_30music_is_read_in_order_and_wrong_files_are_named(tmp_path: Path) -> None:
    good = tmp_path / "sessions.parquet"
    pq.write_table(
        pa.table(
            {"session_id": [2, 1], "user_id": [7, 3], "song_id": [1, 2], "ts": [10, 20], "playtime": [3, 4]}
        ),
        good,
    )
    assert read_30music(good).user.tolist() == [3, 7]
    bad = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), bad)
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(good.read_bytes()[:50])
    for path in (bad, torn, tmp_path / "none.parquet"):
        with pytest.raises(InvalidData, match=path.name):
            read_30music(path)


def test_the_command_compares_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, figure = tmp_path / "sessions.parquet", tmp_path / "figure.svg"
    columns = ("session", "user", "track", "ts")
    plays = history()
    pq.write_table(
        pa.table(
            {
                name: getattr(plays, c)
                for name, c in zip(("session_id", "user_id", "song_id", "ts"), columns, strict=True)
            }
        ),
        path,
    )
    small = SimulationConfig(tracks=600, artists=80, listeners=200, days=6)
    assert main([str(path), "--figure", str(figure)], small) == 0
    table = capsys.readouterr().out
    assert "| plays | 6 |" in table
    assert figure.read_text().startswith("<svg")
