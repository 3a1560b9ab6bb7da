"""The command line, as people and scripts use it: what it prints, what it leaves behind, how it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import Done, program, rows, segue

from segue.contracts.ids import named_id
from segue.contracts.tables import LISTENERS, LISTENS, TRACKS
from segue.wiring.home import Home

STRANGER = "987654321"
NEWCOMER = 555_000_111
DAY_S = 86_400
SIMULATED = ("--tracks", "300", "--artists", "50", "--listeners", "120", "--days", "12", "--seed", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's homes lie."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, Done]:
    """A tiny service, from nothing to a published bundle, and what each command said."""
    home = folder / "home"
    done = {"simulate": program(home, "simulate", *SIMULATED, "--json")}
    two = folder / "two.csv"
    tracks = listened_tracks(home)
    plays = [f"{NEWCOMER},{track},2026-11-20T1{n}:00:00Z,play,200000" for n, track in enumerate(tracks[:2])]
    two.write_text("\n".join(["who,song,when,what,ms", *plays, f"{NEWCOMER},{tracks[0]},soon,play,1"]))
    mapping = folder / "two.toml"
    mapping.write_text(
        'source = "shop"\n[columns]\nuser_id = "who"\ntrack_id = "song"\ntype = "what"\nms_played = "ms"\n'
        'ts = { column = "when", unit = "iso" }\n'
    )
    done["import"] = segue(home, "import", "table", str(two), "--mapping", str(mapping), "--json")
    done["run"] = program(home, "run", "--json")
    done["again"] = segue(home, "run", "--json")
    return done


@pytest.fixture(scope="module")
def home(folder: Path, said: dict[str, Done]) -> Path:
    """The published home. Tests that change it take a copy."""
    assert said["run"].code == 0, said["run"].err
    return folder / "home"


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    """A home of a test's own."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def listened_tracks(home: Path) -> list[int]:
    """Public tracks that may be played everywhere."""
    found = rows(home, TRACKS, "track_id", "public", "blocked_countries").sort_by("track_id").to_pylist()
    return [row["track_id"] for row in found if row["public"] and not row["blocked_countries"]]


def consents(home: Path) -> dict[int, bool]:
    """Who allows their history to be read."""
    found = rows(home, LISTENERS, "user_id", "personalization_consent")
    return dict(zip(*(column.to_pylist() for column in found.columns), strict=True))


def recommend(home: Path, *arguments: str) -> Any:
    """An answer as JSON."""
    return segue(home, "recommend", "--json", *arguments).json


def test_every_step_says_what_it_did_as_json(said: dict[str, Done]) -> None:
    simulated = said["simulate"].json
    assert set(simulated) == {"events", "exposures", "seconds"}
    assert said["import"].json == {
        "read": 3,
        "landed": 2,
        "duplicate": 0,
        "rejected": {"wrong_type_ts": 1},
        "listeners": 1,
        "tracks": 2,
    }
    ran = said["run"].json
    assert set(ran) == {"steps", "bundle", "gate"}
    done = {step["step"]: step for step in ran["steps"]}
    assert done["events"]["read_rows"] == simulated["events"] + 2
    assert {step["state"] for step in ran["steps"]} == {"done"}
    assert ran["gate"]["passed"]
    assert ran["bundle"]["version"].startswith("2026-11-21-")
    assert f"publish            {ran['bundle']['version']}" in said["run"].err


def test_a_second_run_finds_everything_up_to_date(said: dict[str, Done], home: Path) -> None:
    again = said["again"].json
    assert {step["state"] for step in again["steps"]} == {"up-to-date"}
    assert again["bundle"] is None
    assert [p.name for p in (home / "bundles").iterdir() if p.is_dir()] == [
        said["run"].json["bundle"]["version"]
    ]


def test_a_step_runs_alone_for_a_day(copy: Path) -> None:
    listed = segue(copy, "step", "list", "--json").json
    assert [step["step"] for step in listed][-4:] == ["train", "publish", "state", "maintain"]
    listed.pop()  # it has no days
    assert {"verdicts"} == set(listed[-2]["writes"])
    assert listed[-2]["after"] == ["train", "events"]
    day = "2026-11-18"
    assert "leave out" in segue(copy, "step", "run", listed[0]["step"], "--date", day).error
    for step in listed[1:-3]:
        ran = segue(copy, "step", "run", step["step"], "--date", day, "--json").json
        assert [item["state"] for item in ran["steps"]] == ["up-to-date"], step
    again = segue(copy, "step", "run", "listens", "--date", day, "--force", "--json").json["steps"]
    assert [(item["state"], item["days"]) for item in again] == [("done", {"first": day, "last": day})]
    week = ("--from", "2026-11-12", "--date", day, "--force", "--alone", "--json")
    again = segue(copy, "step", "run", "listens", *week).json["steps"]
    assert [item["days"] for item in again] == [{"first": "2026-11-12", "last": day}]
    trained = segue(copy, "step", "run", "train", "--date", day, "--json").json
    assert trained["bundle"]["data_through"] == day
    refused = segue(copy, "step", "run", "publish", "--json")
    assert refused.code == 3
    assert f"its events end on {day}" in refused.json["gate"]["reason"]
    retried = segue(copy, "step", "run", "publish", "--alone", "--json")
    assert (retried.code, retried.json["steps"][0]["state"]) == (3, "up-to-date")
    assert retried.json["gate"] == refused.json["gate"]
    assert "did you mean 'publish'" in segue(copy, "step", "run", "publsh").error


def test_a_dry_run_says_what_a_run_then_does(copy: Path) -> None:
    def stored() -> set[tuple[Path, int]]:
        return {(p, p.stat().st_size) for p in (copy / "warehouse").rglob("*") if p.is_file()}

    before = stored()
    asked = (
        "run",
        "--no-train",
        "--step",
        "listens",
        "--step",
        "co-listens",
        "--from",
        "2026-11-18",
        "--force",
    )
    told = segue(copy, *asked, "--dry-run", "--json").json
    assert stored() == before
    done = segue(copy, *asked, "--json").json["steps"]
    assert [(one["step"], one["days"]) for one in told["steps"]] == [
        (one["step"], one["days"]) for one in done
    ]
    assert [one["read_from"] for one in told["steps"]] == ["tables", "history"]
    assert told["steps"][0]["read_bytes"] == done[0]["read_bytes"]
    assert told["total"]["read_bytes"] == sum(one["read_bytes"] for one in told["steps"])
    assert "up to date" in segue(copy, "run", "--no-train", "--dry-run").out
    shown = segue(copy, *asked, "--dry-run", "--set", "warehouse.budget=1").out
    assert "listens 2026-11-17..2026-11-21" in shown
    assert "over warehouse.budget" in shown
    assert "raise warehouse.budget" in segue(copy, *asked, "--set", "warehouse.budget=1").error
    spent = segue(copy, *asked, "--parallel", "2", "--set", "warehouse.chunk_rows=10000")
    assert "co-listens" in spent.out
    assert "bytes read" in spent.out


def test_runs_show_what_made_a_partition(home: Path) -> None:
    found = segue(home, "runs", "--last", "100", "--json").json
    assert {run["step"] for run in found} >= {"land", "events", "train", "state"}
    assert [run["step"] for run in segue(home, "runs", "--step", "events", "--json").json] == ["events"]
    day = "2026-11-18"
    made = segue(home, "runs", "listens", day, "--json").json
    (events,) = segue(home, "runs", "--step", "events", "--day", day, "--json").json
    assert made["inputs"] == {"events": [[day, day, events["run"]]]}
    assert segue(home, "runs", "challenger", "--json").json["settings"]["training"]["factors"] == 8
    shown = segue(home, "runs", "listens", day).out
    assert events["run"] in shown
    assert "step listens, version 1" in " ".join(shown.replace("step  ", "step ").split())
    assert "co-listens" in segue(home, "runs").out
    assert "did you mean 'listens'" in segue(home, "runs", "listen").error
    assert "no run wrote listens of 2020-01-01" in segue(home, "runs", "listens", "2020-01-01").error


def test_lineage_shows_origin_and_reach(home: Path) -> None:
    found = segue(home, "lineage", "daily_tracks.listens", "--json").json
    assert (found["from"], found["rows_by"]) == (["events.listened"], ["events.day", "events.track_id"])
    assert found["outside"] == ["raw_events.ms_played", "raw_events.type", "tracks.duration_ms"]
    assert "track_plays_7d" in found["touches"]["features"]
    assert found["touches"]["ranked_surfaces"] == ["home", "next-up"]
    shown = segue(home, "lineage", "features.track_plays_7d").out
    assert "daily_tracks.listens" in shown
    assert "raw_events.ms_played" in shown
    assert "did you mean 'listens.track_id'" in segue(home, "lineage", "listens.track").error


def test_a_renamed_column_is_migrated(copy: Path) -> None:
    before = rows(copy, LISTENS, *LISTENS.names)
    renamed = [("heard_ms" if c.name == "ms_played" else c.name, c) for c in LISTENS.columns]
    columns = tuple(replace(c, name=name) for name, c in renamed)
    shutil.rmtree(copy / "warehouse" / "listens")
    engine = Home.open(copy, environ={}, overrides=["warehouse.threads=1"]).engine
    engine.overwrite(replace(LISTENS, columns=columns), before.rename_columns([c.name for c in columns]))
    engine.close()
    assert (
        "`segue migrate listens` rewrites it" in segue(copy, "run", "--step", "co-listens", "--force").error
    )
    assert "--rename heard_ms=NEW" in segue(copy, "migrate", "listens").error
    done = segue(copy, "migrate", "listens", "--rename", "heard_ms=ms_played", "--json").json
    assert done == {"table": "listens", "rows": before.num_rows}
    order = [(name, "ascending") for name in LISTENS.names]
    assert rows(copy, LISTENS, *LISTENS.names).sort_by(order).equals(before.sort_by(order))
    assert {step["state"] for step in segue(copy, "run", "--no-train", "--json").json["steps"]} == {
        "up-to-date"
    }
    assert segue(copy, "migrate", "listens", "--json").json["rows"] is None


def test_evaluate_prints_every_task_and_model_with_intervals(home: Path) -> None:
    report = segue(home, "evaluate", "--json", "--max-cases", "40").json
    metrics = {
        "home": {"recall@50", "ndcg@50"},
        "home-new": {"recall@50", "ndcg@50"},
        "next-up": {"hr@20", "mrr@20", "ndcg@20"},
    }
    assert set(report["tasks"]) == set(metrics)
    for task, wanted in metrics.items():
        found = report["tasks"][task]
        assert found["protocol"]["split"] % (DAY_S * 1_000_000) == 0
        assert found["protocol"]["chosen_by"] != "--split"
        assert {"segue", "popular"} < set(found["models"])
        for values in found["models"].values():
            assert wanted <= set(values)
            for name in wanted:
                low, high = values[name]["ci95"]
                assert 0 <= low <= values[name]["value"] <= high <= 1


def test_a_known_listener_is_told_why(home: Path) -> None:
    users, counts = np.unique(rows(home, LISTENS, "user_id")["user_id"].to_numpy(), return_counts=True)
    consent = consents(home)
    user = next(int(u) for u in users[np.argsort(-counts)] if consent[int(u)])
    answer = recommend(home, "--user", str(user), "--surface", "home", "-k", "20", "--why")
    assert answer["trace"]["personalized"]
    assert len(answer["items"]) == 20
    assert len({item["track_id"] for item in answer["items"]}) == 20
    assert all(item["why"]["text"] and item["sources"] for item in answer["items"])
    assert any(item["why"].get("because_of") for item in answer["items"])
    assert all(0 < item["propensity"] <= 1 for item in answer["items"])


def test_two_plays_are_enough_to_be_somebody(home: Path) -> None:
    answer = recommend(home, "--user", str(NEWCOMER), "--why")
    stranger = recommend(home)
    assert answer["trace"]["personalized"]
    assert len(answer["items"]) == 20
    assert [i["track_id"] for i in answer["items"]] != [i["track_id"] for i in stranger["items"]]


def test_a_listener_is_found_by_the_name_they_had_outside(copy: Path, tmp_path: Path) -> None:
    tracks = listened_tracks(copy)
    path, mapping = tmp_path / "ana.csv", tmp_path / "ana.toml"
    path.write_text(
        "who,song,when\n"
        + "".join(f"ana,{track},2026-11-20T1{n}:00:00Z\n" for n, track in enumerate(tracks[:3]))
    )
    mapping.write_text(
        'source = "shop"\n[columns]\nuser_id = "who"\ntrack_id = "song"\ntype = { value = "play" }\n'
        'ts = { column = "when", unit = "iso" }\n'
    )
    assert segue(copy, "import", "table", str(path), "--mapping", str(mapping)).code == 0
    assert segue(copy, "step", "run", "state").code == 0, "it builds the events it reads"
    answer = recommend(copy, "--user", "shop:ana")
    assert answer["trace"]["personalized"]
    assert answer["user_id"] == named_id("user", "shop:ana")
    hydrated = next(stage for stage in answer["trace"]["stages"] if stage["name"] == "hydrate")
    assert hydrated["rows"] == 3
    assert not recommend(copy, "--user", "shop:ben")["trace"]["personalized"]
    assert "SOURCE:ID" in segue(copy, "recommend", "--user", "ana").error


def test_an_answer_names_its_tracks_and_says_what_was_drawn(home: Path) -> None:
    asked = ("--user", str(NEWCOMER), "--seed", "4", "--set", "surfaces.home.selector.explore=0.4")
    answer = recommend(home, *asked)
    lines = segue(home, "recommend", *asked, more={"COLUMNS": "200"}).out.splitlines()
    drawn = 0
    for item in answer["items"]:
        line = next(line for line in lines if f" {item['track_id']} " in line)
        assert ("to explore" in line) == (item["propensity"] < 0.5)
        drawn += item["propensity"] < 0.5
    assert drawn > 0


def test_an_unknown_listener_is_a_stranger(home: Path) -> None:
    answer = recommend(home, "--user", STRANGER, "--seed", "1")
    assert not answer["trace"]["personalized"]
    stranger = recommend(home, "--seed", "1")
    assert [i["track_id"] for i in answer["items"]] == [i["track_id"] for i in stranger["items"]]


def test_without_consent_no_history_is_read(home: Path) -> None:
    user = next(user for user, consent in consents(home).items() if not consent)
    answer = recommend(home, "--user", str(user), "--why")
    assert not answer["trace"]["personalized"]
    assert next(stage for stage in answer["trace"]["stages"] if stage["name"] == "hydrate")["rows"] == 0
    assert answer["items"]
    assert not any(item["why"].get("because_of") for item in answer["items"])


@pytest.mark.parametrize("surface", ["station", "related", "next-up"])
def test_other_surfaces_answer(home: Path, surface: str) -> None:
    first, second = listened_tracks(home)[:2]
    seed = ("--session", f"{first},{second}") if surface == "next-up" else ("--track", str(first))
    answer = recommend(home, "--user", str(NEWCOMER), "--surface", surface, "-k", "5", *seed)
    assert answer["surface"] == surface
    assert len(answer["items"]) == 5


def test_what_strangers_were_shown_lands_too(copy: Path) -> None:
    recommend(copy, "-k", "7")
    landed = segue(copy, "run", "--no-train")
    assert landed.code == 0, landed.err
    line = next(line for line in landed.err.splitlines() if "land exposures" in line)
    assert line.split()[2:] == [line.split()[2], "landed", "0", "duplicate", "0", "rejected"]
    assert int(line.split()[2]) >= 7


def test_the_landing_alone_takes_in_what_was_served(copy: Path) -> None:
    recommend(copy, "-k", "7")
    landed = segue(copy, "step", "run", "land", "--json").json["steps"]
    assert [(item["step"], item["state"]) for item in landed] == [("land", "done")]
    assert landed[0]["written_rows"] >= 7
    assert segue(copy, "step", "run", "land", "--json").json["steps"][0]["written_rows"] == 0
    built = segue(copy, "step", "run", "outcomes", "--alone", "--json").json["steps"]
    assert [(item["step"], item["state"], item["read_rows"] >= 7) for item in built] == [
        ("outcomes", "done", True)
    ]


def test_an_erased_listener_is_a_stranger(copy: Path) -> None:
    queue = copy / "erase.txt"
    assert "nobody was erased" in segue(copy, "erase", "nobody").error
    assert recommend(copy, "--user", str(NEWCOMER))["trace"]["personalized"]
    queue.write_bytes(b"nobody\n\xff\n\n%d\n" % NEWCOMER)
    ended = segue(copy, "erase", "--queued", "--json")
    erased = json.loads(ended.out)
    assert "the others are erased" in ended.error
    assert "line 1 'nobody'; line 2" in ended.error
    assert erased["listeners"] == 1
    assert (erased["removed"]["raw_events"], erased["removed"]["listeners"]) == (2, 1)
    assert not recommend(copy, "--user", str(NEWCOMER))["trace"]["personalized"]
    queue.write_text(f"\n{NEWCOMER}\n")
    again = segue(copy, "erase", "--queued", "--json")
    assert again.code == 0
    assert set(again.json["removed"].values()) == {0}
    assert "whom?" in segue(copy, "erase").error


def test_a_worse_challenger_is_kept_but_not_published(copy: Path) -> None:
    before = segue(copy, "bundle", "list", "--json").json
    settings = copy / "segue.toml"
    settings.write_text(
        "".join(
            f"[surfaces.{surface}.scorer.weights]\nplay = -1.0\nlike = 0.0\nskip = 0.0\n"
            for surface in ("home", "next-up")
        )
    )
    refused = segue(copy, "run", "--json")
    assert refused.code == 3, refused.err
    assert not refused.json["gate"]["passed"]
    assert "worse than the champion" in refused.err
    after = segue(copy, "bundle", "list", "--json").json
    assert after["current"] == before["current"]
    challenger = refused.json["bundle"]["version"]
    assert set(after["bundles"]) == {before["current"], challenger}

    assert segue(copy, "bundle", "publish", challenger).code == 0
    settings.unlink()
    assert recommend(copy, "-k", "1")["bundle"] == challenger
    assert segue(copy, "bundle", "rollback").code == 0
    assert recommend(copy, "-k", "1")["bundle"] == before["current"]
    assert "no earlier bundle" in segue(copy, "bundle", "rollback").error


def test_bundles_are_listed_whole_and_shown(home: Path, said: dict[str, Done]) -> None:
    version = said["run"].json["bundle"]["version"]
    assert version in segue(home, "bundle", "list").out
    manifest = segue(home, "bundle", "show", version).json
    assert manifest["data_through"] == "2026-11-21"
    assert manifest["tracks"] == 300


def test_30music_lands_once(folder: Path) -> None:
    path = folder / "sessions.parquet"
    n = 400
    dice = np.random.default_rng(0)
    sessions = np.repeat(np.arange(n // 4), 4)
    columns = {
        "session_id": sessions,
        "user_id": sessions % 30 + 1,
        "song_id": dice.integers(1, 60, n),
        "ts": 1_410_000_000 + sessions * 4_000 + np.tile(np.arange(4) * 200, n // 4),
        "playtime": dice.integers(-1, 300, n),
    }
    pq.write_table(pa.table(columns), path)
    music = folder / "music"
    first = segue(music, "import", "30music", str(path), "--json").json
    negative = int((columns["playtime"] < 0).sum())
    assert list(first) == ["read", "landed", "duplicate", "rejected", "listeners", "tracks"]
    assert first["read"] == n
    assert first["landed"] + first["duplicate"] + sum(first["rejected"].values()) == n
    assert sum(first["rejected"].values()) in (0, negative)
    assert first["listeners"] == 30
    second = segue(music, "import", "30music", str(path), "--json").json
    assert second == first | {"landed": 0, "duplicate": first["landed"] + first["duplicate"]}

    # Tracks of 30Music have neither artist nor title: a whole flow without them.
    segue(music, "run")
    answer = recommend(music, "--user", "1", "-k", "5", "--why")
    assert len(answer["items"]) == 5
    assert answer["trace"]["personalized"]
    assert not answer["trace"]["degraded"]

    whole = path.read_bytes()
    (folder / "half.parquet").write_bytes(whole[: len(whole) // 2])
    refused = segue(music, "import", "30music", str(folder / "half.parquet")).error
    assert "half.parquet" in refused
    assert "replace the file by a whole one" in refused


def test_broken_lines_are_counted_and_the_others_land(folder: Path) -> None:
    path = folder / "listens.jsonl"
    good = {
        "listened_at": 1_700_000_000,
        "user_name": "ana",
        "track_metadata": {"artist_name": "Ona", "track_name": "Night Bus"},
    }
    future = good | {"listened_at": 9_000_000_000}
    path.write_bytes(
        b"\n".join(
            [
                json.dumps(good).encode(),
                b'{"listened_at": 1700000100, "user_name": "\xff\xfe"}',
                json.dumps(future).encode(),
                json.dumps(good | {"listened_at": "yesterday"}).encode(),
                json.dumps(good | {"listened_at": 1_700_000_200}).encode(),
                b'{"listened_at": 17000',
            ]
        )
    )
    home = folder / "lines"
    report = segue(home, "import", "listenbrainz", str(path), "--json").json
    assert (report["read"], report["landed"], report["duplicate"]) == (6, 2, 0)
    assert report["rejected"] == {
        "not_json": 1,
        "not_utf8": 1,
        "ts_in_future": 1,
        "wrong_type_ts": 1,
    }


def test_nothing_usable_is_a_failure_with_reasons(folder: Path) -> None:
    home, path, mapping = folder / "broken", folder / "broken.csv", folder / "broken.toml"
    path.write_text("who,song,when\nana,1,soon\nben,2,later\n")
    mapping.write_text(
        'source = "shop"\n[columns]\nuser_id = "who"\ntrack_id = "song"\ntype = { value = "play" }\n'
        'ts = { column = "when", unit = "iso" }\n'
    )
    refused = segue(home, "import", "table", str(path), "--mapping", str(mapping))
    assert refused.error.endswith(
        "none of its 2 rows could be used (2 wrong_type_ts); `segue rejects` shows them"
    )
    shown = segue(home, "rejects", "--json", "--reason", "wrong_type_ts", "-n", "1").json
    assert [(row["origin"], row["row"], row["field"]) for row in shown] == [("table:broken.csv", 0, "ts")]
    assert "soon" in segue(home, "rejects").out
    assert segue(home, "rejects", "--origin", "http").out == "nothing was rejected\n"


DAMAGE = [
    ("training.facotrs=3", "did you mean training.factors?"),
    ("training.factors=0", "training.factors"),
    ("serving.port=http", "serving.port"),
]


@pytest.mark.parametrize(("change", "named"), DAMAGE)
def test_a_settings_typo_is_named(home: Path, change: str, named: str) -> None:
    assert named in segue(home, "run", "--set", change).error
    key, _, value = change.partition("=")
    variable = "SEGUE_" + key.upper().replace(".", "__")
    refused = segue(home, "recommend", more={variable: value}).error
    assert named in refused


def test_the_program_itself_refuses_in_one_line(home: Path) -> None:
    refused = program(home, "recommend", "-k", "1000000")
    assert refused.error == "error: k: 1000000 is out of range; ask for 1 to 200 items (serving.max_k)"
    assert len(refused.err.splitlines()) == 1
    assert refused.out == ""


REFUSED = [
    (("recommend", "-k", "0"), "k: 0"),
    (("recommend", "-k", "-1"), "k: -1"),
    (("recommend", "--user", "-5"), "--user"),
    (("recommend", "--user", "99999999999999999999"), "--user"),
    (("recommend", "--surface", "hoem"), "surface: 'hoem' is none of home"),
    (("recommend", "--surface", "station"), "track_id or artist_id"),
    (("recommend", "--surface", "related", "--track", "77"), "track_id: 77"),
    (("recommend", "--surface", "station", "--artist", "77"), "artist_id: 77"),
    (("recommend", "--surface", "next-up", "--session", "1,x"), "--session"),
    (("recommend", "--country", "germany"), "--country"),
    (("recommend", "--now", "-5"), "--now"),
    (("recommend", "--seed", "-1"), "--seed"),
    (("recommend", "--set", "surfaces.home.sources.nonsense.limit=5"), "nonsense"),
    (("bundle", "show", "absent"), "no bundle 'absent'"),
    (("bundle", "publish", "../x"), "no bundle '../x'"),
    (("bundle", "rollback"), "no earlier bundle"),
    (("evaluate", "--split", "nonsense"), "--split: 'nonsense'"),
    (("evaluate", "--split", "1900-01-01"), "split"),
    (("evaluate", "--split", "2999-01-01"), "split"),
    (("evaluate", "--task", "hom"), "--task: 'hom'"),
    (("evaluate", "--max-cases", "-1"), "--max-cases"),
    (("run", "--step", "absent"), "no step 'absent'"),
    (("run", "--from", "tomorrow"), "--from: 'tomorrow'"),
    (("run", "--from", "2026-11-21", "--to", "2026-11-01"), "--from: 2026-11-21 is later than --to"),
    (("run", "--config", "/absent.toml"), "/absent.toml: no such settings file"),
    (("import", "30musik", "x"), "no importer '30musik'"),
    (("import", "30music", "/absent.parquet"), "/absent.parquet: no such file"),
    (("import", "table", "/absent.csv"), "--mapping"),
    (("import", "30music", "x", "--mapping", "y"), "mapping"),
    (("benchmark", "gowala", "/tmp"), "gowala"),
    (("benchmark", "gowalla-lightgcn", "/absent"), "/absent"),
    (("simulate", "--days", "0"), "days is 0"),
    (("simulate", "--tracks", "-1"), "tracks is -1"),
    (("simulate", "--end", "9999-99-99"), "--end"),
    (("simulate", *SIMULATED[:-1], "4"), "already holds another catalogue"),
    (("serve", "--workers", "0"), "serving.workers"),
    (("serve", "--port", "99999"), "serving.port"),
    (("serve", "--host", "203.0.113.7"), "serving.host"),
    (("demo", "--data", "30music", "--no-serve"), "--data: '30music'"),
    (("docs", "/dev/null/x"), "/dev/null/x"),
]


@pytest.mark.parametrize(("arguments", "named"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_a_refusal_is_one_line_that_names_what_is_wrong(
    home: Path, arguments: tuple[str, ...], named: str
) -> None:
    assert named in segue(home, *arguments).error


def test_an_empty_home_says_what_to_do_first(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    assert "segue import" in segue(home, "run").error
    refused = segue(home, "recommend").error
    assert "segue run" in refused
    assert str(home) in refused
    assert "no play" in segue(home, "evaluate").error


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("not a directory")
    for command in (("run",), ("recommend",), ("bundle", "list"), ("simulate", "--days", "1")):
        assert str(home) in segue(home, *command).error
    assert str(home) in segue(home, "run", "--home", str(home / "below")).error


@pytest.mark.parametrize(
    ("part", "command"), [("warehouse", "run"), ("bundles", "run"), ("state", "recommend")]
)
def test_a_file_in_the_way_of_a_part_is_named(copy: Path, part: str, command: str) -> None:
    shutil.rmtree(copy / part)
    (copy / part).write_text("in the way")
    assert str(copy / part) in segue(copy, command).error


def test_a_file_in_the_way_of_the_log_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "log", ignore_errors=True)
    (copy / "log").write_text("in the way")
    assert f"{copy / 'log'}: is a file where a directory should be" in segue(copy, "run").error


def test_an_exposure_log_that_cannot_be_written_costs_no_answer(copy: Path) -> None:
    shutil.rmtree(copy / "log" / "exposures", ignore_errors=True)
    (copy / "log").mkdir(exist_ok=True)
    (copy / "log" / "exposures").write_text("in the way")
    answered = segue(copy, "recommend", "--json")
    assert len(answered.json["items"]) == 20
    assert "exposures: log" in answered.err


def test_a_full_disk_loses_nothing(copy: Path, tmp_path: Path) -> None:
    before = segue(copy, "bundle", "list", "--json").json
    shown = [item["track_id"] for item in recommend(copy, "--seed", "1")["items"]]
    for arguments in (("run", "--force", "--no-train"), ("run", "--set", "training.seed=9")):
        refused = segue(copy, *arguments, largest_file=4_000).error
        assert "room" in refused
    assert segue(copy, "bundle", "list", "--json").json == before
    assert [item["track_id"] for item in recommend(copy, "--seed", "1")["items"]] == shown
    assert [p.name for p in (copy / "bundles").iterdir() if p.name.startswith(".")] == []

    empty = tmp_path / "new"
    assert "room" in segue(empty, "simulate", *SIMULATED, largest_file=8_000).error
    assert segue(empty, "simulate", *SIMULATED).code == 0
    assert segue(copy, "run", "--force", "--no-train").code == 0


def biggest(bundle: Path) -> Path:
    """The largest file of a bundle."""
    return max((p for p in bundle.rglob("*.npy")), key=lambda p: p.stat().st_size)


def test_a_flipped_byte_is_found_named_and_repaired(copy: Path, said: dict[str, Done]) -> None:
    version = said["run"].json["bundle"]["version"]
    path = biggest(copy / "bundles" / version)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole))
    for arguments in (("recommend",), ("bundle", "show", version), ("bundle", "publish", version)):
        refused = segue(copy, *arguments).error
        assert path.name in refused
        assert "segue run" in refused
    repaired = segue(copy, "run", "--json")
    assert repaired.code == 0, repaired.err
    assert "does not open" in repaired.err
    assert len(recommend(copy)["items"]) == 20


def test_a_missing_champion_is_named_and_replaced(copy: Path) -> None:
    current = copy / "bundles" / "CURRENT"
    for content in (b"2020-01-01-absent\n", b"\xff\xfe\x00"):
        current.write_bytes(content)
        assert str(current) in segue(copy, "recommend").error
        assert segue(copy, "bundle", "list").code == 0
    (copy / "bundles" / "not-a-bundle").mkdir()
    listed = segue(copy, "bundle", "list")
    assert listed.code == 0
    assert "not-a-bundle" in listed.err
    assert segue(copy, "run").code == 0
    assert len(recommend(copy)["items"]) == 20


def test_the_version_is_one_line(tmp_path: Path) -> None:
    done = segue(tmp_path, "--version")
    assert done.code == 0
    assert done.out.startswith("segue ")
