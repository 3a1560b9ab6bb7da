"""A whole Airflow on this machine, over one home: API server with the UI, scheduler with LocalExecutor, DAG processor.

    python tests/airflow/local_airflow.py --home .demo        # `make airflow`

It listens on 127.0.0.1, keeps everything below one folder, and ends when this process does.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
AIRFLOW = ROOT / ".airflow/bin/airflow"
SEGUE = Path(sys.prefix) / "bin/segue"
POOL = "segue_home"
PARTS = (["api-server"], ["scheduler", "--skip-serve-logs"], ["dag-processor"])
WAIT_S = 300.0
"""Far more than a machine needs that is not busy with other things."""
STOP_S = 20.0


class Api:
    """Airflow's REST API, as the one user there is."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url, timeout=30.0)

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises where it is an error."""
        answer = self._client.request(method, f"/api/v2/{path}", json=body)
        if answer.status_code == 401:
            self._client.headers["Authorization"] = f"Bearer {self._token()}"
            answer = self._client.request(method, f"/api/v2/{path}", json=body)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def until(self, path: str, holds: Any) -> Any:
        """Ask until what is answered holds. Raises TimeoutError."""
        end = time.monotonic() + WAIT_S
        answer: Any = None
        while time.monotonic() < end:
            try:
                answer = self("GET", path)
                if holds(answer):
                    return answer
            except (httpx.TransportError, RuntimeError) as error:
                answer = error
            time.sleep(1.0)
        raise TimeoutError(f"{path}: after {WAIT_S:.0f} s still {answer}")

    def _token(self) -> str:
        answer = self._client.get("/auth/token")
        answer.raise_for_status()
        return str(answer.json()["access_token"])


@contextmanager
def airflow(folder: Path, home: Path, port: int, more: dict[str, str] | None = None) -> Iterator[Api]:
    """Airflow over that home while the block runs, its DAGs known and paused. `folder` keeps its database and logs."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = environment(folder, home, port) | (more or {})
    with (folder / "migrate.log").open("w") as said:
        subprocess.run([AIRFLOW, "db", "migrate"], env=variables, stdout=said, stderr=said, check=True)
    running = [_started(folder, variables, part) for part in PARTS]
    try:
        api = Api(port)
        api.until("monitor/health", lambda health: health["scheduler"]["status"] == "healthy")
        pool = {"name": POOL, "slots": 1, "description": "a home has one writer", "include_deferred": False}
        if POOL not in {known["name"] for known in api("GET", "pools")["pools"]}:
            api("POST", "pools", pool)
        api.until("dags?tags=segue", lambda found: found["total_entries"] > 0)
        broken = api("GET", "importErrors")["import_errors"]
        if broken:
            raise RuntimeError("\n".join(error["stack_trace"] for error in broken))
        yield api
    finally:
        _stop(running)


def environment(folder: Path, home: Path, port: int) -> dict[str, str]:
    """Variables of Airflow's processes, and so of the tasks."""
    return os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SEGUE": str(SEGUE),
        "SEGUE_HOME": str(home.absolute()),
    }


def _started(folder: Path, variables: dict[str, str], part: list[str]) -> subprocess.Popen[bytes]:
    with (folder / f"{part[0]}.log").open("w") as said:
        return subprocess.Popen(
            [AIRFLOW, *part], env=variables, stdout=said, stderr=said, start_new_session=True
        )


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, how)
        end = time.monotonic() + STOP_S
        while time.monotonic() < end and any(process.poll() is None for process in running):
            time.sleep(0.2)


def main() -> None:
    """Until Ctrl-C."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--home", type=Path, required=True)
    arguments.add_argument("--port", type=int, default=8081)
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # The demo's data end on a fixed day: that yesterday's are not there is no fault.
    late = {"SEGUE_WAREHOUSE__EXPECT": "false"}
    with (
        tempfile.TemporaryDirectory(prefix="segue-airflow-") as folder,
        airflow(Path(folder), given.home, given.port, late) as api,
    ):
        print(
            f"Airflow: {api.url}/dags/segue_daily  (no login: whoever reaches it is admin)\n"
            f"tasks write {given.home.absolute()}; DAGs begin paused; logs are below {folder}\n"
            "end it with Ctrl-C",
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
