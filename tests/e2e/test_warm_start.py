"""A server that says it is ready has compiled everything: no listener waits for a compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from segue.wiring.home import Home

# In a process of its own, with an empty cache of compiled kernels, as on a machine that has just been set up.
FRESH = """
import itertools, json, sys, time, uuid
from contextlib import suppress
from pathlib import Path
from numba.core import event
from segue.contracts.errors import InvalidInput
from segue.recommend.api import Request
from segue.wiring.platform import open_platform

platform = open_platform(Path(sys.argv[1]), None, {}, ())
assert platform.ready()[0], platform.ready()
compiled = event.RecordingListener()
event.register("numba:compile", compiled)
user = platform.listeners("", 1)[0].user_id
shown = platform.recommend(Request("home", user, k=20, why=True)).items
now = int(time.time() * 1e6)
few = [
    {"event_id": uuid.uuid4().hex, "user_id": 2**41 + n, "type": "play", "ts": now - i * 10**6, "track_id": shown[i].track_id}
    for n in (1, 2, 3) for i in range(n)
]
receipt = platform.ingest(json.dumps(few).encode(), "application/json")
receipt.acknowledged.result(30)
assert {result.status for result in receipt.results} == {"accepted"}, receipt
seeds = [
    {},
    {"track_id": shown[0].track_id},
    {"artist_id": shown[0].artist_id},
    {"session": (shown[0].track_id, shown[1].track_id)},
]
surfaces, listeners = ("home", "station", "related", "next-up"), (user, None, 2**40, 2**41 + 1, 2**41 + 2, 2**41 + 3)
for surface, who, seed in itertools.product(surfaces, listeners, seeds):
    with suppress(InvalidInput):  # some surfaces need another kind of seed
        platform.recommend(Request(surface, who, k=10, why=True, country="DE", **seed))
platform.close()
print(json.dumps([str(found.data["dispatcher"].py_func.__qualname__) for _, found in compiled.buffer]))
"""


def test_nothing_is_compiled_for_a_request(service: Home, tmp_path: Path) -> None:
    shutil.copytree(service.root, tmp_path / "home", ignore=shutil.ignore_patterns("warehouse"))
    ran = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "home")],
        env={"NUMBA_CACHE_DIR": str(tmp_path / "kernels"), "PATH": "", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    compiled = json.loads(ran.stdout.splitlines()[-1])
    assert not compiled, compiled
