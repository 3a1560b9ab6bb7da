"""A whole request in this process: `Recommender.answer` on the home surface, its exposure record and its JSON.

CPU time of the one thread that answers, stage by stage, of known listeners in random order, after a round that warms
caches. What a request is made of: the listener's state from LMDB, seven sources, a merge to 200 candidates, guarantees and
filters, all features of the shipped ranker, three tree models, a page of 50 by maximal marginal relevance with spacing and
exploration, the shelves below it, the exposure record (encoded, as it goes to the log), and the JSON of the answer.
The service is `benchmarks/service.py`'s. There is no peer: rows are read against the goal.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import numpy as np

from benchmarks.harness import Row, at_most
from benchmarks.service import just_after, known_listeners, published_home
from segue.events.records import encode_exposure
from segue.listener.state import ListenerState
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Answer, Recommender
from segue.wiring.exposures import exposure_of
from segue.wiring.home import Home
from segue.wiring.platform import warm_up

K, LISTENERS, ROUNDS = 50, 400, 3
GOAL_MS = 5.0
WHY_K = 20

Stages = dict[str, float]
_encode = msgspec.json.Encoder().encode


def run() -> list[Row]:
    """The whole, then its stages, then what reasons add."""
    home = published_home()
    recommender = recommender_of(home)
    listeners = known_listeners(home, LISTENERS)
    now = just_after(listeners)
    requests = [Request(surface="home", user_id=state.user_id, k=K, now=now, seed=0) for state in listeners]
    # Of an answer only its size is kept: the collector would look through them all, in the time of those that follow.
    candidates = [len(timed(recommender, request)[1].candidates) for request in requests]
    measured = [timed(recommender, request)[0] for _ in range(ROUNDS) for request in requests]
    totals = [sum(stages.values()) for stages in measured]
    rows = [
        Row(
            "request: home, whole",
            _percentile(totals, 50),
            None,
            None,
            "ms CPU (p50)",
            f"p99 {_percentile(totals, 99):.2f} ms; {_shape(recommender, listeners, candidates)}",
            at_most(_percentile(totals, 50), GOAL_MS, "ms"),
        )
    ]
    for name in measured[0]:
        spent = [stages.get(name, 0.0) for stages in measured]
        detail = f"p99 {_percentile(spent, 99):.2f} ms"
        rows.append(Row(f"stage: {name}", _percentile(spent, 50), None, None, "ms CPU (p50)", detail))
    return [*rows, *_reasons(recommender, requests)]


def recommender_of(home: Home) -> Recommender:
    """What answers from a home's champion, warm, timing its stages by this thread's CPU."""
    settings = home.settings
    artifacts = Artifacts.load(home.bundles.open())
    recommender = Recommender(
        artifacts, settings.surfaces, home.state.read, settings.serving.max_k, time.thread_time
    )
    warm_up(recommender.artifacts, home.settings)
    gc.collect()
    gc.freeze()  # as the server does when it has started
    return recommender


def timed(recommender: Recommender, request: Request) -> tuple[Stages, Answer]:
    """CPU milliseconds of each stage; `rest` is what lies between the stages."""
    times = [time.thread_time()]
    answer = recommender.answer(request)
    times.append(time.thread_time())
    encode_exposure(exposure_of(answer, losers=None))
    times.append(time.thread_time())
    _encode(answer.response)
    times.append(time.thread_time())
    answering, exposure, json = (1e3 * (b - a) for a, b in pairwise(times))
    stages = {stage.name: stage.ms for stage in answer.response.trace.stages}
    rest = answering - sum(stages.values())
    return {**stages, "exposure record": exposure, "JSON": json, "rest": rest}, answer


def _reasons(recommender: Recommender, requests: list[Request]) -> Iterator[Row]:
    """The same page of WHY_K with and without a reason for each track, in turns."""
    plain, explained = [], []
    for request in requests:
        short = msgspec.structs.replace(request, k=WHY_K)
        plain.append(sum(timed(recommender, short)[0].values()))
        explained.append(sum(timed(recommender, msgspec.structs.replace(short, why=True))[0].values()))
    detail = f"p99 {_percentile(explained, 99):.2f} ms; {_percentile(plain, 50):.2f} ms without reasons"
    yield Row(
        f"request: home, k={WHY_K} with reasons",
        _percentile(explained, 50),
        None,
        None,
        "ms CPU (p50)",
        detail,
    )


def _shape(recommender: Recommender, listeners: list[ListenerState], candidates: list[int]) -> str:
    artifacts = recommender.artifacts
    plays = np.median([len(state.plays) for state in listeners])
    ranker = artifacts.rankers[recommender.surfaces["home"].scorer.ranker]
    trees = len(ranker.scorer.tree_nodes) - 1
    return (
        f"median of {np.median(candidates):.0f} candidates and {plays:.0f} plays, {len(ranker.spec.features)} features, "
        f"{trees} trees of {len(ranker.spec.objectives)} objectives, page of {K}, "
        f"{len(artifacts.catalogue):,} tracks, factors of {artifacts.retrieval.ials.item_factors.shape[1]}"
    )


def _percentile(values: list[float], q: int) -> float:
    return float(np.percentile(values, q))
