"""The flow over a home directory. Apart from `home`, since it brings the libraries of training with it."""

from __future__ import annotations

from functools import partial

from segue.flows.runner import Runner
from segue.flows.steps import STEPS
from segue.wiring.engines import open_engine
from segue.wiring.home import Home


def runner_of(home: Home) -> Runner:
    """The runner of all steps."""
    return Runner(home.engine, home.settings, home.root, home, STEPS, partial(open_engine, home.warehouse))
