"""What came of interleaved pages, out of the tables of a home: against a count by hand, and what is decided."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import msgspec
import numpy as np
import pytest

from segue.contracts.errors import InvalidData, NotFound
from segue.contracts.experiments import Metrics
from segue.contracts.tables import EXPOSURES, OUTCOMES
from segue.contracts.vocabulary import DAY
from segue.experiments.credited import decide, preferences
from segue.experiments.interleaving import Sides, preferred
from segue.experiments.offpolicy.challenger import load_shown
from segue.experiments.store import Kept
from segue.settings import Settings
from segue.settings.tree import Warehouse
from segue.wiring.home import Home
from tried_service import DAYS, SHARED, rows_of, service

END = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 1_000_000
SURFACES = ("home", "station")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    settings = Settings(warehouse=Warehouse(threads=1))
    return service(tmp_path_factory.mktemp("shared"), settings, SHARED)


def test_credits_are_what_a_count_by_hand_gives(home: Home) -> None:
    found = preferences(home.engine, Kept(SHARED), SURFACES, END)
    done = {(r["request_id"], r["position"]): r for r in rows_of(home.engine, OUTCOMES)}
    counts = Counter[tuple[str, str]]()
    listeners: set[int] = set()
    answers = Counter[str]()
    for row in rows_of(home.engine, EXPOSURES):
        said = msgspec.json.decode(row["variants"]).get("shared") if row["variants"] else None
        if said is None or row["surface"] not in SURFACES:
            continue
        answers[said] += row["position"] == 0
        if said != "treatment" or row["team"] is None:
            continue
        outcome = done[row["request_id"], row["position"]]
        counts[row["team"], "slots"] += 1
        counts[row["team"], "listened"] += outcome["listened"]
        counts[row["team"], "liked"] += outcome["liked"]
        if row["team"] != "neither":
            listeners.add(row["user_id"])
    assert found.answers == dict(answers)
    assert set(answers) >= {"treatment", "forced:treatment", "failed:treatment"}
    for goal, column in (("listens_per_exposure", "listened"), ("likes_per_exposure", "liked")):
        one = found.preferences["treatment"][goal]
        assert one.slots == sum(counts[team, "slots"] for team in ("control", "treatment", "neither"))
        assert one.credited == one.slots - counts["neither", "slots"]
        assert one.listeners == len(listeners) > 10
        assert one.credit == {team: counts[team, column] for team in ("control", "treatment")}
        assert sum(one.credit.values()) > 0
    assert (found.first, found.last, found.running) == (DAYS.first, DAYS.last, False)
    assert found.decision.verdict == "stop"  # teams were drawn by chance
    before = {
        r["user_id"]
        for r in rows_of(home.engine, EXPOSURES)
        if r["day"] < DAYS.first and r["surface"] in SURFACES
    }
    assert found.planned == round(SHARED.share * len(before))


def test_off_policy_leaves_interleaved_pages_out(home: Home) -> None:
    shared = {r["request_id"] for r in rows_of(home.engine, EXPOSURES) if r["team"] is not None}
    pages = [
        r
        for r in rows_of(home.engine, OUTCOMES)
        if r["surface"] == "home" and r["position"] == 0 and r["day"] >= DAYS.first
    ]
    plain = {r["request_id"] for r in pages} - shared
    assert 0 < len(plain) < len(pages)
    shown = load_shown(home.engine, "home", DAYS.first, DAYS.last, 100_000, 5)
    assert len(np.unique(shown.request)) == len(plain)
    assert not np.isnan(shown.propensity).any()


def test_while_it_runs_it_is_waited_for(home: Home) -> None:
    found = preferences(home.engine, Kept(SHARED), SURFACES, END - 2 * DAY - 1)
    assert found.running
    assert found.decision.said == "wait until 2026-11-22: no preference is settled yet"


def test_what_was_never_shown_is_said(home: Home) -> None:
    with pytest.raises(NotFound, match="nobody was shown its pages"):
        preferences(home.engine, Kept(msgspec.structs.replace(SHARED, name="other")), SURFACES, END)


def made(lead: float, n: int = 400) -> Sides:
    """Listeners with six credited slots, of which they listen to about half."""
    rng = np.random.default_rng(1)
    earned = rng.binomial(3, [0.5 - lead / 2, 0.5 + lead / 2], (n, 2)).astype(float)
    return Sides(np.full((n, 2), 3.0), np.full((n, 2), 6.0), earned, 0)


@pytest.mark.parametrize(
    ("leads", "until", "verdict", "said"),
    [
        ({"a": 0.3}, None, "test", "a is preferred: run an A/B test of it"),
        ({"a": -0.3}, None, "stop", "what everybody gets is preferred"),
        ({"a": 0.0}, None, "stop", "no preference was found"),
        ({"a": 0.0}, date(2026, 12, 1), "wait", "wait until 2026-12-01"),
        ({"a": -0.3}, date(2026, 12, 1), "stop", "what everybody gets is preferred"),
        ({"a": 0.2, "b": 0.4}, date(2026, 12, 1), "test", "b is preferred"),
        ({"a": -0.3, "b": 0.0}, date(2026, 12, 1), "wait", "wait until"),
    ],
)
def test_what_follows(leads: dict[str, float], until: date | None, verdict: str, said: str) -> None:
    running = until is not None
    found = {
        name: {"listens_per_exposure": preferred(made(lead), running=running, planned=400)}
        for name, lead in leads.items()
    }
    decision = decide(found, {}, until)
    assert (decision.verdict, said in decision.said) == (verdict, True), decision
    assert len(decision.reasons) == len(leads)


def test_always_valid_numbers_are_wider_and_hold_at_every_look() -> None:
    """Of equal sides, looked at after each 50 listeners, about one in twenty at most is ever called better."""
    rng = np.random.default_rng(3)
    once, ever = 0, 0
    for _ in range(300):
        earned = rng.binomial(3, 0.5, (600, 2)).astype(float)
        looks = [
            preferred(
                Sides(np.full((n, 2), 3.0), np.full((n, 2), 6.0), earned[:n], 0), running=True, planned=600
            )
            for n in range(50, 601, 50)
        ]
        ever += any(look.verdict != "open" for look in looks)
        once += any(look.lead_p < 0.05 for look in looks)
        assert looks[-1].always_valid.ci95[0] < looks[-1].lead_ci95[0]
    assert ever <= 25  # 15 at most expected
    assert once > 2 * ever


def test_a_variant_whose_sides_agree_is_silent(home: Home) -> None:
    with pytest.raises(InvalidData, match="Where rankings always agree"):
        preferred(Sides(*np.zeros((3, 0, 2)), uncredited=7))
    alike = msgspec.structs.replace(SHARED, metrics=Metrics(("likes_per_exposure",)))
    found = preferences(home.engine, Kept(alike), SURFACES, END)
    assert set(found.preferences["treatment"]) == {"likes_per_exposure"}
