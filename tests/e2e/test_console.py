"""The listener's page and the API page, driven in Chromium against a real server."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, ViewportSize, expect, sync_playwright
from server_process import Running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
Scheme = Literal["dark", "light"]
BIG_TRACK, BIG_USER = 2**62 + 12345, 2**61 + 7
CRASHES, NO_CONSENT = 900_001, 58

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed; on Debian: apt-get install -y chromium"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for this module."""
    running = Running(tmp_path_factory.mktemp("console"), workers=1)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """One visitor: a page, what it asked for, and what went wrong on it."""

    def __init__(
        self, browser: Browser, server: Running, size: ViewportSize, scheme: Scheme = "dark"
    ) -> None:
        self.server = server
        self.context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(8_000)
        self.asked: list[str] = []
        self.troubles: list[str] = []
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.on("pageerror", lambda e: self.troubles.append(str(e)))
        self.page.on("dialog", self._alarmed)
        self.page.on("console", self._heard)

    def go(self, path: str) -> Page:
        """Open a path of the server."""
        self.page.goto(f"{self.server.url}{path}")
        return self.page

    def events(self, kind: str, user: int) -> list[dict[str, Any]]:
        """Events of that kind that the server has kept, oldest first."""
        rows = (msgspec.json.decode(line) for line in self.server.events.read_bytes().splitlines())
        return [row for row in rows if row["type"] == kind and row["user_id"] == user]

    def wait_for(self, kind: str, user: int, count: int = 1) -> list[dict[str, Any]]:
        """Those events, once there are `count`."""
        found: list[dict[str, Any]] = wait(lambda: self.events(kind, user), lambda found: len(found) >= count)
        return found

    def close(self) -> None:
        """End the visit; nothing may have gone wrong and nothing may have come from elsewhere."""
        self.context.close()
        assert self.troubles == []
        elsewhere = [url for url in self.asked if not url.startswith((self.server.url, "data:"))]
        assert elsewhere == []

    def _alarmed(self, dialog: Dialog) -> None:
        self.troubles.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _heard(self, message: Any) -> None:
        # A failed request is written to the console by the browser itself; the page shows it to the visitor.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.troubles.append(message.text)


def wait(look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """What `look` sees, once it is enough."""
    deadline = time.monotonic() + 8
    while not enough(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Visit]:
    """A visitor with a large screen."""
    visitor = Visit(browser, server, DESKTOP)
    yield visitor
    visitor.close()


def first_card(page: Page) -> Locator:
    """The first card of the first shelf that shows a track: while an answer is awaited, empty cards stand there."""
    return page.locator(".shelf .card[data-track]").first


def track_of(node: Locator) -> int:
    """The id of the track on a card or a row."""
    return int(node.get_attribute("data-track") or "the card has no track")


def card_of(page: Page, track: int) -> Locator:
    """Where the page shows a track."""
    return page.locator(f'[data-track="{track}"]')


def settled(page: Page) -> None:
    """Wait until the page has its answer."""
    expect(page.locator("#main")).to_have_attribute("aria-busy", "false")


# --- finding one's way -----------------------------------------------------------------------------------------------


def test_choosing_a_listener_leads_to_their_shelves(visit: Visit) -> None:
    page = visit.go("/")
    expect(page.locator(".person")).to_have_count(12)
    page.get_by_label("Find a listener").fill("12")
    expect(page.locator(".person")).to_have_count(1)
    page.locator(".person").click()
    expect(page.locator("#who")).to_contain_text("Listener 12")
    expect(page.get_by_role("heading", name="Made for you")).to_be_visible()
    expect(page.locator(".shelf")).to_have_count(3)
    expect(page.locator(".again .tile").first).to_be_visible()
    expect(first_card(page).locator(".because")).to_contain_text("You play a lot of")
    page.locator("#who a").click()
    expect(page.get_by_role("link", name="Listener 12", exact=True)).to_be_visible()
    page.get_by_label("Find a listener").fill("nobody")
    expect(page.get_by_text("Nobody is known as")).to_be_visible()


def test_someone_new_gets_an_answer_that_is_not_personal(visit: Visit) -> None:
    page = visit.go("/")
    page.get_by_role("button", name="Someone new").click()
    expect(page.locator("#who")).to_contain_text("new here")
    page.locator(".trace-button").click()
    expect(page.get_by_role("dialog")).to_contain_text("no history was read")


def test_without_consent_no_history_is_shown(visit: Visit) -> None:
    page = visit.go(f"/#/{NO_CONSENT}/history")
    expect(page.get_by_text("does not allow their history to be read")).to_be_visible()
    expect(page.locator("#who")).to_contain_text("no consent")


# --- saying something and being heard --------------------------------------------------------------------------------


def test_a_like_is_kept_and_can_be_taken_back(visit: Visit) -> None:
    page = visit.go("/#/21/home")
    track = track_of(first_card(page))
    heart = card_of(page, track).locator('[data-do="like"]').first
    heart.click()
    expect(heart).to_have_attribute("aria-pressed", "true")
    like = visit.wait_for("like", 21)[0]
    assert like["track_id"] == track
    assert like["surface"] == "home"
    assert like["position"] == 0
    page.reload()
    heart = card_of(page, track).locator('[data-do="like"]').first
    expect(heart).to_have_attribute("aria-pressed", "true")
    heart.click()
    visit.wait_for("unlike", 21)
    expect(card_of(page, track).locator('[data-do="like"]').first).to_have_attribute("aria-pressed", "false")


def test_a_hidden_track_is_gone_from_this_answer_and_the_next(visit: Visit) -> None:
    page = visit.go("/#/22/home")
    track = track_of(first_card(page))
    first_card(page).locator('[data-do="hide"]').click()
    expect(card_of(page, track)).to_have_count(0)
    assert visit.wait_for("hide", 22)[0]["track_id"] == track
    page.reload()
    expect(first_card(page)).to_be_visible()
    expect(card_of(page, track)).to_have_count(0)
    page.locator(".trace-button").click()
    expect(page.get_by_role("dialog")).to_contain_text("hidden by the listener")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("heading", name="Never again")).to_be_visible()


def test_a_blocked_artist_is_gone_with_all_tracks(visit: Visit) -> None:
    page = visit.go("/#/23/home")
    artist = first_card(page).locator(".sub").inner_text()
    first_card(page).locator('[data-do="why"]').click()
    page.get_by_role("button", name=f"Block {artist}").click()
    visit.wait_for("block_artist", 23)
    expect(page.locator(".card .sub").get_by_text(artist, exact=True)).to_have_count(0)


def test_what_the_server_refuses_is_taken_back_and_said(visit: Visit) -> None:
    page = visit.go("/#/24/home")
    heart = first_card(page).locator('[data-do="like"]')
    refusal = {"status": 400, "title": "No", "detail": "likes are closed today"}
    page.route("**/v1/events", lambda r: r.fulfill(status=400, json=refusal))
    heart.click()
    expect(page.locator(".toast.bad")).to_contain_text("likes are closed today")
    expect(first_card(page).locator('[data-do="like"]')).to_have_attribute("aria-pressed", "false")
    page.unroute("**/v1/events")


# --- reasons ---------------------------------------------------------------------------------------------------------


def test_why_this_shows_the_reasons_and_gives_the_keyboard_back(visit: Visit) -> None:
    page = visit.go("/#/9/home")
    why = first_card(page).locator('[data-do="why"]')
    why.focus()
    page.keyboard.press("Enter")
    sheet = page.get_by_role("dialog")
    for words in (
        "You play a lot of",
        "Because of",
        "3 plays",
        "Genre affinity",
        "+0.42",
        "\N{MINUS SIGN}0.13",
        "exploration",
    ):
        expect(sheet).to_contain_text(words)
    expect(sheet).to_contain_text("5.0 %, given the slots before it")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(why).to_be_focused()


def test_the_trace_shows_stages_and_what_was_left_out(visit: Visit) -> None:
    page = visit.go("/#/9/station?track_id=7")
    expect(page.locator(".heading-tools")).to_contain_text("1 part left out")
    page.locator(".trace-button").click()
    sheet = page.get_by_role("dialog")
    expect(sheet.locator(".stages > li")).to_have_count(5)
    expect(sheet).to_contain_text("no answer within 50 ms")
    expect(sheet).to_contain_text("2026-11-21-4f1c")


# --- playing ---------------------------------------------------------------------------------------------------------


def test_plays_and_skips_are_told_apart_and_lead_to_next_up(visit: Visit) -> None:
    page = visit.go("/#/25/home")
    first, second = (track_of(page.locator(".shelf .card[data-track]").nth(n)) for n in (0, 1))
    first_card(page).locator(".cover").click()
    player = page.get_by_role("region", name="Player")
    expect(player.get_by_role("button", name="Pause")).to_be_visible()
    player.get_by_role("button", name="Skip").click()
    skip = visit.wait_for("skip", 25)[0]
    assert skip["track_id"] == first
    assert 0 <= skip["ms_played"] < 30_000
    expect(card_of(page, second).first).to_have_class(re.compile("playing"))
    player.get_by_role(
        "button", name="1\N{MULTIPLICATION SIGN}"
    ).click()  # twenty times as fast: thirty seconds in one and a half
    expect(player.locator(".player-time")).to_contain_text(re.compile(r"0:[345]\d /|1:\d\d /"))
    player.get_by_role("button", name="Skip").click()
    play = visit.wait_for("play", 25)[0]
    assert play["track_id"] == second
    assert play["ms_played"] >= 30_000
    assert play["session_id"] == skip["session_id"]
    page.get_by_role("link", name="Next up").click()
    expect(page.locator(".session-track")).to_have_count(2)
    expect(page.locator(".rows .row").first).to_be_visible()
    expect(card_of(page, first)).to_have_count(0)
    expect(card_of(page, second)).to_have_count(0)


def test_the_clock_pauses_and_sound_is_off_until_asked_for(visit: Visit) -> None:
    page = visit.go("/#/26/home")
    first_card(page).locator(".cover").focus()
    page.keyboard.press("Enter")
    player = page.get_by_role("region", name="Player")
    expect(player.get_by_role("button", name="Sound is off")).to_have_attribute("aria-pressed", "false")
    player.get_by_role("button", name="Sound is off").click()
    expect(player.get_by_role("button", name="Sound is on")).to_be_focused()
    player.get_by_role("button", name="Pause").click()
    stopped = player.locator(".player-time").inner_text()
    page.wait_for_timeout(1_300)
    assert player.locator(".player-time").inner_text() == stopped


def test_impressions_are_counted_once_when_really_seen(visit: Visit) -> None:
    page = visit.go("/#/27/home")
    expect(first_card(page)).to_be_visible()
    seen = visit.wait_for("impression", 27)
    on_screen = page.locator(".shelf .card").count()
    assert 0 < len(seen) < on_screen, "what has to be scrolled to has not been seen"
    assert len({(e["request_id"], e["track_id"]) for e in seen}) == len(seen)


# --- stations and strange titles -------------------------------------------------------------------------------------


def test_a_station_starts_from_a_search(visit: Visit) -> None:
    page = visit.go("/#/28/station")
    page.get_by_label("Find a track to start from").fill("night")
    page.get_by_role("link", name="From this track").first.click()
    expect(page.locator(".eyebrow")).to_have_text("Station")
    expect(page.locator(".rows .row")).to_have_count(20)
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator(".row").first).to_have_class(re.compile("playing"))
    page.get_by_role("link", name="Another start").click()
    page.get_by_label("Find a track to start from").fill("no such title")
    expect(page.get_by_text("Nothing by that name")).to_be_visible()
    page.get_by_label("Find a track to start from").fill("night")
    page.get_by_role("link", name="From the artist").first.click()
    expect(page.locator(".rows .row")).to_have_count(20)


def test_a_title_that_looks_like_markup_stays_text(visit: Visit) -> None:
    page = visit.go("/#/28/station?track_id=3")
    expect(page.get_by_role("heading", level=1)).to_have_text('<img src=x onerror=alert(1)> & "quotes"')
    assert page.locator("#main img[src=x]").count() == 0


def test_ids_keep_all_their_bits_on_the_way_through_a_browser(visit: Visit) -> None:
    page = visit.go(f"/#/{BIG_USER}/station?track_id={BIG_TRACK}")
    row = card_of(page, BIG_TRACK)
    row.locator('[data-do="like"]').click()
    like = visit.wait_for("like", BIG_USER)[0]
    assert (like["user_id"], like["track_id"]) == (BIG_USER, BIG_TRACK)


# --- when things go wrong --------------------------------------------------------------------------------------------


def test_a_fault_of_the_server_is_shown_with_its_id(visit: Visit) -> None:
    page = visit.go(f"/#/{CRASHES}/home")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server made a mistake")
    expect(alert).to_contain_text("urn:segue:request:")
    assert "secret" not in alert.inner_text()


def test_a_server_that_is_gone_is_said_and_can_be_asked_again(visit: Visit) -> None:
    page = visit.page
    page.route("**/v1/recommendations/**", lambda r: r.abort())
    visit.go("/#/29/home")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/v1/recommendations/**")
    page.get_by_role("button", name="Try again").click()
    expect(first_card(page)).to_be_visible()


def test_what_is_not_there_any_more_leads_elsewhere(visit: Visit) -> None:
    page = visit.go("/#/29/station?track_id=777777777")
    expect(page.get_by_role("heading", name="This is not here any more")).to_be_visible()
    page.get_by_role("link", name="Start somewhere else").click()
    expect(page.get_by_role("heading", name="Start a station")).to_be_visible()


def test_reasons_are_in_words_a_listener_understands(visit: Visit) -> None:
    page = visit.go("/#/29/home")
    first_card(page).locator('[data-do="why"]').click()
    weights = page.get_by_role("dialog").locator(".weight-name")
    expect(weights.filter(has_text="How often this track is skipped, in 28 days")).to_have_attribute(
        "title", "track_skip_rate_28d"
    )
    expect(weights.filter(has_text="_")).to_have_count(0)


def test_an_id_that_is_text_is_explained(visit: Visit) -> None:
    page = visit.go("/")
    page.get_by_label("Find a listener").fill("ana")
    expect(page.locator(".people")).to_contain_text("as in my-service:ana")


# --- sizes, themes, keys ---------------------------------------------------------------------------------------------

PLACES = [
    "/",
    "/#/9/home",
    "/#/9/station",
    "/#/9/station?track_id=8",
    "/#/9/next-up",
    "/#/9/history",
    "/docs",
]


def test_a_phone_shows_whole_sentences(browser: Browser, server: Running) -> None:
    visitor = Visit(browser, server, PHONE)
    for path in [*PLACES[:-1], "/#/812345678901234/home", "/#/812345678901234/history"]:
        page = visitor.go(path)
        page.locator("main h1").wait_for()
        settled(page)
        assert page.evaluate(CUT) == [], path
    visitor.close()


# Names that are cut at the edge of their box. Titles may take two lines; the two that are made to be endless may end there.
CUT = """() => [...document.querySelectorAll('main :is(.title, .sub, .note, .lead, h1, h2), #who :is(.title, .sub)')]
  .filter((node) => node.offsetParent && !/Rather Longer|onerror/.test(node.textContent))
  .filter((node) => getComputedStyle(node).whiteSpace === 'nowrap' ? node.scrollWidth > node.clientWidth + 1
    : node.scrollHeight > node.clientHeight + 4)
  .map((node) => node.className + ' ' + node.textContent)"""


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_place_fits_and_can_be_read(
    browser: Browser, server: Running, size: ViewportSize, scheme: Scheme
) -> None:
    visitor = Visit(browser, server, size, scheme)
    for path in PLACES:
        page = visitor.go(path)
        page.locator("main h1").wait_for()
        if path != "/docs":
            settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate(FAINT) == [], path
        small = page.evaluate(SMALL)
        assert small == [], path
        nameless = page.evaluate(NAMELESS)
        assert nameless == [], path
    visitor.close()


# Text whose contrast with the page behind it is below 4.5 (WCAG AA), where that background is plain.
FAINT = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
      if (colour[3] > 0) return null;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  const found = new Set();
  for (const node of document.querySelectorAll('main *, header *')) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!own || !node.checkVisibility()) continue;
    const back = behind(node);
    if (!back) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.add(`${node.className || node.tagName} ${ratio.toFixed(2)}`);
  }
  return [...found];
}"""
# Buttons and links too small to hit: below 24 by 24 (WCAG 2.2).
SMALL = """() => [...document.querySelectorAll('#main button, #main a.chip, #nav a, .round')]
  .filter((n) => n.checkVisibility())
  .filter((n) => { const b = n.getBoundingClientRect(); return b.width < 24 || b.height < 24; })
  .map((n) => n.outerHTML.slice(0, 120))"""
# Controls a screen reader could not name.
NAMELESS = """() => [...document.querySelectorAll('button, a[href], input')]
  .filter((n) => n.checkVisibility())
  .filter((n) => !(n.getAttribute('aria-label') || n.textContent.trim() || n.title))
  .map((n) => n.outerHTML.slice(0, 120))"""


def test_the_theme_can_be_chosen_and_is_remembered(visit: Visit) -> None:
    page = visit.go("/")
    shade = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(shade)
    page.get_by_role("button", name="Dark or light").click()
    light = page.evaluate(shade)
    assert light != dark
    page.reload()
    assert page.evaluate(shade) == light


def test_everything_can_be_reached_by_keyboard(visit: Visit) -> None:
    page = visit.go("/#/9/home")
    expect(first_card(page)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the music")).to_be_focused()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.do || document.activeElement.className"))
    assert {"who", "cover", "words", "like", "hide", "why", "trace-button", "tile"} <= reached
    page.keyboard.press("/")
    expect(page.get_by_label("Find a track to start from")).to_be_focused()


def test_the_api_page_tries_what_it_describes(visit: Visit) -> None:
    page = visit.go("/docs#recommendations")
    box = page.locator("#recommendations")
    box.get_by_label("user_id").fill("9")
    box.get_by_label("k", exact=True).fill("2")
    expect(box.locator(".send code")).to_contain_text("/v1/recommendations/home?user_id=9&k=2")
    box.get_by_role("button", name="Try it").click()
    expect(box.locator("pre")).to_contain_text('"request_id": "')
    box.get_by_label("k", exact=True).fill("0")
    box.get_by_role("button", name="Try it").click()
    expect(box.locator(".status").first).to_contain_text("400")
    expect(box.locator("pre")).to_contain_text('"field": "k"')
    page.goto(f"{visit.server.url}/docs#events")
    events = page.locator("#events")
    events.get_by_role("button", name="Try it").click()
    expect(events.locator("pre")).to_contain_text('"accepted": 1')
    visit.wait_for("play", 17)
