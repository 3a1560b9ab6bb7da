"""`segue serve` with two workers: what is said of a track is so at the next request, whichever worker answers it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from command import rows, segue
from server_process import worker_pids
from test_real_server import WAIT_S, Server, republished, tracks

from segue.bundle import BundleStore
from segue.contracts.tables import ARTISTS, EVENTS, LISTENERS, LISTENS, TRACKS
from segue.wiring.home import Home

NEW, OTHER, LATE = 900_000_001, 900_000_002, 900_000_003
ARTIST = 900_000_077


@pytest.fixture(scope="module")
def server(service: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers over a copy of the published service."""
    home = tmp_path_factory.mktemp("changed") / "home"
    shutil.copytree(service.root, home)
    running = Server(home)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="module")
def fan(service: Home) -> tuple[int, int]:
    """A listener who allows their history to be read, and the artist they listen to most."""
    people = rows(service.root, LISTENERS, "user_id", "personalization_consent").to_pylist()
    consenting = {row["user_id"] for row in people if row["personalization_consent"]}
    listens = Counter(
        (row["user_id"], row["artist_id"])
        for row in rows(service.root, LISTENS, "user_id", "artist_id").to_pylist()
        if row["user_id"] in consenting and row["artist_id"] is not None
    )
    return max(listens, key=lambda pair: (listens[pair], pair))


def workers(server: Server) -> set[int]:
    return worker_pids(server.process.pid)


def everywhere(server: Server, look: Callable[[httpx.Client], bool]) -> bool:
    """Whether it is so for twelve connections one after another: each goes to one worker or the other."""
    for _ in range(12):
        with httpx.Client(base_url=server.url, timeout=30) as client:
            if not look(client):
                return False
    return True


def put(server: Server, track_id: int, **said: Any) -> None:
    answer = server.client.put(f"/v1/tracks/{track_id}", json=said)
    assert answer.status_code == 202, answer.text


def known(track_id: int, **fields: Any) -> Callable[[httpx.Client], bool]:
    def look(client: httpx.Client) -> bool:
        answer = client.get(f"/v1/tracks/{track_id}")
        return answer.status_code == 200 and {**answer.json(), **fields} == answer.json()

    return look


def unknown(track_id: int) -> Callable[[httpx.Client], bool]:
    return lambda client: client.get(f"/v1/tracks/{track_id}").status_code == 404


def found(client: httpx.Client, words: str) -> list[int]:
    answer = client.get("/v1/search", params={"q": words, "limit": 100})
    return [track["track_id"] for track in answer.json()["tracks"]]


def page(client: httpx.Client, surface: str, **parameters: Any) -> list[int]:
    answer = client.get(f"/v1/recommendations/{surface}", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.json()["trace"].get("degraded", []) == []
    return tracks(answer.json())


# No check below waits or tries again: what is acknowledged is in effect.


def test_a_new_track_is_found_everywhere_at_once(server: Server, fan: tuple[int, int]) -> None:
    user, artist = fan
    put(server, NEW, title="Zyxwvu Nights", artist_id=artist, genre="ambient", duration_ms=200_000)
    assert everywhere(server, known(NEW, title="Zyxwvu Nights", artist_id=artist))
    assert everywhere(server, lambda client: found(client, "zyxwvu") == [NEW])
    assert everywhere(server, lambda client: NEW in page(client, "home", user_id=user, k=20))
    assert everywhere(server, lambda client: len(page(client, "related", track_id=NEW, k=20)) == 20)
    assert everywhere(server, lambda client: NEW in page(client, "station", artist_id=artist, k=100))
    follower = 777_000_888
    server.tell("follow", user_id=follower, artist_id=artist)
    assert everywhere(server, lambda client: NEW in page(client, "home", user_id=follower, k=20))


def test_by_an_artist_nobody_knew(server: Server) -> None:
    put(server, OTHER, title="Debut", artist_id=ARTIST, artist_name="Qwertz Band", explicit=True)
    assert everywhere(server, lambda client: found(client, "qwertz band") == [OTHER])
    assert everywhere(server, known(OTHER, artist="Qwertz Band", explicit=True))
    assert everywhere(server, lambda client: OTHER in page(client, "station", artist_id=ARTIST, k=5))


def test_events_about_it_count_at_once(server: Server, fan: tuple[int, int]) -> None:
    user, _ = fan
    server.tell("play", user_id=user, track_id=NEW, ms_played=199_000)
    latest = server.client.get(f"/v1/listeners/{user}").json()["plays"][0]
    assert (latest["track_id"], latest["title"], latest["listened"]) == (NEW, "Zyxwvu Nights", True)
    short = 60
    put(server, LATE, title="Interlude", duration_ms=short * 1_000 // 3)
    server.tell("play", user_id=user, track_id=LATE, ms_played=short * 1_000 // 3)
    assert server.client.get(f"/v1/listeners/{user}").json()["plays"][0]["listened"]
    stranger = 777_000_999
    server.tell("hide", user_id=stranger, track_id=NEW)
    assert ("hide", NEW) in {
        (mark["kind"], mark["target_id"])
        for mark in server.client.get(f"/v1/listeners/{stranger}").json()["marks"]
    }


def test_an_edit_replaces_what_was_there(server: Server) -> None:
    put(server, NEW, title="Asdfgh Mornings")
    assert everywhere(server, lambda client: found(client, "zyxwvu") == [])
    assert everywhere(server, lambda client: found(client, "asdfgh") == [NEW])
    assert everywhere(server, known(NEW, title="Asdfgh Mornings", genre="ambient", duration_ms=200_000))
    seen = page(server.client, "home", user_id=777_000_111, k=5)[0]
    old = server.client.get(f"/v1/tracks/{seen}").json()["title"]
    put(server, seen, title="Poiuyt")
    assert everywhere(server, lambda client: found(client, "poiuyt") == [seen])
    put(server, seen, title=old)
    assert everywhere(server, lambda client: found(client, "poiuyt") == [])


def test_what_may_not_be_shown_is_gone_at_the_next_request(server: Server, fan: tuple[int, int]) -> None:
    user, artist = fan
    for _ in range(3):
        top = page(server.client, "home", user_id=user, k=20, country="DE")[0]
        put(server, top, blocked_countries=["DE"])
        assert everywhere(
            server, lambda c, t=top: t not in page(c, "home", user_id=user, k=200, country="DE")
        )
        put(server, top, blocked_countries=[])
    top = page(server.client, "home", user_id=user, k=20)[0]
    assert server.client.delete(f"/v1/tracks/{top}").status_code == 202
    assert everywhere(server, unknown(top))
    assert everywhere(server, lambda client: top not in page(client, "home", user_id=user, k=200))
    put(server, top, public=True)
    assert everywhere(server, known(top))
    assert server.client.delete(f"/v1/tracks/{NEW}").status_code == 202
    assert everywhere(server, unknown(NEW))
    assert everywhere(server, lambda client: found(client, "asdfgh") == [])
    assert everywhere(server, lambda client: NEW not in page(client, "station", artist_id=artist, k=100))


def test_a_worker_that_is_killed_has_a_successor_that_knows(server: Server) -> None:
    before = workers(server)
    victim = max(before)
    deadline = time.monotonic() + WAIT_S
    os.kill(victim, signal.SIGKILL)
    answer = None
    while answer is None:
        # A connection the victim held is reset under its client, and a PUT may always be sent again.
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.put(f"{server.url}/v1/tracks/{LATE}", json={"title": "Said meanwhile"}, timeout=30)
        assert time.monotonic() < deadline, server.said()
    assert answer.status_code == 202, answer.text
    while not (workers(server) - before and httpx.get(f"{server.url}/readyz").status_code == 200):
        assert time.monotonic() < deadline, server.said()
        time.sleep(0.1)
    assert everywhere(server, known(LATE, title="Said meanwhile"))
    assert everywhere(server, unknown(NEW))
    put(server, LATE, title="Said after")
    assert everywhere(server, known(LATE, title="Said after"))


def test_another_bundle_keeps_the_changes_and_a_run_lands_them_once(server: Server) -> None:
    version = republished(BundleStore(server.home / "bundles"))
    deadline = time.monotonic() + WAIT_S
    while not everywhere(server, lambda c: c.get("/readyz").json().get("bundle") == version):
        assert time.monotonic() < deadline, server.said()
    assert everywhere(server, known(LATE, title="Said after"))
    assert everywhere(server, unknown(NEW))
    put(server, LATE, title="Said to the new one")
    assert everywhere(server, known(LATE, title="Said to the new one"))

    landed = segue(server.home, "run", "--no-train")
    assert landed.code == 0, landed.err
    assert " 0 rejected" in next(line for line in landed.err.splitlines() if "land catalogue" in line)
    kept = {row["track_id"]: row for row in rows(server.home, TRACKS, *TRACKS.names).to_pylist()}
    assert (kept[NEW]["title"], kept[NEW]["public"]) == ("Asdfgh Mornings", False)
    assert (kept[OTHER]["artist_id"], kept[OTHER]["explicit"]) == (ARTIST, True)
    assert kept[LATE]["title"] == "Said to the new one"
    names = rows(server.home, ARTISTS, "artist_id", "name").to_pylist()
    assert [row["name"] for row in names if row["artist_id"] == ARTIST] == ["Qwertz Band"]
    events = rows(server.home, EVENTS, "track_id", "type", "listened").to_pylist()
    plays = [row for row in events if row["track_id"] in (NEW, LATE) and row["type"] == "play"]
    assert [row["listened"] for row in plays] == [True, True]
    again = segue(server.home, "run", "--no-train")
    assert "land catalogue" not in again.err
    assert server.stop() == 0, server.said()
    assert "Traceback" not in server.said()
