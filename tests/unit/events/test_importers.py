from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segue.adapters.engines.duckdb import DuckDBDelta
from segue.contracts.errors import InvalidData, InvalidInput, NotFound
from segue.contracts.ids import stable_id
from segue.contracts.schema import Table
from segue.contracts.tables import ARTISTS, FRIENDSHIPS, LISTENERS, RAW_EVENTS, REJECTS, TRACKS
from segue.events.importers import (
    IMPORTERS,
    Importer,
    ImportReport,
    OnLanded,
    choose_importer,
    import_path,
    readers,
)
from segue.events.importers.readers import byte_lines
from segue.settings.tree import Warehouse

pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_:DeprecationWarning"
)  # Ibis calls DuckDB by older names

NOW = 1_795_000_000_000_000
T0 = 1_400_000_000
SMALL = Warehouse(import_batch_rows=1_000)


def run(
    engine: DuckDBDelta,
    name: str | Importer,
    path: Path,
    *,
    mapping: Path | None = None,
    settings: Warehouse = SMALL,
    on_landed: OnLanded | None = None,
) -> ImportReport:
    importer = choose_importer(name, mapping) if isinstance(name, str) else name
    *_, last = import_path(importer, path, engine, settings, on_landed=on_landed, now=NOW)
    assert last.done
    assert last.report.read == last.report.landed + last.report.duplicate + sum(last.report.rejected.values())
    return last.report


def plays(path: Path, n: int = 3_500, **change: Any) -> Path:
    """A small 30Music file: row i is listener i % 50 playing track i % 90 at T0 + 60 i."""
    columns = {
        "session_id": [i // 10 for i in range(n)],
        "user_id": [i % 50 for i in range(n)],
        "song_id": [i % 90 for i in range(n)],
        "ts": [T0 + 60 * i for i in range(n)],
        "playtime": [11 + i % 700 for i in range(n)],
    }
    for name, value in change.items():
        columns[name] = value(columns[name])
    pq.write_table(pa.table(columns), path, row_group_size=800)
    return path


class Test30Music:
    def test_plays_land_once_and_keep_their_ids(self, engine: DuckDBDelta, rows: Any, tmp_path: Path) -> None:
        path = plays(tmp_path / "sessions.parquet")
        assert run(engine, "30music", path) == ImportReport(3_500, 3_500, 0, {}, 50, 90)
        assert run(engine, "30music", path) == ImportReport(3_500, 0, 3_500, {}, 50, 90)
        found = sorted(rows(RAW_EVENTS), key=lambda row: row["ts"])
        assert [r["ts"] for r in found] == [(T0 + 60 * i) * 1_000_000 for i in range(3_500)]
        last = found[-1]
        assert {
            k: last[k] for k in ("user_id", "track_id", "session_id", "ms_played", "type", "artist_id")
        } == {
            "user_id": 49,
            "track_id": 3_499 % 90,
            "session_id": 349,
            "ms_played": (11 + 3_499 % 700) * 1_000,
            "type": "play",
            "artist_id": None,
        }
        assert last["day"] == date(2014, 5, 16)
        assert last["received_at"] == NOW
        assert [r["user_id"] for r in rows(LISTENERS)] == sorted(range(50), key=str)
        assert all(r["personalization_consent"] and r["explicit_ok"] for r in rows(LISTENERS))
        assert len(rows(TRACKS)) == 90

    def test_the_same_rows_in_another_file_are_duplicates(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        run(engine, "30music", plays(tmp_path / "a.parquet", 3_000))
        report = run(engine, "30music", plays(tmp_path / "b.parquet", 3_500))
        assert (report.landed, report.duplicate) == (500, 3_000)

    def test_identical_rows_within_a_file_are_one_event(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path
    ) -> None:
        path = tmp_path / "twice.parquet"
        table = pq.read_table(plays(path, 700))
        pq.write_table(pa.concat_tables([table, table]), path)
        report = run(engine, "30music", path)
        assert (report.read, report.landed, report.duplicate) == (1_400, 700, 700)
        assert len(rows(RAW_EVENTS)) == 700

    def test_broken_rows_are_counted_and_kept_once(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path
    ) -> None:
        def broken(values: list[int]) -> list[int | None]:
            return [-4, None, *values[2:]]

        def wrong_times(values: list[int]) -> list[int]:
            return [values[0], values[1], 5, T0 * 2, -(2**62), *values[5:]]

        path = plays(tmp_path / "s.parquet", 1_500, user_id=broken, ts=wrong_times)
        for landed in (1_495, 0):
            report = run(engine, "30music", path)
            assert report.landed == landed
            assert report.rejected == {
                "missing_user_id": 1,
                "out_of_range_ts": 1,
                "out_of_range_user_id": 1,
                "ts_in_future": 1,
                "ts_too_old": 1,
            }
        found = rows(REJECTS)
        assert [(r["row"], r["reason"]) for r in sorted(found, key=lambda r: r["row"])] == [
            (0, "out_of_range_user_id"),
            (1, "missing_user_id"),
            (2, "ts_too_old"),
            (3, "ts_in_future"),
            (4, "out_of_range_ts"),
        ]
        assert {r["origin"] for r in found} == {"30music:s.parquet"}
        assert json.loads(min(found, key=lambda r: r["row"])["content"])["user_id"] == -4

    def test_another_batch_size_changes_nothing(self, engine: DuckDBDelta, rows: Any, tmp_path: Path) -> None:
        path = plays(tmp_path / "s.parquet", user_id=lambda v: [-1, *v[1:-1], -1])
        run(engine, "30music", path, settings=Warehouse(import_batch_rows=1_700))
        before = rows(RAW_EVENTS), rows(REJECTS)
        assert run(engine, "30music", path, settings=Warehouse(import_batch_rows=1_100)).landed == 0
        assert (rows(RAW_EVENTS), rows(REJECTS)) == before

    def test_wrong_types_cost_their_rows_only(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        path = plays(tmp_path / "s.parquet", 9, song_id=lambda v: ["x", "7", *map(str, v[2:])])
        report = run(engine, "30music", path)
        assert (report.landed, report.rejected) == (8, {"wrong_type_track_id": 1})

    def test_missing_columns_are_named(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        path = tmp_path / "s.parquet"
        pq.write_table(pa.table({"user_id": [1], "song": [2], "ts": [3]}), path)
        with pytest.raises(InvalidData, match="session_id, song_id, playtime"):
            run(engine, "30music", path)

    def test_an_empty_file_is_nothing(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        assert run(engine, "30music", plays(tmp_path / "s.parquet", 0)) == ImportReport()

    @pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"\x00" * 4096])
    def test_what_is_no_parquet_is_refused(self, engine: DuckDBDelta, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "s.parquet"
        path.write_bytes(content)
        with pytest.raises(InvalidData, match="not a whole Parquet file"):
            run(engine, "30music", path)

    def test_a_directory_and_a_wrong_path_are_refused(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        plays(tmp_path / "sessions.parquet", 1)
        with pytest.raises(InvalidData, match=r"is a directory.*sessions\.parquet"):
            run(engine, "30music", tmp_path)
        with pytest.raises(NotFound):
            run(engine, "30music", tmp_path / "none.parquet")

    def test_a_damaged_page_costs_what_is_behind_it(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        path = plays(tmp_path / "s.parquet", 8_000)
        raw = bytearray(path.read_bytes())
        start = pq.ParquetFile(path).metadata.row_group(5).column(1).dictionary_page_offset
        raw[start : start + 200] = b"\xff" * 200
        path.write_bytes(raw)
        with pytest.raises(InvalidData, match=r"from row \d+ on.*4,000 read, 4,000 landed"):
            run(engine, "30music", path, settings=Warehouse(import_batch_rows=1_000))
        assert run(engine, "30music", plays(tmp_path / "s.parquet", 8_000)).landed == 4_000


def test_the_ledger_is_told_about_each_landing_once(engine: DuckDBDelta, tmp_path: Path) -> None:
    told: list[dict[date, int]] = []

    def tell(table: Table, days: dict[date, int]) -> None:
        assert table is RAW_EVENTS
        told.append(days)

    path = plays(tmp_path / "s.parquet")
    run(engine, "30music", path, on_landed=tell)
    assert [sum(days.values()) for days in told] == [1_000, 1_000, 1_000, 500]
    assert set().union(*told) == {date(2014, 5, d) for d in (13, 14, 15, 16)}
    told.clear()
    run(engine, "30music", path, on_landed=tell)
    assert told == []


def test_a_landing_that_was_not_told_is_told_by_the_next_run(engine: DuckDBDelta, tmp_path: Path) -> None:
    class Died(Exception):
        pass

    def die(_table: Table, _days: dict[date, int]) -> None:
        raise Died

    path = plays(tmp_path / "s.parquet")
    with pytest.raises(Died):
        run(engine, "30music", path, on_landed=die)
    told: list[dict[date, int]] = []
    report = run(engine, "30music", path, on_landed=lambda _, days: told.append(days))
    assert (report.landed, report.duplicate) == (2_500, 1_000)
    assert sum(n for days in told for n in days.values()) == 3_500


LISTEN: dict[str, Any] = {
    "listened_at": T0,
    "user_name": "ana",
    "track_metadata": {
        "artist_name": "Ona",
        "track_name": "Night Bus",
        "additional_info": {"duration_ms": 200_000, "recording_mbid": "r-1", "artist_mbids": ["a-1"]},
    },
}


def listens(path: Path, *lines: bytes | dict[str, Any]) -> Path:
    body = (
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\n"
    )
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


class TestListenBrainz:
    def test_a_listen_names_its_track_artist_and_listener(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path
    ) -> None:
        shouted = {"artist_name": "ONA", "track_name": "night bus"}
        by_number = {"timestamp": T0 + 9, "user_id": 77, "track_metadata": shouted, "recording_msid": "m-1"}
        report = run(engine, "listenbrainz", listens(tmp_path / "l.jsonl", LISTEN, by_number))
        assert report == ImportReport(2, 2, 0, {}, 2, 1)
        [track], [artist] = rows(TRACKS), rows(ARTISTS)
        assert (track["title"], track["duration_ms"], track["external_id"]) == ("Night Bus", 200_000, "r-1")
        assert (artist["name"], artist["external_id"]) == ("Ona", "a-1")
        ana = stable_id("listenbrainz/user", "ana")
        assert {(r["user_id"], r["external_id"]) for r in rows(LISTENERS)} == {(ana, "ana"), (77, "me")}
        assert {(r["user_id"], r["ts"], r["ms_played"], r["type"]) for r in rows(RAW_EVENTS)} == {
            (ana, T0 * 1_000_000, None, "play"),
            (77, (T0 + 9) * 1_000_000, None, "play"),
        }

    def test_an_export_belongs_to_the_account_above_it(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "listens" / "2014").mkdir(parents=True)
        (tmp_path / "user.json").write_text('{"user_id": 5, "username": "ben"}')
        mine = {k: v for k, v in LISTEN.items() if k != "user_name"}
        listens(tmp_path / "listens" / "2014" / "5.jsonl", mine)
        listens(tmp_path / "listens" / "2014" / "6.jsonl.gz", {**mine, "listened_at": T0 + 1})
        assert run(engine, "listenbrainz", tmp_path).landed == 2
        assert [(r["user_id"], r["external_id"]) for r in rows(LISTENERS)] == [
            (stable_id("listenbrainz/user", "ben"), "ben")
        ]

    def test_broken_lines_cost_themselves(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readers, "MAX_LINE", 5_000)
        meta = LISTEN["track_metadata"]
        bad: list[tuple[bytes | dict[str, Any], str]] = [
            (b'{"listened_at": 14', "not_json"),
            (b"\xff\xfe", "not_json"),
            (json.dumps(LISTEN).encode().replace(b"Ona", b"On\xff"), "not_utf8"),
            (b'{"track_metadata": {"artist_name": "x"}}', "missing_track_name"),
            ({**LISTEN, "listened_at": 1.5}, "wrong_type_listened_at"),
            ({**LISTEN, "listened_at": 10**30}, "out_of_range_listened_at"),
            ({**LISTEN, "listened_at": 10**17}, "out_of_range_ts"),
            ({**LISTEN, "listened_at": None}, "missing_ts"),
            ({**LISTEN, "listened_at": 0}, "ts_too_old"),
            ({**LISTEN, "listened_at": 4_000_000_000}, "ts_in_future"),
            ({**LISTEN, "user_id": -1}, "out_of_range_user_id"),
            ({**LISTEN, "track_metadata": {**meta, "artist_name": 5}}, "wrong_type_artist_name"),
            ({**LISTEN, "track_metadata": {**meta, "track_name": "x" * 6_000}}, "too_long_line"),
            (b"[" * 3_000, "wrong_type"),
            (b'{"track_metadata":' * 200, "not_json"),
            (b"[]", "wrong_type"),
            (b"null", "wrong_type"),
        ]
        lines = [LISTEN, b"", *(line for line, _ in bad), {**LISTEN, "listened_at": T0 + 1}]
        path = listens(tmp_path / "l.jsonl", *lines)
        for landed in (2, 0):
            report = run(engine, "listenbrainz", path)
            assert (report.read, report.landed) == (len(bad) + 2, landed)
        kept = {row["row"]: row["reason"] for row in rows(REJECTS)}
        assert kept == {at: reason for at, (_, reason) in enumerate(bad, 2)}
        assert len(rows(REJECTS)) == len(bad)

    @pytest.mark.parametrize(
        "info", [{"duration_ms": "x"}, {"duration_ms": -1}, {"duration_ms": 1e300}, {"duration": 90}, {}]
    )
    def test_messy_extras_do_no_harm(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path, info: dict[str, Any]
    ) -> None:
        listen = {**LISTEN, "track_metadata": {**LISTEN["track_metadata"], "additional_info": info}}
        assert run(engine, "listenbrainz", listens(tmp_path / "l.jsonl", listen)).landed == 1
        assert [r["duration_ms"] for r in rows(TRACKS)] == [90_000 if "duration" in info else None]

    @pytest.mark.parametrize("suffix", [".gz", ".zst"])
    def test_a_file_cut_short_lands_what_it_holds(
        self, engine: DuckDBDelta, tmp_path: Path, suffix: str
    ) -> None:
        lines = [{**LISTEN, "listened_at": T0 + i, "user_name": f"u{i * 7919 % 4001}"} for i in range(30_000)]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        packed = gzip.compress(body) if suffix == ".gz" else pa.Codec("zstd").compress(body).to_pybytes()
        path = tmp_path / f"l.jsonl{suffix}"
        path.write_bytes(packed[: len(packed) * 3 // 4])
        with pytest.raises(
            InvalidData, match=r"beyond line \d+.*run the same command again.*landed"
        ) as caught:
            run(engine, "listenbrainz", path, settings=Warehouse(import_batch_rows=100_000))
        landed = int(caught.value.message.rsplit("read, ")[1].split()[0].replace(",", ""))
        assert 1_000 < landed < 30_000
        path.write_bytes(packed)
        report = run(engine, "listenbrainz", path, settings=Warehouse(import_batch_rows=100_000))
        assert (report.landed, report.duplicate) == (30_000 - landed, landed)

    def test_what_grew_doubles_neither_events_nor_rejects(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path
    ) -> None:
        run(engine, "listenbrainz", listens(tmp_path / "l.jsonl", LISTEN, b"nonsense"))
        report = run(
            engine,
            "listenbrainz",
            listens(tmp_path / "l.jsonl", LISTEN, b"nonsense", {**LISTEN, "listened_at": T0 + 5}),
        )
        assert (report.landed, report.duplicate, report.rejected) == (1, 1, {"not_json": 1})
        assert len(rows(REJECTS)) == 1

    def test_nothing_there_is_said(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match=r"no file ending in \.jsonl"):
            run(engine, "listenbrainz", tmp_path)


def test_lines_are_whole_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "BLOCK", 7)
    monkeypatch.setattr(readers, "MAX_LINE", 20)
    monkeypatch.setattr(readers, "LINES", 3)
    lines = [b"a", b"", b"b" * 20, b"c" * 21, b"d" * 100, b"e", b"f" * 19]
    for end in (b"", b"\n"):
        (tmp_path / "x").write_bytes(b"\n".join(lines) + end)
        pieces = list(byte_lines(tmp_path / "x"))
        assert [line for _, piece in pieces for line in piece] == [
            line if len(line) <= 20 else None for line in lines
        ]
        at = 0
        for first, piece in pieces:
            assert first == at
            at += len(piece)


LASTFM = {
    "artists.dat": 'id\tname\turl\n1\tMALICE "MIZER\tu\n2\tDiary\tu\n3\tOna\tu\n',
    "tags.dat": "tagID\ttagValue\n1\tMetal\n2\tfran\xe7ais\n",
    "user_artists.dat": "userID\tartistID\tweight\n2\t1\t10\n2\t2\t999999\n4\t3\t1\n5\t3\tx\n-6\t3\t1\n7\n",
    "user_friends.dat": "userID\tfriendID\n2\t4\n4\t2\n4\t5\n",
    "user_taggedartists.dat": "userID\tartistID\ttagID\tday\tmonth\tyear\n"
    "2\t1\t1\t1\t4\t2009\n2\t1\t2\t3\t4\t2009\n2\t3\t1\t7\t8\t2010\n4\t1\t1\t1\t6\t1956\n5\t1\t1\t31\t99\t2009\n",
}


def lastfm(folder: Path, **change: str) -> Path:
    for name, text in LASTFM.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(change.get(name, text).encode("latin-1")))
    return folder


class TestLastFm2k:
    def test_artists_become_items(self, engine: DuckDBDelta, rows: Any, tmp_path: Path) -> None:
        report = run(engine, "lastfm-2k", lastfm(tmp_path))
        rejected = {"out_of_range_user_id": 1, "wrong_number_of_values": 1, "wrong_type_ms_played": 1}
        assert report == ImportReport(12, 9, 0, rejected, 2, 3)
        assert [(r["artist_id"], r["name"]) for r in rows(ARTISTS)] == [
            (1, 'MALICE "MIZER'),
            (2, "Diary"),
            (3, "Ona"),
        ]
        assert [(r["title"], r["artist_id"], r["tags"], r["genre"]) for r in rows(TRACKS)] == [
            ('All of MALICE "MIZER', 1, ["metal", "français"], "metal"),
            ("All of Diary", 2, None, None),
            ("All of Ona", 3, ["metal"], "metal"),
        ]
        assert {(r["user_id"], r["friend_id"]) for r in rows(FRIENDSHIPS)} == {(2, 4), (4, 2), (4, 5), (5, 4)}
        found = {(r["user_id"], r["track_id"]): r for r in rows(RAW_EVENTS)}
        assert {key: (r["day"].isoformat(), r["ms_played"]) for key, r in found.items()} == {
            (2, 1): ("2009-04-03", 1_800_000),
            (2, 2): ("2010-08-07", 86_400_000),
            (4, 3): ("2011-05-09", 180_000),
        }
        assert len({r["session_id"] for r in found.values()}) == 3
        again = run(engine, "lastfm-2k", tmp_path)
        assert (again.landed, again.duplicate, again.rejected) == (0, 9, rejected)
        assert len(rows(REJECTS)) == 3

    def test_what_is_missing_is_named(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        lastfm(tmp_path, **{"artists.dat": "id\tnome\n1\tx\n"})
        with pytest.raises(InvalidData, match="no column 'name'; did you mean 'nome'"):
            run(engine, "lastfm-2k", tmp_path)
        (tmp_path / "tags.dat.gz").unlink()
        with pytest.raises(NotFound, match=r"no tags\.dat"):
            run(engine, "lastfm-2k", tmp_path)
        with pytest.raises(InvalidData, match="name the directory"):
            run(engine, "lastfm-2k", tmp_path / "artists.dat.gz")


MAPPING = """
source = "mine"
[columns]
user_id = "who"
track_id = { columns = ["artist", "song"] }
ts = { column = "when", unit = "iso" }
type = { column = "what", values = { heard = "play", heart = "like" } }
ms_played = { column = "seconds", unit = "s" }
device = { value = "phone" }
title = "song"
artist_name = "artist"
country = "land"
"""
CSV = (
    b"who,song,artist,when,what,seconds,land\n"
    b'ana,"Night, Bus",Ona,2014-05-13T16:53:20Z,heard,61.5,de\n'
    b"ben,Terminal,Ona,2014-05-13 16:53:21,heart,,\n"
    b"ben,Terminal,Ona,yesterday,heart,,\n"
    b"too,few\n"
    b"ben,Terminal,Ona,2014-05-13 16:53:22,danced,,\n"
    b"b\xffn,Terminal,Ona,2014-05-13 16:53:22,heard,,\n"
    b",Terminal,Ona,2014-05-13 16:53:22,heard,,\n"
)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestTable:
    def test_csv_by_mapping(self, engine: DuckDBDelta, rows: Any, tmp_path: Path) -> None:
        mapping = write(tmp_path / "m.toml", MAPPING)
        report = run(engine, "table", write(tmp_path / "x.csv", CSV), mapping=mapping)
        assert report == ImportReport(
            7,
            2,
            0,
            {
                "missing_user_id": 1,
                "not_utf8_user_id": 1,
                "unknown_type": 1,
                "wrong_number_of_values": 1,
                "wrong_type_ts": 1,
            },
            2,
            2,
        )
        assert [(r["row"], r["reason"]) for r in sorted(rows(REJECTS), key=lambda r: r["row"])] == [
            (2, "wrong_type_ts"),
            (3, "wrong_number_of_values"),
            (4, "unknown_type"),
            (5, "not_utf8_user_id"),
            (6, "missing_user_id"),
        ]
        given = {r["row"]: json.loads(r["content"]) for r in rows(REJECTS) if r["row"] != 3}
        assert (given[2]["ts"], given[5]["user_id"]) == ("yesterday", "b\\xffn")
        heard, heart = sorted(rows(RAW_EVENTS), key=lambda r: r["ts"])
        assert (heard["user_id"], heard["type"], heard["ms_played"], heard["country"], heard["device"]) == (
            stable_id("mine/user", "ana"),
            "play",
            61_500,
            "DE",
            "phone",
        )
        assert (heart["type"], heart["ms_played"], heart["country"]) == ("like", None, None)
        assert heart["ts"] == (T0 + 1) * 1_000_000
        assert {r["track_id"]: r["title"] for r in rows(TRACKS)} == {
            stable_id("mine/track", "Ona\x1fNight, Bus"): "Night, Bus",
            stable_id("mine/track", "Ona\x1fTerminal"): "Terminal",
        }
        assert [r["name"] for r in rows(ARTISTS)] == ["Ona"]
        assert {r["external_id"] for r in rows(LISTENERS)} == {"ana", "ben"}
        assert run(engine, "table", tmp_path / "x.csv", mapping=mapping).landed == 0

    @pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "csv.gz", "jsonl.zst"])
    def test_every_format_gives_the_same_events(self, engine: DuckDBDelta, tmp_path: Path, form: str) -> None:
        n = 5_000
        table = pa.table(
            {
                "u": [i % 7 for i in range(n)],
                "t": [f"t{i % 11}" for i in range(n)],
                "s": [T0 + i for i in range(n)],
            }
        )
        path = tmp_path / f"x.{form}"
        mapping = '[columns]\nuser_id = "u"\ntrack_id = "t"\nts = {column = "s", unit = "s"}\ntype = {value = "play"}'
        if form == "parquet":
            pq.write_table(table, path)
        else:
            lines = [
                json.dumps(row) if "json" in form else ",".join(map(str, row.values()))
                for row in table.to_pylist()
            ]
            body = "\n".join((["u,t,s"] if "csv" in form else []) + lines).encode()
            codec = {"gz": "gzip", "zst": "zstd"}.get(form.rpartition(".")[2])
            path.write_bytes(pa.Codec(codec).compress(body).to_pybytes() if codec else body)
        report = run(engine, "table", path, mapping=write(tmp_path / "m.toml", mapping))
        assert report == ImportReport(n, n, 0, {}, 7, 11)
        events = engine.collect(engine.read(RAW_EVENTS).order_by("ts"))
        assert events["track_id"].to_pylist() == [stable_id("table/track", f"t{i % 11}") for i in range(n)]
        assert events["user_id"].to_pylist() == [i % 7 for i in range(n)]

    def test_json_may_change_its_mind_about_types(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readers, "LINES", 1)
        monkeypatch.setattr(readers, "BLOCK", 30)
        said = [5, "6", 7.0, None, True, 10**400, {"a": 1}, [2]]
        lines = [json.dumps({"u": 1, "t": 1, "s": T0 + n, "p": value}) for n, value in enumerate(said)]
        mapping = """[columns]
        user_id = "u"\ntrack_id = "t"\nposition = "p"\nts = {column = "s", unit = "s"}\ntype = {value = "play"}"""
        path = write(tmp_path / "x.jsonl", "\n".join(lines))
        report = run(engine, "table", path, mapping=write(tmp_path / "m.toml", mapping))
        assert (report.landed, report.rejected) == (4, {"wrong_type_position": 4})
        found = sorted(rows(RAW_EVENTS), key=lambda r: r["ts"])
        assert [r["position"] for r in found] == [5, 6, 7, None]
        kept = sorted(rows(REJECTS), key=lambda r: r["row"])
        assert [json.loads(r["content"])["position"] for r in kept] == [
            "True",
            "1" + "0" * 199,
            '{"a":1}',
            "['2']",
        ]

    def test_dimensions_and_events_of_one_source_agree(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path
    ) -> None:
        write(
            tmp_path / "t.jsonl",
            '{"id": "a", "name": "Night Bus", "g": "Dream Pop", "t": ["x"], "min": 3.5}\n{"id": null}\n',
        )
        dims = """source = "mine"\ntable = "tracks"\n[columns]\ntrack_id = "id"\ntitle = "name"\ngenre = "g"\ntags = "t"
        duration_ms = { column = "min", unit = "s" }"""
        events = '[columns]\nuser_id="u"\ntrack_id="t"\nts={column="s",unit="ms"}\ntype={value="play"}'
        report = run(engine, "table", tmp_path / "t.jsonl", mapping=write(tmp_path / "d.toml", dims))
        assert report == ImportReport(2, 1, 0, {"missing_track_id": 1}, 0, 1)
        assert run(engine, "table", tmp_path / "t.jsonl", mapping=tmp_path / "d.toml").duplicate == 1
        write(tmp_path / "e.csv", f"u,t,s\n1,a,{T0}000\n")
        run(
            engine,
            "table",
            tmp_path / "e.csv",
            mapping=write(tmp_path / "e.toml", 'source = "mine"\n' + events),
        )
        [track] = rows(TRACKS)
        assert (
            track["title"],
            track["genre"],
            track["tags"],
            track["duration_ms"],
            track["external_id"],
        ) == (
            "Night Bus",
            "dream pop",
            ["x"],
            3_500,
            "a",
        )
        assert [r["track_id"] for r in rows(RAW_EVENTS)] == [track["track_id"]]

    def test_friendships_go_both_ways(self, engine: DuckDBDelta, rows: Any, tmp_path: Path) -> None:
        mapping = 'table = "friendships"\n[columns]\nuser_id = "a"\nfriend_id = "b"'
        report = run(
            engine,
            "table",
            write(tmp_path / "f.csv", "a,b\n1,2\n1,3\n"),
            mapping=write(tmp_path / "m.toml", mapping),
        )
        assert (report.read, report.landed) == (2, 2)
        assert {(r["user_id"], r["friend_id"]) for r in rows(FRIENDSHIPS)} == {(1, 2), (2, 1), (1, 3), (3, 1)}

    def test_a_missing_column_is_named_with_the_nearest(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        path = write(tmp_path / "x.csv", CSV.replace(b"seconds", b"second"))
        with pytest.raises(InvalidData, match=r"no column 'seconds'.*did you mean 'second'"):
            run(engine, "table", path, mapping=write(tmp_path / "m.toml", MAPPING))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("colums = 1", "did you mean 'columns'"),
            (MAPPING + 'trak_id = "x"', "unknown key 'columns.trak_id'; did you mean 'track_id'"),
            (MAPPING.replace('column = "when"', 'colum = "when"'), "unknown key 'columns.ts.colum'"),
            (MAPPING.replace(', unit = "iso"', ""), "say the unit"),
            (MAPPING.replace('"iso"', '"hours"'), "Invalid enum value 'hours'"),
            (MAPPING.replace('unit = "s"', 'unit = "iso"'), "its unit is s or ms"),
            (MAPPING.replace('user_id = "who"', ""), "says nothing about user_id"),
            (MAPPING.replace('{ value = "phone" }', '{ value = "phone", column = "who" }'), "give one of"),
            (MAPPING.replace("[columns]", 'table = "songs"\n[columns]'), "songs"),
            ("= =", "not a TOML file"),
        ],
    )
    def test_a_wrong_mapping_is_refused_with_a_hint(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(InvalidInput, match=message.replace("(", r"\(")):
            choose_importer("table", write(tmp_path / "m.toml", text))

    @pytest.mark.parametrize("text", [b"", b"\n\n"])
    def test_an_empty_csv_is_said_to_be_empty(self, engine: DuckDBDelta, tmp_path: Path, text: bytes) -> None:
        with pytest.raises(InvalidData, match="is empty"):
            run(engine, "table", write(tmp_path / "x.csv", text), mapping=write(tmp_path / "m.toml", MAPPING))

    def test_an_unknown_format_is_asked_for(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        with pytest.raises(InvalidData, match="cannot tell its format"):
            run(engine, "table", write(tmp_path / "x.txt", CSV), mapping=write(tmp_path / "m.toml", MAPPING))


def test_importers_are_chosen_by_name(tmp_path: Path) -> None:
    assert set(IMPORTERS) == {"30music", "lastfm-2k", "listenbrainz", "table"}
    with pytest.raises(NotFound, match="did you mean 'listenbrainz'"):
        choose_importer("listenbrain")
    with pytest.raises(InvalidInput, match="needs --mapping"):
        choose_importer("table")
    with pytest.raises(InvalidInput, match="takes no mapping"):
        choose_importer("30music", tmp_path)


SONGS = "id,name,by\ns1,Night Bus,Ona\ns2,Terminal,Ona\n"
HEARD = "who,song,by,when\nana,Night Bus,Ona,1400000000\nben,Terminal,Ona,1400000100\nana,s1,,1400000200\n"
BY_ID = 'source = "shop"\ntable = "tracks"\n[columns]\ntrack_id = "id"\ntitle = "name"\nartist_name = "by"\n'
BY_NAME = BY_ID.replace('"id"', '{ columns = ["by", "name"] }')
PLAYED = (
    'source = "shop"\n[columns]\nuser_id = "who"\ntype = { value = "play" }\nts = { column = "when", unit = "s" }\n'
    'track_id = { columns = ["by", "song"] }\nartist_name = "by"\n'
)


class TestNamedInDifferentWays:
    """A catalogue and events that are both whole, and share no track."""

    def imported(
        self, engine: DuckDBDelta, folder: Path, name: str, text: str, mapping: str
    ) -> tuple[str, ...]:
        importer = choose_importer("table", write(folder / f"{name}.toml", mapping))
        *_, last = import_path(importer, write(folder / f"{name}.csv", text), engine, SMALL, now=NOW)
        return last.warnings

    def test_a_catalogue_that_no_event_names(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        assert self.imported(engine, tmp_path, "events", HEARD.rpartition("ana")[0], PLAYED) == ()
        (warning,) = self.imported(engine, tmp_path, "tracks", SONGS, BY_ID)
        assert warning.startswith("0 of these 2 tracks occur in the events")
        assert "'s1'" in warning or "'s2'" in warning
        assert "'Ona + " in warning

    def test_events_that_name_no_track_of_the_catalogue(self, engine: DuckDBDelta, tmp_path: Path) -> None:
        assert self.imported(engine, tmp_path, "tracks", SONGS, BY_ID) == ()
        (warning,) = self.imported(engine, tmp_path, "events", HEARD.rpartition("ana")[0], PLAYED)
        assert warning.startswith(
            "0 of the 2 tracks in these events were known, while 2 known tracks occur in no event"
        )
        assert "map `track_id` the same way" in warning

    def test_named_alike_there_is_nothing_to_say(
        self, engine: DuckDBDelta, rows: Any, tmp_path: Path
    ) -> None:
        assert self.imported(engine, tmp_path, "tracks", SONGS, BY_NAME) == ()
        assert self.imported(engine, tmp_path, "events", HEARD, PLAYED) == ()
        assert self.imported(engine, tmp_path, "events", HEARD, PLAYED) == (), "a second time nothing is new"
        assert {(row["title"], row["artist_id"]) for row in rows(TRACKS) if row["title"]} == {
            ("Night Bus", stable_id("shop/artist", "name:Ona")),
            ("Terminal", stable_id("shop/artist", "name:Ona")),
        }
        assert {(row["artist_id"], row["name"]) for row in rows(ARTISTS)} == {
            (stable_id("shop/artist", "name:Ona"), "Ona")
        }
