// The listener's page: who listens, what they get, and what changes when they say something about it.

import { get, Problem, same, send } from "./api.js";
import { ago, artistOf, h, icon, iconButton, minutes, plural, sentence, titleOf } from "./dom.js";
import { art, card, empty, failed, loadingRows, loadingShelves, row, shelf } from "./pieces.js";
import { Player } from "./player.js";
import { openTrace, openTrack } from "./sheet.js";
import { applyTheme, newcomer, recents, remember, setTheme, Sitting, theme } from "./store.js";

const $ = (id) => document.getElementById(id);
const main = $("main");
const player = new Player();
const PLACES = [
  ["home", "home", "Home"],
  ["station", "station", "Station"],
  ["next-up", "up", "Next up"],
  ["history", "history", "History"],
];
const HOME_SIZE = 24;
const LIST_SIZE = 20;
const HEARD_MS = 30_000;

let sitting = null;
let profile = null;
let answer = null; // the recommendations on the page
let queue = []; // what the player goes on with
let shown = new Set(); // tracks of the answer before this one, to mark what is new
let pending = null; // the request under way
const genres = new Map();

// --- the address: #/, #/17/home, #/17/station?track_id=3 ----------------------------------------------------------------

function address() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [user, place = "home"] = path.split("/");
  return { user: /^\d{1,19}$/.test(user) ? user : null, place, query: new URLSearchParams(query) };
}

const go = (place, query = "") => {
  const next = `#/${sitting.userId}/${place}${query ? `?${query}` : ""}`;
  if (location.hash === next) route();
  else location.hash = next;
};

async function route() {
  const { user, place, query } = address();
  shown = new Set();
  answer = null;
  if (user == null) return choose();
  if (sitting?.userId !== user) await arrive(user);
  const view = { home, station, "next-up": nextUp, history }[place] ?? home;
  frame(place);
  await view(query);
}

async function arrive(user) {
  player.leave();
  queue = [];
  sitting = new Sitting(user);
  profile = null;
  remember(user);
}

/** Runs one view's request and shows its progress, its result or its failure. A newer one makes it moot.
 * The view that is already on the page stays while it is asked again, with its scrolling and its focus. */
async function present(loading, work) {
  const view = location.hash;
  const quiet = main.dataset.view === view;
  pending?.abort();
  const mine = (pending = new AbortController());
  main.setAttribute("aria-busy", "true");
  if (!quiet) {
    delete main.dataset.view;
    main.replaceChildren(loading);
  }
  try {
    const content = await work(mine.signal);
    if (mine.signal.aborted) return;
    const restore = quiet ? place() : () => scrollTo(0, 0);
    main.replaceChildren(...[content].flat(Infinity).filter(Boolean));
    main.dataset.view = view;
    restore();
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    if (quiet) toast(error.detail, true);
    else main.replaceChildren(error.status === 404 ? missing(error) : failed(error, route));
  } finally {
    if (pending === mine) main.setAttribute("aria-busy", "false");
  }
}

/** What was asked for is not there, or not any more: asking again would not help, another start does. */
const missing = (error) =>
  empty("station", "This is not here any more", `${sentence(error.detail)}.`, h("a", { class: "solid", href: `#/${sitting.userId}/station` }, "Start somewhere else"));

/** Remembers where the eye and the keyboard are; the result puts them back. */
function place() {
  const rolled = [...main.querySelectorAll(".shelf-row")].map((node) => node.scrollLeft);
  const active = main.contains(document.activeElement) ? document.activeElement : null;
  const track = active?.closest("[data-track]")?.dataset.track;
  const what = active?.dataset.do;
  return () => {
    main.querySelectorAll(".shelf-row").forEach((node, n) => (node.scrollLeft = rolled[n] ?? 0));
    if (!active) return;
    const again = track && main.querySelector(`[data-track="${track}"] ${what ? `[data-do="${what}"]` : "button"}`);
    (again || main).focus({ preventScroll: true });
  };
}

// --- who is listening ---------------------------------------------------------------------------------------------------

function choose() {
  player.leave();
  pending?.abort();
  sitting = profile = null;
  delete main.dataset.view;
  frame(null);
  const list = h("ul", { class: "people" });
  const words = h("input", { type: "search", id: "find", placeholder: "An id, or source:id", autocomplete: "off", "aria-label": "Find a listener" });
  const look = async () => {
    await presentIn(list, async () => {
      const { listeners } = await get("/v1/listeners", { query: words.value.trim(), limit: 12 });
      return listeners.length ? listeners.map(person) : [h("li", { class: "wide" }, nobody(words.value.trim()))];
    });
  };
  words.addEventListener("input", debounce(look, 200));
  const seen = recents();
  main.replaceChildren(
    h(
      "div",
      { class: "choose" },
      h("h1", {}, "Who is listening?"),
      h("p", { class: "lead" }, "Choose a listener to see the service as they see it."),
      h("div", { class: "find" }, icon("search"), words),
      h(
        "div",
        { class: "chips" },
        seen.map((u) => h("a", { class: "chip", href: `#/${u}/home`, title: `Listener ${u}` }, icon("history"), listenerName(u))),
        h("button", { type: "button", class: "chip", onclick: look }, icon("refresh"), "Others"),
        h("button", { type: "button", class: "chip", onclick: () => (location.hash = `#/${newcomer()}/home`) }, icon("spark"), "Someone new"),
      ),
      list,
    ),
  );
  main.setAttribute("aria-busy", "false");
  look();
}

const nobody = (asked) =>
  empty(
    "person",
    asked ? `Nobody is known as “${asked}”` : "Nobody is known yet",
    !asked
      ? "Listeners appear with the first run of the flow, or with their first play."
      : /^[^:]+:.|^\d+$/.test(asked)
        ? "Look at the spelling, or start as someone new."
        : "Ids that are text are written behind the source they were imported from, as in my-service:ana.",
  );

async function presentIn(place, work) {
  try {
    place.replaceChildren(...(await work()));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    place.replaceChildren(h("li", {}, failed(error, () => presentIn(place, work))));
  }
}

const face = (id, size = "") => art({ track_id: `listener ${id}`, genre: `listener ${id}` }, `face ${size}`);

/** Long ids, as of imported listeners, by their end: the whole one is in the title. */
const listenerName = (id) => `Listener ${String(id).length > 9 ? `…${String(id).slice(-6)}` : id}`;

const person = (p) =>
  h(
    "li",
    {},
    h(
      "a",
      { class: "person", href: `#/${p.user_id}/home` },
      face(p.user_id),
      h("span", { class: "title", title: `Listener ${p.user_id}` }, listenerName(p.user_id)),
      h("span", { class: "sub" }, [p.country, p.plan, p.plays ? plural(p.plays, "play") : "no plays"].filter(Boolean).join(" · ")),
      p.last_play && h("span", { class: "sub" }, `played ${ago(p.last_play)}`),
      p.consent === false && h("span", { class: "chip warn" }, "no consent"),
    ),
  );

async function learnProfile(signal) {
  profile = await get(`/v1/listeners/${sitting.userId}`, {}, signal);
  profile.plays ??= [];
  profile.marks ??= [];
  for (const play of profile.plays) genres.set(String(play.track_id), play.genre);
  sitting.learn(profile.marks);
  frame(address().place);
}

// --- the places ---------------------------------------------------------------------------------------------------------

async function recommend(surface, params, signal) {
  const found = await get(`/v1/recommendations/${surface}`, { user_id: sitting.userId, why: 1, seed: sitting.seed, ...params }, signal);
  shown = new Set(answer?.surface === surface ? answer.listed.keys() : []);
  answer = found;
  found.listed = new Map();
  for (const item of [...found.shelves.flatMap((s) => s.items), ...found.items]) {
    found.listed.set(String(item.track_id), stamp(item, found));
    genres.set(String(item.track_id), item.genre);
  }
  return found;
}

const stamp = (item, found) => Object.assign(item, { surface: found.surface, request_id: found.request_id });

const fresh = (item) => shown.size > 0 && !shown.has(String(item.track_id));

function home() {
  return present(loadingShelves(), async (signal) => {
    const [found] = await Promise.all([recommend("home", { k: HOME_SIZE }, signal), learnProfile(signal)]);
    const rows = found.shelves.length ? found.shelves : [{ title: "For you", items: found.items }];
    const shelves = rows
      .map(({ title, items }) => ({ title, items: items.map((i) => found.listed.get(String(i.track_id))).filter((i) => sitting.allows(i)) }))
      .filter(({ items }) => items.length);
    return [
      heading(greeting(), found),
      again(),
      shelves.length
        ? shelves.map(({ title, items }) => shelf(title, items.map((i) => card(i, acting(items), { fresh: fresh(i) }))))
        : empty("home", "Nothing to show yet", "No track passed the filters for this listener. The trace says what was removed and why."),
      watch(),
    ];
  });
}

function greeting() {
  const hour = new Date().getHours();
  return hour >= 5 && hour < 12 ? "Good morning" : hour < 18 ? "Good afternoon" : "Good evening";
}

/** The different tracks played last, each with its latest play. */
const lately = () => [...new Map((profile?.plays ?? []).filter((p) => sitting.allows(p)).reverse().map((p) => [String(p.track_id), p])).values()].sort((a, b) => b.ts - a.ts);

/** The last few tracks, to jump back in. */
function again() {
  const unique = lately().slice(0, 6);
  if (!unique.length) return null;
  const actions = acting(unique);
  return h(
    "section",
    { class: "again", "aria-label": "Played lately" },
    unique.map((play) =>
      h(
        "button",
        { type: "button", class: "tile", onclick: () => actions.play(play), "aria-label": `Play ${titleOf(play)} by ${artistOf(play)}` },
        art(play, "small"),
        h("span", {}, h("span", { class: "title" }, titleOf(play)), h("span", { class: "sub" }, artistOf(play), h("span", { class: "when" }, ` · ${ago(play.ts)}`))),
      ),
    ),
  );
}

const heading = (title, found) => h("div", { class: "heading" }, h("h1", {}, title), tools(found));

/** What an answer cost and left out, with the way to its trace, and the button that asks again. */
function tools(found) {
  const ms = found.trace.stages.reduce((sum, s) => sum + s.ms, 0);
  const { lost, ...rules } = found.trace.removed; // "lost" only means that others scored higher
  const removed = Object.values(rules).reduce((a, b) => a + b, 0);
  const facts = [
    plural(found.items.length, "track"),
    `${ms.toFixed(1)} ms`,
    removed ? `${removed.toLocaleString("en")} removed` : null,
    found.trace.personalized ? "personal" : "not personal",
  ].filter(Boolean);
  return h(
    "div",
    { class: "heading-tools" },
    h(
      "button",
      { type: "button", class: "trace-button", onclick: () => openTrace(found), "aria-label": `How this answer was made: ${facts.join(", ")}` },
      found.trace.degraded.length > 0 && h("span", { class: "chip warn" }, `${plural(found.trace.degraded.length, "part")} left out`),
      h("span", {}, facts.join(" · ")),
      icon("right"),
    ),
    iconButton("refresh", "Ask again, with other surprises", () => {
      sitting.seed += 1;
      refresh();
    }),
  );
}

function station(query) {
  const trackId = query.get("track_id");
  const artistId = query.get("artist_id");
  if (trackId == null && artistId == null) return pickSeed();
  return present(loadingRows(), async (signal) => {
    const [found, seed] = await Promise.all([
      recommend("station", { track_id: trackId, artist_id: artistId, k: LIST_SIZE }, signal),
      trackId != null ? get(`/v1/tracks/${trackId}`, {}, signal) : null,
      learnProfile(signal),
    ]);
    const name = seed ? titleOf(seed) : query.get("name") || `Artist ${artistId}`;
    const items = found.items.filter((i) => sitting.allows(i));
    return [
      h(
        "div",
        { class: "station-head" },
        art(seed ?? { track_id: `artist ${artistId}` }),
        h("div", {}, h("p", { class: "eyebrow" }, "Station"), h("h1", {}, name), seed && h("p", { class: "sub" }, artistOf(seed))),
      ),
      h(
        "div",
        { class: "heading" },
        h(
          "div",
          { class: "chips" },
          items.length > 0 && h("button", { type: "button", class: "solid", onclick: () => acting(items).play(items[0]) }, icon("play"), "Play"),
          h("a", { class: "chip", href: `#/${sitting.userId}/station` }, "Another start"),
        ),
        tools(found),
      ),
      items.length
        ? h("ol", { class: "rows" }, items.map((i, n) => row(i, acting(items), { number: n + 1, fresh: fresh(i) })))
        : empty("station", "Nothing to play from here", "No track passed the filters. Try another start."),
      watch(),
    ];
  });
}

function pickSeed() {
  const list = h("ul", { class: "rows" });
  const words = h("input", { type: "search", id: "find", placeholder: "A title or an artist", autocomplete: "off", "aria-label": "Find a track to start from" });
  const look = async () => {
    const text = words.value.trim();
    if (!text) return offerLately();
    await presentIn(list, async () => {
      const { tracks } = await get("/v1/search", { q: text, limit: 12 });
      if (words.value.trim() !== text) return [...list.children];
      return tracks.length ? tracks.map(seedRow) : [h("li", {}, empty("search", "Nothing by that name", `No title and no artist contains “${text}”.`))];
    });
  };
  const offerLately = () => {
    const tracks = lately().slice(0, 8);
    list.replaceChildren(...(tracks.length ? tracks.map(seedRow) : [h("li", {}, empty("station", "Start anywhere", "Search for a title or an artist, and the station goes on from there."))]));
  };
  words.addEventListener("input", debounce(look, 200));
  return present(loadingRows(), async (signal) => {
    await learnProfile(signal);
    offerLately();
    return h("div", {}, h("h1", {}, "Start a station"), h("p", { class: "lead" }, "From one track or one artist, on and on."), h("div", { class: "find" }, icon("search"), words), list);
  }).then(() => words.focus({ preventScroll: true }));
}

const seedRow = (track) =>
  h(
    "li",
    { class: "row seed", "data-track": String(track.track_id) },
    art(track, "small"),
    h("div", { class: "words" }, h("span", { class: "title" }, titleOf(track)), h("span", { class: "sub" }, artistOf(track), track.genre && h("span", { class: "genre" }, track.genre))),
    h(
      "div",
      { class: "chips" },
      h("a", { class: "chip", href: `#/${sitting.userId}/station?track_id=${track.track_id}` }, "From this track"),
      track.artist_id != null && h("a", { class: "chip", href: `#/${sitting.userId}/station?${artistQuery(track)}` }, "From the artist"),
    ),
  );

const artistQuery = (track) => new URLSearchParams({ artist_id: track.artist_id, name: artistOf(track) });

function nextUp() {
  return present(loadingRows(), async (signal) => {
    const [found] = await Promise.all([recommend("next-up", { session: sessionIds(), k: LIST_SIZE }, signal), learnProfile(signal)]);
    const items = found.items.filter((i) => sitting.allows(i));
    return [
      heading("Next up", found),
      h(
        "section",
        { class: "session", "aria-label": "This session" },
        sitting.tracks.length
          ? sitting.tracks.map((t) => h("span", { class: "session-track", title: `${titleOf(t)} · ${artistOf(t)}` }, art(t, "tiny"), h("span", {}, titleOf(t))))
          : h("p", { class: "note" }, "Nothing played yet in this session. Play something, and what follows will follow from it."),
      ),
      items.length
        ? h("ol", { class: "rows" }, items.map((i, n) => row(i, acting(items), { number: n + 1, fresh: fresh(i) })))
        : empty("up", "Nothing is next", "No track passed the filters."),
      watch(),
    ];
  });
}

const sessionIds = () => sitting.tracks.map((t) => t.track_id).join(",") || null;

function history() {
  return present(loadingRows(), async (signal) => {
    await learnProfile(signal);
    const marks = (kind) => profile.marks.filter((m) => m.kind === kind);
    const section = (kind, title, name) =>
      marks(kind).length > 0 &&
      h("section", {}, h("h2", {}, title), h("ul", { class: "chips" }, marks(kind).slice(0, 40).map((m) => h("li", { class: "chip" }, icon(name), m.title || `${m.target_id}`))));
    return [
      h("h1", {}, "History"),
      profile.consent === false && h("p", { class: "note" }, "This listener does not allow their history to be read, so it is not: not here, and not for recommendations."),
      section("like", "Liked", "heart"),
      section("follow", "Followed", "person"),
      section("hide", "Never again", "hide"),
      section("block_artist", "Blocked artists", "block"),
      h("h2", {}, "Played lately"),
      profile.plays.length
        ? h("ol", { class: "rows" }, profile.plays.map((p) => row(p, acting(profile.plays), { aside: heardOf(p) })))
        : empty("history", "Nothing yet", "What is played on this page appears here at once."),
    ];
  });
}

const heardOf = (p) =>
  h(
    "span",
    { class: `heard ${p.skipped ? "skipped" : ""}` },
    h("span", { class: "heard-bar", vars: { "--share": `${p.duration_ms && p.ms_played != null ? Math.min(100, (p.ms_played / p.duration_ms) * 100) : 0}%` } }),
    h("span", {}, `${p.ms_played != null ? minutes(p.ms_played) : "?"} · ${p.skipped ? "skipped" : ago(p.ts)}`),
  );

/** Asks again for what is on the page, without tearing it down first. */
const refresh = () => ({ home, station: () => station(address().query), "next-up": nextUp, history })[address().place]?.();

// --- what a listener can do ---------------------------------------------------------------------------------------------

/** The actions on tracks of one list; playing one makes the rest of the list the queue. */
function acting(list) {
  return {
    isLiked: (track) => sitting.liked.has(String(track.track_id)),
    isPlaying: (track) => player.playing && same(player.track?.track_id, track.track_id),
    genreOf: (id) => genres.get(String(id)),
    open: (track) => openTrack(track, track.request_id ? answer : null, acting(list)),
    play(track) {
      if (same(player.track?.track_id, track.track_id)) return player.toggle();
      queue = list.slice(list.findIndex((t) => same(t.track_id, track.track_id)) + 1);
      player.start(track);
    },
    station: (from) => go("station", new URLSearchParams(from).toString()),
    like(track) {
      const key = String(track.track_id);
      const on = !sitting.liked.has(key);
      const set = (value) => (value ? sitting.liked.add(key) : sitting.liked.delete(key));
      return say(on ? "like" : "unlike", track, { apply: () => set(on), undo: () => set(!on), done: on ? "Liked" : "Like taken back" });
    },
    hide(track) {
      const key = String(track.track_id);
      dropPlaying((t) => same(t.track_id, track.track_id));
      return say("hide", track, { apply: () => sitting.hidden.add(key), undo: () => sitting.hidden.delete(key), done: `${titleOf(track)} will not come back` });
    },
    block(track) {
      const key = String(track.artist_id);
      dropPlaying((t) => same(t.artist_id, track.artist_id));
      return say("block_artist", track, { apply: () => sitting.blocked.add(key), undo: () => sitting.blocked.delete(key), done: `${artistOf(track)} is blocked` });
    },
  };
}

const about = (track) => ({
  user_id: sitting.userId,
  session_id: sitting.id,
  track_id: track.track_id,
  ...(track.artist_id != null && { artist_id: track.artist_id }),
  ...(track.request_id && { request_id: track.request_id, surface: track.surface, position: track.position }),
});

/** Shows the effect at once, tells the server, then asks for the next answer; takes it back if the server refuses. */
async function say(type, track, { apply, undo, done }) {
  apply();
  repaint(track);
  try {
    await send([{ type, ...about(track) }]);
    toast(done);
  } catch (error) {
    undo();
    toast(error.detail || String(error), true);
  }
  paintPlayer();
  await refresh();
}

function repaint(track) {
  for (const node of main.querySelectorAll("[data-track]")) {
    if (!sitting.allows(track) && (node.dataset.track === String(track.track_id) || goneByArtist(node.dataset.track))) node.classList.add("leaving");
    if (node.dataset.track === String(track.track_id)) {
      node.querySelector('[data-do="like"]')?.setAttribute("aria-pressed", String(sitting.liked.has(node.dataset.track)));
    }
  }
  paintPlayer();
}

const goneByArtist = (id) => {
  const item = answer?.listed.get(id);
  return item != null && !sitting.allows(item);
};

function dropPlaying(isGone) {
  queue = queue.filter((t) => !isGone(t));
  if (player.track && isGone(player.track)) skip();
}

player.addEventListener("left", async ({ detail: { track, heard } }) => {
  if (!sitting) return;
  const whole = heard >= HEARD_MS || heard >= (track.duration_ms ?? Infinity) - 2000;
  sitting.played(track);
  try {
    await send([{ type: whole ? "play" : "skip", ms_played: heard, ...about(track) }]);
    if (address().place === "next-up" || address().place === "history") await refresh();
  } catch (error) {
    toast(error.detail || String(error), true);
  }
});
player.addEventListener("ended", () => skip());
player.addEventListener("change", () => {
  paintPlayer();
  for (const node of main.querySelectorAll("[data-track]")) {
    const on = player.playing && node.dataset.track === String(player.track?.track_id);
    if (node.classList.toggle("playing", on) !== undefined) node.querySelector(".cover-play")?.replaceChildren(icon(on ? "pause" : "play"));
  }
});
player.addEventListener("time", () => paintTime());
addEventListener("pagehide", () => player.leave());

/** On to the next track: of the list it was started from, then whatever next-up says. */
async function skip() {
  player.leave();
  while (queue.length) {
    const track = queue.shift();
    if (sitting.allows(track)) return player.start(track);
  }
  if (!sitting) return;
  try {
    const found = await get("/v1/recommendations/next-up", { user_id: sitting.userId, session: sessionIds(), k: 5, why: 1, seed: sitting.seed });
    queue = found.items.map((item) => stamp(item, found)).filter((item) => sitting.allows(item));
    if (queue.length) player.start(queue.shift());
  } catch (error) {
    toast(error.detail || String(error), true);
  }
}

// --- impressions: what was really seen, half of it for a second ------------------------------------------------------------

const seen = new Set();
let unsent = [];
const sendSeen = debounce(() => {
  const batch = unsent;
  unsent = [];
  if (batch.length) send(batch).catch((error) => console.warn("impressions were not counted:", error.detail ?? error));
}, 1500);

function watch() {
  const timers = new Map();
  const items = answer.listed;
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        clearTimeout(timers.get(target));
        if (isIntersecting) timers.set(target, setTimeout(() => count(items.get(target.dataset.track)), 1000));
      }
    },
    { threshold: 0.5 },
  );
  requestAnimationFrame(() => main.querySelectorAll("[data-track]").forEach((node) => observer.observe(node)));
  return null;
}

function count(item) {
  if (!item || !sitting) return;
  const key = `${item.request_id} ${item.track_id}`;
  if (seen.has(key)) return;
  seen.add(key);
  unsent.push({ type: "impression", ...about(item) });
  sendSeen();
}

// --- the frame: who, where, what plays --------------------------------------------------------------------------------------

function frame(place) {
  document.body.classList.toggle("no-listener", sitting == null);
  $("who").replaceChildren(
    ...(sitting
      ? [
          h(
            "a",
            { class: "who", href: "#/", title: `Listener ${sitting.userId}: choose somebody else` },
            face(sitting.userId, "tiny"),
            h(
              "span",
              {},
              h("span", { class: "title" }, listenerName(sitting.userId)),
              h("span", { class: "sub" }, profile ? [profile.country, profile.plan, profile.known ? null : "new here", profile.consent === false ? "no consent" : null].filter(Boolean).join(" · ") || "…" : "…"),
            ),
          ),
        ]
      : []),
  );
  $("nav").replaceChildren(
    ...(sitting
      ? PLACES.map(([key, name, label]) => h("a", { href: `#/${sitting.userId}/${key}`, ...(key === place && { "aria-current": "page" }) }, icon(name), h("span", {}, label)))
      : []),
  );
  $("foot").replaceChildren(
    iconButton("theme", "Dark or light", () => {
      const dark = theme() ? theme() === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      setTheme(dark ? "light" : "dark");
    }),
    h("a", { class: "fine", href: "/docs" }, "API"),
  );
  document.title = sitting ? `${PLACES.find(([key]) => key === place)?.[2] ?? "Home"} · Segue` : "Segue";
}

let time, bar; // the two parts of the player that change five times a second

function paintPlayer() {
  const root = $("player");
  root.hidden = !player.track;
  document.body.classList.toggle("with-player", !root.hidden);
  if (!player.track) return;
  const { track } = player;
  const actions = acting([track, ...queue]);
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  time = h("span", { class: "player-time" });
  bar = h("input", { type: "range", class: "seek", min: "0", max: String(player.length), step: "1000", "aria-label": "Place in the track", "data-key": "seek", oninput: (e) => player.seek(Number(e.target.value)) });
  root.replaceChildren(
    h(
      "button",
      { type: "button", class: "player-track", onclick: () => actions.open(track), "aria-label": `${titleOf(track)} by ${artistOf(track)}: why this?`, "data-key": "track" },
      art(track, "small"),
      h("span", {}, h("span", { class: "title" }, titleOf(track)), h("span", { class: "sub" }, artistOf(track))),
    ),
    h(
      "div",
      { class: "player-controls" },
      iconButton("heart", actions.isLiked(track) ? "Take the like back" : "Like", () => actions.like(track), { "aria-pressed": String(actions.isLiked(track)), "data-do": "like", "data-key": "like" }),
      iconButton(player.playing ? "pause" : "play", player.playing ? "Pause" : "Play", () => player.toggle(), { class: "round solid-round", "data-key": "play" }),
      iconButton("next", "Skip", () => skip(), { "data-key": "next" }),
      iconButton("hide", "Never again", () => actions.hide(track), { "data-do": "hide", "data-key": "hide" }),
    ),
    h("div", { class: "player-bar" }, bar, time),
    h(
      "div",
      { class: "player-extra" },
      h("button", { type: "button", class: "chip", "aria-pressed": String(player.speed > 1), title: "Let the clock run twenty times as fast", onclick: () => ((player.speed = player.speed > 1 ? 1 : 20), paintPlayer()), "data-key": "speed" }, player.speed > 1 ? "20×" : "1×"),
      iconButton(player.audible ? "sound" : "mute", player.audible ? "Sound is on" : "Sound is off", () => player.setSound(!player.audible), { "aria-pressed": String(player.audible), "data-key": "sound" }),
    ),
  );
  if (focused) root.querySelector(`[data-key="${focused}"]`)?.focus();
  paintTime();
}

function paintTime() {
  if (!player.track || !time) return;
  time.textContent = `${minutes(player.position)} / ${minutes(player.length)}`;
  bar.value = String(player.position);
  bar.style.setProperty("--share", `${(player.position / player.length) * 100}%`);
  bar.setAttribute("aria-valuetext", time.textContent);
}

function toast(text, bad = false) {
  const node = h("p", { class: `toast${bad ? " bad" : ""}` }, text);
  $("toasts").append(node);
  setTimeout(() => node.remove(), bad ? 7000 : 3000);
}

function debounce(work, ms) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, dialog, button, a");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !event.target.closest("input, dialog")) {
    event.preventDefault();
    if ($("find")) $("find").focus();
    else if (sitting) go("station");
  } else if (player.track && !typing && event.key === " ") {
    event.preventDefault();
    player.toggle();
  } else if (player.track && !event.target.closest("input, dialog") && event.key === "n") skip();
  else if (player.track && !event.target.closest("input, dialog") && event.key === "l") acting([player.track]).like(player.track);
});
addEventListener("hashchange", route);
applyTheme();
route();
