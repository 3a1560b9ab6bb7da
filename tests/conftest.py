"""A small music service, simulated, run through the whole flow and published once per test process."""

from __future__ import annotations

import hypothesis
import pytest
from threadpoolctl import threadpool_limits

from segue.wiring.home import Home
from small_service import SETTINGS, build

pytest_plugins = ["real_stores", "real_engines"]
# No test asserts a time: the first example may load a library, and the machine may be busy.
hypothesis.settings.register_profile("segue", deadline=None)
hypothesis.settings.load_profile("segue")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As every process of Segue: one thread per matrix product."""
    threadpool_limits(limits=1)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a published bundle and filled listener state. Tests must not publish into it."""
    home = Home.open(tmp_path_factory.mktemp("service"), environ={}, overrides=SETTINGS)
    build(home)
    return home
