"""A bundle or the settings of a home, judged by the home's exposure log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final

from segue.experiments.offpolicy.challenger import ChallengerReport, Loggers, judge, moment, window
from segue.recommend.artifacts import Artifacts
from segue.recommend.pipeline import Recommender
from segue.settings import Settings
from segue.training.build import train
from segue.wiring.home import Home

SETTINGS: Final = "settings"
"""In place of a bundle's version: train as of the first day judged, as the settings say."""


def judge_policy(
    home: Home,
    policy: str,
    surface: str,
    days: int,
    pages: int,
    slots: int,
    say: Callable[[str], None],
    logged: Settings,
) -> ChallengerReport:
    """Judge a bundle by its version, or the settings, by the last days of the log, which was answered by the settings `logged`.

    Raises NotFound, InvalidInput, InvalidData.
    """
    settings = home.settings
    if policy == SETTINGS:
        first, last = window(home.engine, surface, days, None)
        trained = train(home.engine, settings, moment(first), say, factorizer=home.factorizer)
        artifacts = trained.artifacts()
    else:
        bundle = home.bundles.open(policy)
        first, last = window(home.engine, surface, days, date.fromisoformat(bundle.manifest.data_through))
        artifacts = Artifacts.load(bundle)
    recommender = Recommender(artifacts, settings.surfaces, lambda _: None, settings.serving.max_k)
    return judge(
        home.engine,
        recommender,
        settings.state,
        policy,
        surface,
        first,
        last,
        pages=pages,
        slots=slots,
        loggers=loggers(home, logged),
        progress=lambda done, total: say(f"{done:,} of {total:,} pages replayed"),
    )


def loggers(home: Home, logged: Settings) -> Loggers:
    """What answered the home's log by these settings and a bundle that is still there."""
    there = {made.version for made in home.bundles.versions()}

    def of(bundle: str) -> Recommender | None:
        if bundle not in there:
            return None
        artifacts = Artifacts.load(home.bundles.open(bundle))
        return Recommender(artifacts, logged.surfaces, lambda _: None, logged.serving.max_k)

    return of
