"""A published service to send requests to: the demo's, simulated, run through the flow and trained once.

It takes some minutes to make, so it stays in the system's temporary directory until the code or the settings that make
it change. `BENCH_HOME` names a home of your own to measure instead; it must hold a published bundle.

The home page's recipe is widened so that the merge leaves its full 500 candidates, as it would on a large catalogue: the
demo's 20,000 tracks alone give some 420.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
import numpy as np

import segue
from segue.contracts.vocabulary import HOUR
from segue.listener.state import ListenerState
from segue.simulation import SimulationConfig
from segue.wiring.flow import runner_of
from segue.wiring.home import Home
from segue.wiring.simulate import simulate_into

SERVING = (
    "surfaces.home.sources.fold_in.limit=500",
    "surfaces.home.sources.graph.limit=500",
    "surfaces.home.max_candidates=520",
)
"""How requests are answered here. A few of the 520 are removed by the guarantees (private, explicit, blocked)."""
TRAINING = ("warehouse.threads=1", "training.threads=1")
SIZE = SimulationConfig()
KNOWN_PLAYS = 20
"""A known listener has at least this many plays in their state."""


def published_home() -> Home:
    """The home to measure, with the recipe above."""
    own = os.environ.get("BENCH_HOME")
    root = Path(own) if own else Path(tempfile.gettempdir()) / f"segue-bench-{_digest()}"
    if not own and not root.exists():
        _make(root)
    return Home.open(root, environ={}, overrides=SERVING)


def known_listeners(home: Home, most: int) -> list[ListenerState]:
    """Consenting listeners with plays, drawn at random."""
    found = []
    for user_id in np.random.default_rng(1).permutation(sorted(home.state.sample(1_000_000))).tolist():
        state = home.state.read(user_id)
        if state is not None and state.consent and len(state.plays) >= KNOWN_PLAYS:
            found.append(state)
        if len(found) == most:
            break
    return found


def just_after(listeners: list[ListenerState]) -> int:
    """An hour after the last play of any of them, UTC microseconds."""
    return max(int(state.plays["ts"][-1]) for state in listeners) + HOUR


def _make(root: Path) -> None:
    building = root.with_name(f"{root.name}.{os.getpid()}")
    home = Home.open(building, environ={}, overrides=TRAINING)
    simulate_into(home, SIZE, lambda day: None)
    for _ in runner_of(home).run():
        pass
    home.state.close()
    home.log.close()
    shutil.rmtree(building / "warehouse")
    building.rename(root)


def _digest() -> str:
    """Of everything a bundle depends on: the code below the command line and the server, and the settings."""
    package = Path(segue.__file__).parent
    digest = hashlib.sha256(msgspec.json.encode((SIZE, TRAINING)))
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in ("cli", "console", "load", "serving", "monitoring"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
