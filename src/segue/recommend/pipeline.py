"""One request, stage by stage: hydrate -> sources -> merge -> filters -> score -> select -> explain -> exposure.

The executor measures the stages; a source that fails or comes too late costs its candidates, not the request, and the
trace says so. Candidates that break a guarantee leave in one place, before anything is scored.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

from segue.contracts.errors import InvalidData, InvalidInput, SegueError, Unavailable
from segue.contracts.ids import format_id, new_id
from segue.contracts.vocabulary import Removed
from segue.listener.state import ListenerState, anonymous, unreadable
from segue.models.diversity import Selection
from segue.recommend import guarantees, shelves
from segue.recommend.api import Item, Reason, Request, Response, Shelf, Stage, Trace
from segue.recommend.artifacts import Artifacts
from segue.recommend.candidates import Candidates, checked, merge
from segue.recommend.explain import explain
from segue.recommend.filters import FILTERS, unwanted
from segue.recommend.outside import MOST, Outside
from segue.recommend.present import present
from segue.recommend.query import Query, hydrate
from segue.recommend.scorers import Scored, score
from segue.recommend.selector import choose
from segue.recommend.sources import SOURCES, Proposal
from segue.recommend.sources.popular import popular
from segue.settings.surfaces import Surface

FALLBACK = 2_000
"""Popular tracks that are tried when the sources leave slots empty."""

REASONS = (*guarantees.REASONS, *FILTERS)
"""Why a candidate was removed, in the order things are checked: it is counted under the first."""
CODES = {reason: code for code, reason in enumerate(REASONS)}

OUTSIDE: Outside[Proposal] = Outside()
"""One for the process: bundles come and go, calls that hang stay."""

ReadState = Callable[[int], ListenerState | None]


@dataclass
class Clock:
    """Collects what each stage did while a request runs. `read` gives seconds: of the wall, or of this thread's CPU."""

    read: Callable[[], float] = time.perf_counter
    stages: list[Stage] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = self._last = self.read()

    def mark(self, name: str, rows: int, degraded: str | None = None) -> None:
        """Close a stage."""
        now = self.read()
        self.stages.append(Stage(name, int((now - self._last) * 1e6) / 1000, rows, degraded))
        self._last = now
        if degraded:
            self.degraded.append(f"{name}: {degraded}")

    def elapsed_ms(self) -> float:
        """Milliseconds since the request began."""
        return (self.read() - self.started) * 1000


@dataclass(frozen=True)
class Removals:
    """Candidates that may not be shown: tracks int32[r] catalogue positions; codes int8[r], positions in REASONS."""

    tracks: npt.NDArray[np.int32]
    codes: npt.NDArray[np.int8]

    def by_reason(self) -> dict[str, npt.NDArray[np.int32]]:
        """The tracks removed for each reason that removed any."""
        return {REASONS[code]: self.tracks[self.codes == code] for code in np.unique(self.codes).tolist()}

    def counts(self) -> dict[str, int]:
        """How many were removed for each reason that removed any."""
        counted = np.bincount(self.codes, minlength=len(REASONS)).tolist()
        return {reason: count for reason, count in zip(REASONS, counted, strict=True) if count}


@dataclass(frozen=True)
class Answer:
    """A response, and what the exposure log keeps besides: the feature vectors, what lost and what was removed.

    shown int32[m]: the candidate of each slot, through all shelves.
    """

    response: Response
    query: Query
    candidates: Candidates
    scored: Scored
    shown: npt.NDArray[np.int32]
    removals: Removals

    @property
    def interleaved(self) -> bool:
        """Whether its page is of two answers; scores and rows are then those of one of them."""
        return any(item.team is not None for item in self.response.items[:1])


class Recommender:
    """Answers requests from one bundle. Thread-safe: nothing is written after construction.

    A listener whose state cannot be read is refused (Unavailable), or, `without_state` and if the request says the country,
    answered as a stranger who wants nothing explicit. `clock` is what stages are timed by; a benchmark gives
    `time.thread_time`, which busy neighbours do not stretch.
    """

    def __init__(
        self,
        artifacts: Artifacts,
        surfaces: dict[str, Surface],
        read_state: ReadState,
        max_k: int,
        clock: Callable[[], float] = time.perf_counter,
        *,
        without_state: bool = False,
    ) -> None:
        self.artifacts = artifacts
        self.surfaces = surfaces
        self._read_state = read_state
        self._max_k = max_k
        self._clock = clock
        self._without_state = without_state
        # Of each surface's settings, as answers and the exposure log name them.
        self.config = {
            name: hashlib.sha256(msgspec.json.encode(surface)).hexdigest()[:12]
            for name, surface in surfaces.items()
        }
        for name, surface in surfaces.items():
            unknown = set(surface.sources) - set(SOURCES)
            if unknown:
                raise InvalidInput(
                    f"surfaces.{name}.sources: no source is called {', '.join(sorted(unknown))}; "
                    f"there are {', '.join(SOURCES)}",
                    field=f"surfaces.{name}.sources",
                )

    def recommend(self, request: Request) -> Response:
        """Answer one request. Raises InvalidInput, NotFound."""
        return self.answer(request).response

    def answer(
        self,
        request: Request,
        *,
        variants: dict[str, str] | None = None,
        request_id: bytes | None = None,
        read_state: ReadState | None = None,
    ) -> Answer:
        """Answer one request, and keep what the exposure log wants to know.

        Whoever chose this recommender by the request's `variants` says so, and what was needed for it: the id that the answer
        is to have, the listener's state as it was read.
        """
        recipe = self._recipe(request)
        clock = Clock(self._clock)
        query = self._hydrate(request, recipe, clock, read_state or self._read_state)
        candidates, removals = self._gather(query, clock)
        scored = score(query, self.artifacts, candidates)
        clock.mark("scorer", len(candidates))
        request_id = request_id or new_id()
        selection = choose(query, self.artifacts, candidates, scored.final, dice(request, request_id))
        clock.mark("selector", len(selection.order))
        reasons = explain(query, self.artifacts, candidates, scored, selection) if request.why else None
        items, rows, shown = self._present(query, candidates, scored, selection, reasons)
        lost = len(candidates) - len(shown)
        clock.mark("present", len(items))
        response = Response(
            request_id=format_id(request_id),
            surface=request.surface,
            user_id=request.user_id,
            ts=query.now,
            bundle=self.artifacts.version,
            config=self.config[request.surface],
            items=items,
            shelves=rows,
            trace=Trace(
                tuple(clock.stages),
                removals.counts() | ({Removed.LOST: lost} if lost else {}),
                query.personal,
                tuple(clock.degraded),
                variants or {},
            ),
        )
        return Answer(response, query, candidates, scored, shown, removals)

    def gather(self, request: Request, state: ListenerState) -> tuple[Query, Candidates]:
        """The query and the candidates of a request, up to and without scoring: what training samples are drawn from.

        Here the clock stands still: how busy the machine is must not decide what is learnt and judged.
        """
        recipe = self._recipe(request)
        query = hydrate(request, recipe, self.artifacts, state, _moment(request))
        return query, self._gather(query, Clock(lambda: 0.0))[0]

    def rank(self, request: Request, state: ListenerState) -> npt.NDArray[np.int64]:
        """Ids of the k best tracks by score alone, without page selection or exploration. int64[m], m <= k."""
        query, candidates = self.gather(request, state)
        final = score(query, self.artifacts, candidates).final
        best = np.argsort(-final, kind="stable")[: request.k]
        ids: npt.NDArray[np.int64] = self.artifacts.catalogue.track_id[candidates.tracks[best]]
        return ids

    def _gather(self, query: Query, clock: Clock) -> tuple[Candidates, Removals]:
        proposals = self._proposals(query, clock)
        candidates, removals = _merge_and_filter(query, proposals)
        clock.mark("merge and filter", len(candidates))
        if len(candidates) < query.request.k:
            proposals["popular"] = popular(query, self.artifacts, FALLBACK)
            candidates, removals = _merge_and_filter(query, proposals)
            clock.mark("fallback", len(candidates))
        return candidates, removals

    def _recipe(self, request: Request) -> Surface:
        recipe = self.surfaces.get(request.surface)
        if recipe is None:
            raise InvalidInput(
                f"surface: {request.surface!r} is none of {', '.join(self.surfaces)}",
                field="surface",
                limit=", ".join(self.surfaces),
            )
        if not 1 <= request.k <= self._max_k:
            raise InvalidInput(
                f"k: {request.k} is out of range; ask for 1 to {self._max_k} items (serving.max_k)",
                field="k",
                limit=f"1..{self._max_k}",
            )
        return recipe

    def _hydrate(self, request: Request, recipe: Surface, clock: Clock, read_state: ReadState) -> Query:
        degraded = None
        try:
            state = read_state(request.user_id) if request.user_id is not None else None
        except Unavailable as error:
            if not self._without_state or request.country is None:
                raise
            state = unreadable(request.user_id)
            degraded = f"without listener state: {error.message}"
        if state is None:
            state = anonymous(-1 if request.user_id is None else request.user_id, request.country)
        query = hydrate(request, recipe, self.artifacts, state, _moment(request))
        clock.mark("hydrate", len(query.state.plays), degraded)
        return query

    def _proposals(self, query: Query, clock: Clock) -> dict[str, Proposal]:
        """What the sources propose, in the recipe's order. Those that wait for something outside begin first, and end last."""
        found: dict[str, Proposal] = {}
        begun = clock.read()
        asked = {
            name: OUTSIDE.ask(name, partial(SOURCES[name], query, self.artifacts, source.limit))
            for name, source in query.recipe.sources.items()
            if source.limit and source.deadline_ms
        }
        for name, source in query.recipe.sources.items():
            if source.limit == 0 or name in asked:
                continue
            if clock.elapsed_ms() > query.recipe.deadline_ms:
                clock.mark(name, 0, f"left out: the request is past its {query.recipe.deadline_ms} ms")
                continue
            try:
                found[name] = self._checked(SOURCES[name](query, self.artifacts, source.limit))
            except (SegueError, ArithmeticError, LookupError, ValueError) as error:
                clock.mark(name, 0, f"failed: {error}")
                continue
            clock.mark(name, len(found[name][0]))
        for name, future in asked.items():
            allowed = min(query.recipe.sources[name].deadline_ms, query.recipe.deadline_ms)
            answer = self._collected(future, begun + allowed / 1000 - clock.read(), allowed)
            if isinstance(answer, str):
                clock.mark(name, 0, answer)
            else:
                found[name] = answer
                clock.mark(name, len(answer[0]))
        return {name: found[name] for name in query.recipe.sources if name in found}

    def _collected(self, future: Future[Proposal] | None, patience: float, allowed: int) -> Proposal | str:
        """What a source outside proposed, waiting at most `patience` seconds for it; or why there is nothing."""
        if future is None:
            return f"left out: {MOST} earlier calls have not ended"
        if not wait((future,), max(patience, 0.0)).done:
            return f"left out: no answer within {allowed} ms"
        error = future.exception()
        if error is not None:
            return f"failed: {type(error).__name__}: {error}"
        try:
            return self._checked(future.result())
        except (InvalidData, TypeError, ValueError) as unusable:
            return f"failed: {unusable}"

    def _checked(self, proposal: Proposal) -> Proposal:
        return checked(proposal, len(self.artifacts.catalogue))

    def _present(
        self,
        query: Query,
        candidates: Candidates,
        scored: Scored,
        selection: Selection,
        reasons: list[Reason] | None,
    ) -> tuple[tuple[Item, ...], tuple[Shelf, ...], npt.NDArray[np.int32]]:
        """The page as items, on the home page its shelves, and the candidates shown; slots are counted through all shelves."""
        home = query.request.surface == "home"
        below = shelves.rows(query, self.artifacts, candidates, scored.final, selection.order) if home else []
        shown = np.concatenate([selection.order, *(row.rows for row in below)])
        everything = present(
            self.artifacts.catalogue, candidates, scored, shown, selection.propensity, reasons or []
        )
        slot = len(selection.order)
        items = everything[:slot]
        if not home:
            return items, (), shown
        found = [Shelf("for_you", "Made for you" if query.personal else "Popular now", items)]
        for row in below:
            found.append(Shelf(row.name, row.title, everything[slot : slot + len(row.rows)]))
            slot += len(row.rows)
        return items, tuple(found), shown


def dice(request: Request, request_id: bytes, stream: int = 0) -> np.random.Generator:
    """Random numbers of one request, in independent streams, by its seed if it has one, else by its id."""
    seed = request.seed if request.seed is not None else int.from_bytes(request_id[8:], "big")
    philox = np.random.Philox(_Key(seed, stream))  # type: ignore[arg-type] # its stub knows one kind of seed
    return np.random.Generator(philox)


class _Key(ISeedSequence):
    """Seed and stream as the two words of Philox's key. Given a key by name, Philox first asks the system for a seed that it then
    leaves unused, which costs more than all that a request draws.
    """

    def __init__(self, *words: int) -> None:
        self._words = np.array(words, np.uint64)

    def generate_state(self, n_words: int, dtype: npt.DTypeLike = np.uint32) -> npt.NDArray[np.uint64]:
        """The words: Philox asks for two of 64 bits."""
        return self._words


def _moment(request: Request) -> int:
    return request.now if request.now is not None else time.time_ns() // 1000


def _merge_and_filter(query: Query, proposals: dict[str, Proposal]) -> tuple[Candidates, Removals]:
    """What may be shown, and what was removed for which reason. Guarantees come first and always hold."""
    candidates = merge(proposals, max(query.recipe.max_candidates, 2 * query.request.k))
    removed = guarantees.broken(query, candidates.tracks)
    for reason, mask in unwanted(query, candidates.tracks):
        removed[mask & (removed < 0)] = CODES[reason]
    gone = removed >= 0
    return candidates.keep(~gone), Removals(candidates.tracks[gone], removed[gone])
