"""The DAGs are sound, and are the registry's steps. Runs in Airflow's environment: `make airflow-test`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time import macros
from airflow.sdk.module_loading import import_string

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dags"
DAGS = (
    "segue_landing",
    "segue_daily",
    "segue_training",
    "segue_backfill",
    "segue_maintenance",
    "segue_erasure",
)


@pytest.fixture(scope="module")
def bag() -> BundleDagBag:
    """The DAGs as the DAG processor finds them."""
    return BundleDagBag(FOLDER, bundle_path=FOLDER, bundle_name="dags")


@pytest.fixture(scope="module")
def registry() -> dict[str, dict[str, Any]]:
    """The steps as Segue knows them now, whatever dags/steps.json says."""
    said = subprocess.run(
        [ROOT / ".venv/bin/segue", "step", "list", "--json"], capture_output=True, check=True
    )
    return {step["step"]: step for step in json.loads(said.stdout)}


def test_they_are_found_without_an_error(bag: BundleDagBag) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == set(DAGS)


def test_none_needs_segue_to_be_read(bag: BundleDagBag) -> None:
    assert bag.dags
    assert not [name for name in sys.modules if name == "segue" or name.startswith("segue.")]


def test_the_edges_are_the_registrys(bag: BundleDagBag, registry: dict[str, dict[str, Any]]) -> None:
    """Within a DAG by its tasks, from DAG to DAG by the assets that one writes and the other waits for."""
    wanted = {(before, name) for name, step in registry.items() for before in step["after"]}
    daily, training = bag.dags["segue_daily"], bag.dags["segue_training"]
    found = {
        (before, task.task_id)
        for dag in (daily, training)
        for task in dag.tasks
        for before in task.upstream_task_ids
    }
    writer = {asset.uri: task.task_id for task in daily.tasks for asset in task.outlets}
    awaited = {asset.uri for asset in training.timetable.asset_condition.objects}
    found |= {(writer[uri], "train") for uri in awaited}
    # What training reads besides: there before, since a step of its own DAG comes behind it.
    found |= {
        (before, name)
        for name in training.task_dict
        for before in registry[name]["after"]
        if before in daily.task_dict and (before, "train") in found
    }
    assert found == wanted
    upkeep = bag.dags["segue_maintenance"]
    assert {task.task_id for dag in (daily, training, upkeep) for task in dag.tasks} == set(registry)
    assert set(upkeep.task_dict) == {n for n, step in registry.items() if step["partition"] == "upkeep"}


def test_a_backfill_has_the_edges_of_the_tables(
    bag: BundleDagBag, registry: dict[str, dict[str, Any]]
) -> None:
    dag = bag.dags["segue_backfill"]
    assert set(dag.task_dict) == {n for n, step in registry.items() if step["partition"] in ("log", "day")}
    assert {name: task.upstream_task_ids for name, task in dag.task_dict.items()} == {
        name: set(registry[name]["after"]) for name in dag.task_dict
    }
    assert not any(task.outlets for task in dag.tasks), "old days do not start a training"


@pytest.mark.parametrize("dag_id", DAGS)
def test_every_task_can_be_tried_again_and_ends(bag: BundleDagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert dag.topological_sort()
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert dag.deadline
    for task in dag.tasks:
        assert task.retries >= 2
        assert task.retry_exponential_backoff
        assert timedelta(0) < task.execution_timeout <= timedelta(hours=6)
        assert task.pool == "segue_home"
        assert task.do_xcom_push is False
        assert task.on_failure_callback
        wanted = ["erase", "--queued"] if dag_id == "segue_erasure" else ["step", "run", task.task_id]
        assert task.arguments[: len(wanted)] == wanted


@pytest.mark.parametrize(
    ("status", "raised"), [(0, None), (1, AirflowException), (2, AirflowException), (3, AirflowFailException)]
)
def test_a_refusal_is_not_tried_again_and_a_failure_is(
    bag: BundleDagBag, monkeypatch: pytest.MonkeyPatch, status: int, raised: type[Exception] | None
) -> None:
    monkeypatch.setenv("SEGUE", f"sh -c 'echo said \"$*\"; exit {status}' segue")
    publish = bag.dags["segue_training"].task_dict["publish"]
    if raised is None:
        assert publish.execute({}) is None
    else:
        with pytest.raises(raised, match="said step run publish --alone --wait 600") as caught:
            publish.execute({})
        assert type(caught.value) is raised


def test_who_is_told_gets_what_failed(bag: BundleDagBag, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("AIRFLOW_ALERTS_URL", f"http://127.0.0.1:{server.server_port}/")
        late = bag.dags["segue_daily"].deadline[0].callback
        assert late.path == "segue_alerts.run_late"
        run = {"dag_id": "segue_daily", "dag_run_id": "scheduled__1"}
        import_string(late.path)(context={"dag_run": run}, **late.kwargs)
    assert heard == [{"text": "segue_daily: scheduled__1 has been running for 3:00:00 longer than usual"}]


@pytest.mark.parametrize(
    ("day", "interval", "wanted"),
    [
        (None, datetime(2026, 11, 24, 3, tzinfo=UTC), "2026-11-24"),
        (None, None, "2026-11-24"),
        ("2026-11-01", datetime(2026, 11, 24, 3, tzinfo=UTC), "2026-11-01"),
    ],
)
def test_which_day_a_run_is_for(
    bag: BundleDagBag, day: str | None, interval: datetime | None, wanted: str
) -> None:
    dag = bag.dags["segue_daily"]
    run = SimpleNamespace(data_interval_start=interval, run_after=datetime(2026, 11, 25, 3, tzinfo=UTC))
    context = {"params": {"day": day}, "dag_run": run, "macros": macros}
    events = dag.task_dict["events"]
    rendered = events.render_template(events.arguments, context, dag.get_template_env())
    assert rendered == ["step", "run", "events", "--alone", "--date", wanted, "--wait", "600"]
