"""`make bench-evidence`: how often each rung of the ladder is right, measured on challengers whose true effect is known.

A simulated service (by default one of the standard size, made for the purpose) lives its coming days under a champion and
under a known challenger of its home page. That is the truth. Most challengers are held against today's home: it is hard to
improve and easy to harm, so those tell how harm is found. The others are held against a champion that is known to be worse than
they are, which tells how gains are found. Each rung then says what it expects, knowing nothing of the truth:

* offline and off-policy judge by the log of some days more, on which that very champion, exploring more than it usually does,
  answered: every champion has a copy of the service and a log of its own;
* the simulation has another seed, fewer listeners, fewer days, and wrong listeners: they do not get bored, patient or loyal as
  the true ones do; interleaving shares pages among the same wrong listeners;
* the A/B test assigns the true listeners at random: its interval should hold the truth in 95 of 100.

What comes out is kept in `src/segue/experiments/known.json`, from which `segue evidence` tells how far a rung may be believed,
and docs/reference/evidence.md is written. What was measured is kept in --work as it comes: a run that is broken off goes on, and
a rung that has been changed is asked anew with --again, without living everything once more.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import shutil  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from argparse import ArgumentParser  # noqa: E402
from concurrent.futures import ProcessPoolExecutor, as_completed  # noqa: E402
from dataclasses import replace  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from functools import cache  # noqa: E402
from multiprocessing import get_context  # noqa: E402
from pathlib import Path  # noqa: E402

import msgspec  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from benchmarks.harness import ROOT, machine  # noqa: E402
from segue.bundle import Bundle  # noqa: E402
from segue.contracts.tables import EXPOSURES, RAW_EVENTS  # noqa: E402
from segue.contracts.vocabulary import DAY  # noqa: E402
from segue.experiments.analysis import analyze  # noqa: E402
from segue.experiments.ladder import (  # noqa: E402
    AB,
    FILE,
    GOAL,
    RUNGS,
    TODAY,
    Calibration,
    Known,
    Prediction,
    Silent,
    Truth,
    records,
)
from segue.experiments.metric import Metric  # noqa: E402
from segue.experiments.offpolicy.challenger import moment  # noqa: E402
from segue.flows.steps import BUILD  # noqa: E402
from segue.recommend.artifacts import Artifacts  # noqa: E402
from segue.recommend.ranker import Ranker  # noqa: E402
from segue.settings.load import change_settings  # noqa: E402
from segue.simulation import SimulationConfig  # noqa: E402
from segue.simulation.effects import Effect, composed, true_effects  # noqa: E402
from segue.simulation.environment import NONE  # noqa: E402
from segue.simulation.service import read_config  # noqa: E402
from segue.simulation.tally import Told, unit_table  # noqa: E402
from segue.training.build import write  # noqa: E402
from segue.wiring.closed_loop import Arm, Plan, World  # noqa: E402
from segue.wiring.flow import runner_of  # noqa: E402
from segue.wiring.home import Home  # noqa: E402
from segue.wiring.reference import pages  # noqa: E402
from segue.wiring.rungs import Challenger, Ladder, Size  # noqa: E402
from segue.wiring.simulate import simulate_into  # noqa: E402
from segue.wiring.simulated_experiment import before  # noqa: E402

HOME = "surfaces.home"
OLDER = "older-bundle"
OLDER_DAYS = 28
TESTS = 50
"""A/B tests put together from the same two lives, each with an assignment of its own."""
FEWEST = 12
"""Challengers that make a record."""
KEPT = ("listens_per_listener", "minutes_per_listener", "days_active", "skip_rate", "listens_per_exposure")


def _sources(**limits: int) -> dict[str, object]:
    return {f"{HOME}.sources.{name}.limit": limit for name, limit in limits.items()}


def _weights(play: float, like: float, skip: float) -> dict[str, object]:
    return {f"{HOME}.scorer.weights": {"play": play, "like": like, "skip": skip}}


def _blend(**weights: float) -> dict[str, object]:
    every = dict.fromkeys(("graph", "fold_in", "own_plays", "co_listened", "trending", "fresh"), 0.0)
    return {f"{HOME}.scorer.ranker": "", f"{HOME}.scorer.blend": every | weights}


class Trial(msgspec.Struct, frozen=True):
    """A challenger, as settings over today's home; `champion` names the known recipe that it is held against."""

    change: str
    set: dict[str, object] = {}
    champion: str = TODAY


AGAINST_TODAY: dict[str, tuple[str, dict[str, object]]] = {
    "upside-down": ("the ranker's objectives negated", _weights(-1.0, -0.5, 0.3)),
    "explore-0": ("no exploration", {f"{HOME}.selector.explore": 0.0}),
    "popular-only": ("no ranker; what is played most of late", _blend(trending=1.0)),
    "diversity-50": ("diversity 0.5 instead of 0.1", {f"{HOME}.selector.diversity": 0.5}),
    "no-ranker": ("the blend of the sources' scores instead of the ranker", {f"{HOME}.scorer.ranker": ""}),
    "explore-30": ("explore 0.3 instead of 0.05", {f"{HOME}.selector.explore": 0.3}),
    OLDER: (f"models {OLDER_DAYS} days older, with the same ranker", {}),
    "few-candidates": ("60 candidates instead of 200", {f"{HOME}.max_candidates": 60}),
    "not-today": ("nothing played within 24 hours", {f"{HOME}.no_repeat_hours": 24.0}),
    "skip-averse": ("skips weigh five times as much", _weights(1.0, 0.5, -1.5)),
    "no-own-plays": ("without the listener's own plays as a source", _sources(own_plays=0)),
    "diversity-0": ("the order of scores", {f"{HOME}.selector.diversity": 0.0}),
    "no-fold-in": ("without the factors' source", _sources(fold_in=0)),
    "spacing-6": ("artist spacing 6 instead of 2", {f"{HOME}.selector.artist_spacing": 6}),
    "nothing-twice": ("nothing played within 30 days", {f"{HOME}.no_repeat_hours": 720.0}),
    "likes-only": ("ranked by expected likes alone", _weights(0.0, 1.0, 0.0)),
    "no-retrieval": (
        "followed, trending and fresh sources only",
        _sources(fold_in=0, graph=0, own_plays=0, co_listened=0),
    ),
    "graph-only": ("no ranker; the graph filter's score alone", _blend(graph=1.0)),
    "own-plays-first": ("no ranker; what the listener plays most", _blend(own_plays=1.0)),
    "all-drawn": (
        "every slot drawn from the pool of exploration",
        {f"{HOME}.selector.explore": 1.0, f"{HOME}.selector.explore_pool": 1000},
    ),
    "spacing-0": ("no artist spacing", {f"{HOME}.selector.artist_spacing": 0}),
    "diversity-90": ("diversity 0.9", {f"{HOME}.selector.diversity": 0.9}),
}
WORSE = ("diversity-50", "popular-only", "all-drawn", "nothing-twice", "no-retrieval")
"""Champions that today's home is known to be better than."""
KNOWN = {
    **{name: Trial(*change) for name, change in AGAINST_TODAY.items()},
    **{f"from-{name}": Trial("today's home", champion=name) for name in WORSE},
    "half-way-from-diversity-90": Trial(*AGAINST_TODAY["diversity-50"], champion="diversity-90"),
}
# One trial for each, since whoever tries it makes the log.
CHAMPIONS = list(dict.fromkeys(trial.champion for trial in KNOWN.values()))
EXPLORING: dict[str, object] = {f"{HOME}.selector.explore": 0.3}
STANDARD = SimulationConfig()
SMALL = SimulationConfig(tracks=2_000, artists=350, listeners=600, days=40)
STANDARD_SETTINGS = ["warehouse.expect=false"]
"""Days that other recipes answered are unusual on purpose."""
SMALL_SETTINGS = [
    *STANDARD_SETTINGS,
    "training.factors=16",
    "training.epochs=4",
    *(f"training.rankers.{s}.{k}" for s in ("home", "next-up") for k in ("trees=60", "requests=600")),
    "gate.max_requests=100",
]


class Job(msgspec.Struct, frozen=True):
    """What every process is told. home: the service as of the end of its history, which is not written to; logs: where a copy of
    it is for every champion, lived on under it; past: the bundle they all serve; listeners, days: of the truth."""

    home: str
    logs: str
    settings: list[str]
    past: str
    older: str
    listeners: int
    days: int
    rungs: Size


def main() -> None:
    """Measure, and write what was measured."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--home", type=Path, help="a home with a simulated service and a champion, left as it is [makes one]"
    )
    parser.add_argument(
        "--work", type=Path, help="where results are kept as they come [a temporary directory]"
    )
    parser.add_argument("--listeners", type=int, help="of the truth [all]")
    parser.add_argument("--days", type=int, default=7, help="of the truth [7]")
    parser.add_argument(
        "--small", action="store_true", help="a small service and short lives, to see it work"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing new after so long")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--again", choices=RUNGS, help="ask this rung anew of what is in --work, and keep all else"
    )
    asked = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder) / "work"
        work.mkdir(parents=True, exist_ok=True)
        settings = SMALL_SETTINGS if asked.small else STANDARD_SETTINGS
        root = asked.home or work / "home"
        home = _open(root, settings)
        if home.bundles.current() is None:
            _make(home, SMALL if asked.small else STANDARD)
        job = _prepared(home, work, settings, asked.listeners, asked.days)
        known = _known(job, work, asked.workers, started + 60 * asked.minutes, asked.again)
        config = read_config(home.truth)
    if len(known) < len(KNOWN):
        print(f"{len(known)} of {len(KNOWN)} done; go on with the same --work")
    found = Calibration(
        datetime.now(UTC).date().isoformat(),
        machine(),
        f"{config.tracks:,} tracks, {config.listeners:,} listeners, {config.days} days of history; the truth is of "
        f"{job.listeners:,} listeners over {job.days} days",
        round(sum(one.seconds for one in known)),
        [one.known for one in known],
    )
    for name, record in records(found.known).items():
        print(name, record)
    if asked.small or len(known) < FEWEST:
        print(f"not kept: a small run, or fewer than {FEWEST} challengers")
        return
    kept = ROOT / "src" / "segue" / "experiments" / FILE
    kept.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    (ROOT / "docs" / "reference" / "evidence.md").write_text(pages()["evidence.md"], encoding="utf-8")


class Done(msgspec.Struct, frozen=True):
    """A challenger that was put to everything, and seconds of CPU that took."""

    known: Known
    seconds: float


def _make(home: Home, size: SimulationConfig) -> None:
    simulate_into(home, size, lambda day: None)
    for progress in runner_of(home).run():
        if progress.state == "done":
            print(f"{progress.step} done", flush=True)


def _open(root: Path, settings: list[str]) -> Home:
    return Home.open(root, environ={}, overrides=settings)


def _copy(home: Path, to: Path, settings: list[str], champion: str, days: int) -> None:
    """A copy of the service in which a champion has answered home for some days more, and its log; nothing where it is there."""
    if to.exists():
        return
    making = to.with_name(f"{to.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(home, making)
    copy = _open(making, settings)
    world = World(copy)
    plan = Plan(("home",), days, seed=3 + _own(champion), logs=True)
    everybody = np.zeros(world.config.listeners, np.int16)
    logs = world.live([Arm("champion", EXPLORING | _set(champion))], everybody, plan).logs
    copy.engine.append(EXPOSURES, pa.concat_tables([day.exposures for day in logs]))
    copy.engine.append(RAW_EVENTS, pa.concat_tables([day.events for day in logs]))
    for _ in runner_of(copy).run([step.name for step in BUILD]):
        pass
    copy.engine.close()
    copy.state.close()
    making.rename(to)
    print(f"{days} days under {champion} logged", flush=True)


def _set(champion: str) -> dict[str, object]:
    return {} if champion == TODAY else KNOWN[champion].set


def _own(champion: str) -> int:
    """What is added to the seeds of all its lives, so that no two champions live the same."""
    return 10 * CHAMPIONS.index(champion)


def _rankers(bundle: Bundle) -> dict[str, Ranker]:
    """Those of a bundle, with their texts, so that they can be written into another."""
    return {
        name: replace(
            ranker,
            texts=tuple(
                bundle.path(f"rankers/{name}/{objective}.txt").read_text(encoding="utf-8")
                for objective in ranker.spec.objectives
            ),
        )
        for name, ranker in Artifacts.load(bundle).rankers.items()
    }


def _prepared(home: Home, work: Path, settings: list[str], listeners: int | None, days: int) -> Job:
    """The days that the past rungs judge by, which the champion has not seen, and the older bundle: made once."""
    file = work / "job.json"
    if file.exists():
        return msgspec.json.decode(file.read_bytes(), type=Job)
    everybody = read_config(home.truth).listeners
    listeners = min(listeners or everybody, everybody)
    usual = Size()  # the record is of what `segue evidence` does unless told otherwise
    size = msgspec.structs.replace(
        usual, listeners=min(usual.listeners, listeners // 3), past=4, seed=2, reactions=NONE
    )
    logs = work / "logs"
    logs.mkdir(exist_ok=True)
    _copy(home.root, logs / TODAY, settings, TODAY, size.past)
    today = Ladder(_open(logs / TODAY, settings), size, lambda what: print(what, flush=True))
    until = moment(today.days[0]) - OLDER_DAYS * DAY
    champion = home.bundles.open()
    trained = today.train(until, _rankers(champion))
    older = write(trained, today.home.bundles, home.settings, {}, lambda writer: None).version
    job = Job(str(home.root), str(logs), settings, champion.version, older, listeners, days, size)
    file.write_bytes(msgspec.json.encode(job))
    return job


def _known(job: Job, work: Path, workers: int, until: float, again: str | None) -> list[Done]:
    """All that is done, in the order of KNOWN."""
    done = {}
    for name in KNOWN:
        file = work / f"{name}.json"
        if file.exists():
            done[name] = msgspec.json.decode(file.read_bytes(), type=Done)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        asked = {pool.submit(_try, job, name, until): name for name in KNOWN if name not in done}
        if again is not None:
            asked |= {pool.submit(_again, job, name, again, one): name for name, one in done.items()}
        for future in as_completed(asked):
            one = future.result()
            if one is not None:
                name = asked[future]
                done[name] = one
                (work / f"{name}.json").write_bytes(msgspec.json.encode(one))
                truth = one.known.truth[GOAL]
                print(
                    f"{name}: {truth.relative:+.2%} \N{PLUS-MINUS SIGN} {2 * truth.error:.2%}; "
                    + ", ".join(
                        f"{rung} {said.relative:+.1%}" for rung, said in one.known.predictions.items()
                    )
                    + f" ({one.seconds:.0f} s of CPU)",
                    flush=True,
                )
    return [done[name] for name in KNOWN if name in done]


@cache
def _ladders(raw: bytes, champion: str) -> tuple[Ladder, Ladder]:
    """Of the truth, and of what is to be predicted without knowing it."""
    job = msgspec.json.decode(raw, type=Job)
    root = Path(job.logs) / champion
    _copy(Path(job.home), root, job.settings, champion, job.rungs.past)
    today = _open(root, job.settings)
    home = Home(root, change_settings(today.settings, _set(champion), champion))
    logged = change_settings(today.settings, EXPLORING | _set(champion), champion)
    true = Size(listeners=job.listeners, days=job.days, seed=1 + _own(champion))
    rungs = msgspec.structs.replace(job.rungs, seed=job.rungs.seed + _own(champion))
    return Ladder(home, true, workers=1), Ladder(home, rungs, past=job.past, logged=logged, workers=1)


def _try(job: Job, name: str, until: float) -> Done | None:
    if time.perf_counter() > until:
        return None
    started = time.process_time()
    trial = KNOWN[name]
    true, ladder = _ladders(msgspec.json.encode(job), trial.champion)
    challenger = _challenger(job, name)
    lives = true.lives(challenger)
    effects = true_effects(*lives)
    answers = [ladder.ask(rung, challenger) for rung in RUNGS]
    tested, coverage = _tests(true.home, lives, effects[GOAL], name)
    predictions = {one.rung: one for one in answers if isinstance(one, Prediction)}
    known = Known(
        name,
        trial.change,
        {
            metric: Truth(effects[metric].relative, effects[metric].standard_error / effects[metric].control)
            for metric in KEPT
        },
        predictions | {AB: tested},
        {one.rung: one.why for one in answers if isinstance(one, Silent)},
        coverage,
        trial.champion,
    )
    return Done(known, time.process_time() - started)


def _again(job: Job, name: str, rung: str, done: Done) -> Done:
    """The same, but for what one rung says."""
    ladder = _ladders(msgspec.json.encode(job), KNOWN[name].champion)[1]
    answer = ladder.ask(rung, _challenger(job, name))
    predictions = {one: said for one, said in done.known.predictions.items() if one != rung}
    silent = {one: why for one, why in done.known.silent.items() if one != rung}
    if isinstance(answer, Silent):
        silent[rung] = answer.why
    else:
        predictions[rung] = answer
    known = msgspec.structs.replace(done.known, predictions=predictions, silent=silent)
    return Done(known, done.seconds)


def _challenger(job: Job, name: str) -> Challenger:
    trial = KNOWN[name]
    if trial.champion == TODAY:
        return Challenger(name, "home", trial.set, job.older if name == OLDER else None)
    # Over another champion's settings the challenger is a whole recipe.
    settings = change_settings(_open(Path(job.home), job.settings).settings, trial.set, name)
    return Challenger(name, "home", {HOME: msgspec.to_builtins(settings.surfaces["home"])})


def _tests(home: Home, lives: tuple[Told, Told], truth: Effect, name: str) -> tuple[Prediction, float]:
    """The first of TESTS A/B tests, and the share of them all whose interval holds the truth."""
    started = time.perf_counter()
    rng = np.random.default_rng(sum(name.encode()))
    listeners, ahead = read_config(home.truth).listeners, before(home)
    held, first = 0, None
    for _ in range(TESTS):
        arm = rng.integers(0, 2, listeners).astype(np.int16)
        table = unit_table(composed(lives, arm), ["control", "treatment"], ahead)
        found = analyze(table, [Metric(GOAL)], control="control").metrics[GOAL].comparisons[0]
        assert found.effect is not None
        assert found.ci95 is not None
        held += found.ci95[0] <= truth.effect <= found.ci95[1]
        if first is None:
            low, high = found.ci95
            first = Prediction(
                AB,
                GOAL,
                truth.control,
                truth.control + found.effect,
                found.effect / truth.control,
                (low / truth.control, high / truth.control),
                f"{table.num_rows:,} listeners, half of them treated",
                time.perf_counter() - started,
            )
    assert first is not None
    return first, held / TESTS


if __name__ == "__main__":
    main()
