"""Segue's flow in Airflow: a task calls `segue step run NAME`, in the order that Segue's own registry of steps gives.

`steps.json` is that registry, written by `make docs` and held equal to it by a test. This file does not import Segue, which
has an environment of its own. Variables of the workers: SEGUE, the command (default `segue`; `ssh host segue` is one, too);
SEGUE_HOME, absolute; AIRFLOW_ALERTS_URL, see segue_alerts.py. The pool `segue_home` has one slot, since a home has one writer.
"""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import (
    DAG,
    Asset,
    AssetAll,
    BaseOperator,
    CronDataIntervalTimetable,
    DeadlineAlert,
    DeadlineReference,
    Param,
    SyncCallback,
)
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from segue_alerts import run_late, task_failed

STEPS = {step["step"]: step for step in json.loads(Path(__file__).with_name("steps.json").read_text())}
POOL = "segue_home"
REFUSED = 3
"""Exit status of `segue step run publish` where the gate refused the challenger."""
WAIT_S = 600
"""How long a task waits for a writer of the home that is no task: an import, a run by hand, a task whose worker was lost."""
TIMEOUTS = {"train": timedelta(hours=6)}
TIMEOUT = timedelta(hours=2)
DAY = (
    "{{ params.day or ((dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1)) | ds) }}"
)
"""The day that is asked for, the one that the schedule means, or yesterday for a run that was started by hand."""


class SegueStep(BaseOperator):
    """One command of Segue, as a rule a step. Bytes go through Segue's tables, never through Airflow."""

    template_fields = ("arguments",)

    def __init__(self, *, arguments: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.arguments = arguments

    @cached_property
    def process(self) -> SubprocessHook:
        """The command at work."""
        return SubprocessHook()

    def execute(self, context: Any) -> None:
        """Run the command; its lines are the task's log. A challenger that the gate refused is not tried again."""
        command = [*shlex.split(os.environ.get("SEGUE", "segue")), *(part for part in self.arguments if part)]
        done = self.process.run_command(command)
        if done.exit_code == REFUSED:
            raise AirflowFailException(f"the gate refused the challenger, the champion stays: {done.output}")
        if done.exit_code:
            raise AirflowException(f"{shlex.join(command)}: exit status {done.exit_code}: {done.output}")

    def on_kill(self) -> None:
        """End the step. What it had not committed is gone, what it had is whole."""
        self.process.send_sigterm()


def asset(table: str) -> Asset:
    """A table of Segue, or what else a step writes."""
    return Asset(name=f"segue_{table}", uri=f"segue://home/{table}")


def tasks(names: list[str], days: list[str], *, outlets: bool = True) -> None:
    """A task for each of the steps, behind those whose tables it reads. `days` are the options of those that have days."""
    made = {}
    for name in names:
        alone = [] if name == "land" else ["--alone", *days]
        made[name] = SegueStep(
            task_id=name,
            arguments=["step", "run", name, *alone, "--wait", str(WAIT_S)],
            doc_md=STEPS[name]["doc"],
            outlets=[asset(table) for table in STEPS[name]["writes"]] if outlets else [],
            execution_timeout=TIMEOUTS.get(name, TIMEOUT),
        )
        made[name].set_upstream([made[before] for before in STEPS[name]["after"] if before in made])


def flow(dag_id: str, doc: str, *, late: timedelta, **kwargs: Any) -> DAG:
    """A DAG whose tasks may be tried again at any time: what a step writes is whole or not there, and the same again."""
    return DAG(
        dag_id,
        description=doc,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags=["segue"],
        # Later than usual by so much. Not so long behind its queueing: Airflow 3.3.2 could not clear tasks of such a run.
        deadline=DeadlineAlert(
            reference=DeadlineReference.AVERAGE_RUNTIME(max_runs=10, min_runs=1),
            interval=late,
            callback=SyncCallback(run_late, {"limit": str(late)}),
        ),
        default_args={
            "owner": "segue",
            "pool": POOL,
            "retries": 3,
            "retry_delay": timedelta(seconds=30),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=15),
            "do_xcom_push": False,
            "on_failure_callback": task_failed,
        },
        **kwargs,
    )


def behind(first: str) -> list[str]:
    """A step and all that come behind it."""
    found = [first]
    for name, step in STEPS.items():
        if name not in found and set(step["after"]) & set(found):
            found.append(name)
    return found


TRAINING = behind("train")
UPKEEP = [name for name, step in STEPS.items() if step["partition"] == "upkeep"]
DAILY = [name for name in STEPS if name not in TRAINING and name not in UPKEEP]

with flow(
    "segue_landing", "What servers logged, into tables.", late=timedelta(hours=1), schedule="7 * * * *"
):
    tasks(["land"], [])

with flow(
    "segue_daily",
    "The tables of a day that is over, and of earlier days that late events changed; then listener state.",
    late=timedelta(hours=3),
    # The run of the day D comes at three o'clock of the day after, when its phones have sent what they had.
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    params={
        "day": Param(None, type=["null", "string"], format="date", description="UTC day; the run's, if empty")
    },
):
    tasks(DAILY, ["--date", DAY])

with flow(
    "segue_training",
    "A challenger from the newest tables, the gate, and the champion if it passes.",
    late=timedelta(hours=8),
    schedule=AssetAll(*(asset(table) for table in STEPS["train"]["reads"])),
):
    # Without --date: the tables have whole days only, and after a backfill of old ones the newest still counts.
    tasks(TRAINING, [])

with flow(
    "segue_backfill",
    "The tables of some days. What reads them from later days, and training, follow with the next daily run.",
    late=timedelta(hours=12),
    schedule=None,
    params={
        "from": Param(type="string", format="date", description="first UTC day"),
        "to": Param(type="string", format="date", description="last UTC day"),
        "force": Param(False, type="boolean", description="build also what is up to date"),
    },
):
    tasks(
        [name for name in DAILY if STEPS[name]["partition"] in ("log", "day")],
        [
            "--from",
            "{{ params['from'] }}",
            "--date",
            "{{ params.to }}",
            "{{ '--force' if params.force else '' }}",
        ],
        outlets=False,
    )

with flow(
    "segue_maintenance",
    "Days that are kept no longer dropped, small files merged, files that nobody needs deleted.",
    late=timedelta(hours=3),
    schedule="30 1 * * 0",
):
    tasks(UPKEEP, [])

with flow(
    "segue_erasure",
    "Listeners who asked to be forgotten, out of everything. Before the daily flow, which then counts without them.",
    late=timedelta(hours=3),
    schedule="0 2 * * *",
):
    SegueStep(
        task_id="erase",
        arguments=["erase", "--queued", "--wait", str(WAIT_S)],
        doc_md="Erase those whom the file `erase.txt` in the home names, one a line.",
        execution_timeout=TIMEOUT,
    )
