"""Who is told when a task fails for good, or a run is late.

A POST of `{"text": ...}`, which incoming webhooks of Slack, Mattermost and Google Chat take, to AIRFLOW_ALERTS_URL (Segue takes
variables named SEGUE_.. for settings of its own); without one, an error in the log. A module of its own, because a deadline's
callback is imported by its path.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any
from urllib.request import Request, urlopen

TIMEOUT_S = 10


def task_failed(context: dict[str, Any]) -> None:
    """Called behind the last attempt of a task."""
    task = context["task_instance"]
    tell(f"{task.dag_id}: {task.task_id} failed ({task.run_id}): {context.get('exception')}")


def run_late(context: dict[str, Any], limit: str) -> None:
    """Called when a run is not over by its deadline."""
    run = context["dag_run"]
    tell(f"{run['dag_id']}: {run['dag_run_id']} has been running for {limit} longer than usual")


def tell(text: str) -> None:
    """Say it where people look. What cannot be delivered is in the log."""
    logging.getLogger(__name__).error(text)
    url = os.environ.get("AIRFLOW_ALERTS_URL")
    if url:
        body = json.dumps({"text": text}).encode()
        urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=TIMEOUT_S).close()
