"""Who answers a request: the champion, or a recommender with what the request's variants change.

One is made for each combination of variants that is met, over the champion's bundle or over another that is open beside it. A
variant that cannot be given is not hidden: its units get what everybody gets, the log says `failed:`, and health says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from segue.bundle import Bundle, BundleStore
from segue.contracts.errors import SegueError
from segue.contracts.experiments import FAILED, Experiment, Variant
from segue.contracts.ids import new_id
from segue.contracts.ports import Log
from segue.events.changes import Stamps
from segue.experiments.definition import changed
from segue.recommend.api import Request
from segue.recommend.artifacts import Artifacts
from segue.recommend.interleave import interleaved
from segue.recommend.pipeline import Answer, ReadState, Recommender
from segue.settings.surfaces import Surface
from segue.settings.tree import Settings
from segue.wiring.catalogue import Changes
from segue.wiring.trials import Asked, Given, Trials

_log = logging.getLogger("segue.variants")
Build = Callable[[Artifacts, dict[str, Surface]], Recommender]
Treatments = tuple[tuple[str, str], ...]
KEPT = 256
"""Recommenders of combinations that are kept; with more met they are made anew, so that many layers do not fill memory."""


class Beside:
    """Bundles of variants, open beside the champion; each follows the catalogue, as the champion does."""

    def __init__(
        self, bundles: BundleStore, log: Log, stamps: Stamps, slips: Path, warm: Callable[[Bundle], Artifacts]
    ) -> None:
        self._bundles = bundles
        self._log = log
        self._stamps = stamps
        self._slips = slips
        self._warm = warm
        self._open: dict[str, tuple[Bundle, Artifacts, Changes]] = {}

    def need(self, versions: Iterable[str]) -> tuple[dict[str, Artifacts], dict[str, str]]:
        """Have these open. Returns what is, and what is wrong with the others."""
        wanted, trouble = set(versions), {}
        for version in wanted - set(self._open):
            try:
                bundle = self._bundles.open(version)
                artifacts = self._warm(bundle)
                following = Changes(self._log, artifacts, self._stamps, self._slips)
            except (SegueError, OSError) as error:
                trouble[version] = str(error)
                continue
            self._open[version] = (bundle, artifacts, following)
        return {version: self._open[version][1] for version in wanted & set(self._open)}, trouble

    def drop(self, keep: Iterable[str]) -> None:
        """Close what is needed no more, once nobody is sent there."""
        for version in set(self._open) - set(keep):
            bundle, _, following = self._open.pop(version)
            following.close()
            bundle.give_back()

    @property
    def trouble(self) -> str | None:
        """What keeps changes of the catalogue from one of them."""
        return next((f.trouble for _, _, f in self._open.values() if f.trouble is not None), None)


class Variants:
    """Answers requests over one champion and one set of experiments. Nothing is written after construction but a cache."""

    def __init__(
        self,
        champion: Recommender,
        experiments: Iterable[Experiment],
        settings: Settings,
        beside: Mapping[str, Artifacts],
        build: Build,
        read_state: ReadState,
    ) -> None:
        self.champion = champion
        self._experiments = {experiment.name: experiment for experiment in experiments}
        self._trials = Trials(self._experiments.values(), settings)
        self._settings = settings
        self._beside = {champion.artifacts.version: champion.artifacts, **beside}
        self._build = build
        self._read_state = read_state
        self.trouble: dict[str, str] = {}
        """What keeps a variant from being given, by EXPERIMENT:VARIANT."""
        self._made: dict[Treatments, Recommender] = {(): champion}
        for experiment in self._experiments.values():
            self._try_each(experiment)

    def answer(self, request: Request) -> Answer:
        """Answer one request. Raises InvalidInput, NotFound, Unavailable."""
        if not self._trials.concern(request):
            return self.champion.answer(request)
        asked = Asked(request, self.champion.artifacts.catalogue, self._read_state)
        given = self._trials.given(asked)
        shared = next((t for t in given.treatments if self._variant(t).interleave is not None), None)
        if shared is not None:
            return self._interleaved(asked.request, given, shared)
        variants, treatments = given.variants, given.treatments
        recommender = self._made.get(treatments)
        if recommender is None:
            recommender, failed = self._recommender(treatments)
            variants |= _failed(failed)
        try:
            return _answered(recommender, asked.request, given, variants)
        except SegueError:
            if recommender is self.champion:
                raise
        # What concerns the request itself, the champion says too.
        return _answered(self.champion, asked.request, given, variants | _failed(treatments))

    def _interleaved(self, request: Request, given: Given, shared: tuple[str, str]) -> Answer:
        """A page of what the request would get without a variant, and of what it would get with it.

        Where only one side can answer, the page is what it would be without, and says that the variant failed.
        """
        request_id = given.request_id or new_id()
        # Both sides see the listener as they were read once.
        read_state = cache(given.read_state or self._read_state)
        control, failed = self._recommender(tuple(t for t in given.treatments if t != shared))
        treatment, lacking = self._recommender(given.treatments)
        other = None
        if shared not in lacking:
            with suppress(SegueError):  # what concerns the request itself, the control says too
                other = treatment.answer(request, request_id=request_id, read_state=read_state)
        variants = given.variants | _failed((*failed, *(() if other is not None else (shared,))))
        one = control.answer(request, variants=variants, request_id=request_id, read_state=read_state)
        by = self._variant(shared).interleave
        return one if other is None or by is None else interleaved(one, other, by)

    def _recommender(self, treatments: Treatments) -> tuple[Recommender, Treatments]:
        """The recommender for these variants, or for those of them that can be given, and which cannot."""
        failed = tuple(t for t in treatments if ":".join(t) in self.trouble)
        possible = tuple(t for t in treatments if t not in failed)
        found = self._made.get(possible)
        if found is None:
            if len(self._made) >= KEPT:
                self._made = {(): self.champion}
            found = self._made[possible] = self._combined(possible)
        return found, failed

    def _combined(self, treatments: Treatments) -> Recommender:
        settings, artifacts = self._settings, self.champion.artifacts
        for name, chosen in treatments:
            experiment, variant = self._experiments[name], self._variant((name, chosen))
            settings = changed(settings, experiment, chosen, variant)
            if variant.bundle is not None:
                artifacts = self._beside[variant.bundle]
        return self._build(artifacts, settings.surfaces)

    def _variant(self, treatment: tuple[str, str]) -> Variant:
        name, chosen = treatment
        return self._experiments[name].variants[chosen]

    def _try_each(self, experiment: Experiment) -> None:
        """Find out what cannot be given before somebody is to get it."""
        for name, variant in experiment.variants.items():
            if not variant.changes:
                continue
            if variant.bundle is not None and variant.bundle not in self._beside:
                self.trouble[f"{experiment.name}:{name}"] = f"bundle {variant.bundle} is not open"
                continue
            try:
                self._combined(((experiment.name, name),))
            except SegueError as error:
                self.trouble[f"{experiment.name}:{name}"] = error.message


def _answered(by: Recommender, request: Request, given: Given, variants: dict[str, str]) -> Answer:
    return by.answer(request, variants=variants, request_id=given.request_id, read_state=given.read_state)


def _failed(treatments: Treatments) -> dict[str, str]:
    """As the log says it."""
    return {name: f"{FAILED}{variant}" for name, variant in treatments}
