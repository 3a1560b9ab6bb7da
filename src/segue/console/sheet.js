// The drawer: one track with its actions and its reasons, or how an answer came about.

import { get } from "./api.js";
import { art } from "./pieces.js";
import { artistOf, h, icon, plural, sentence, titleOf } from "./dom.js";

const sheet = document.getElementById("sheet");
sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());

/** What features are called among people; without them their own names have to do. */
let words = {};
get("/console/words.json").then(
  (found) => (words = found),
  () => {},
);
const inWords = (name) => sentence(words[name] ?? name.replace(/_/g, " "));

function show(title, ...content) {
  const head = h(
    "div",
    { class: "sheet-head" },
    h("h2", { id: "sheet-title" }, title),
    h("button", { type: "button", class: "round", "aria-label": "Close", onclick: () => sheet.close() }, icon("hide")),
  );
  sheet.replaceChildren(h("div", { class: "sheet-body" }, head, ...content));
  if (!sheet.open) sheet.showModal();
  sheet.scrollTop = 0;
}

const act = (name, label, what, props = {}) =>
  h("button", { type: "button", class: "act", onclick: () => (sheet.close(), what()), ...props }, icon(name), label);

export function openTrack(track, answer, actions) {
  const liked = actions.isLiked(track);
  show(
    "Why this?",
    h(
      "div",
      { class: "hero" },
      art(track),
      h("div", {}, h("p", { class: "hero-title" }, titleOf(track)), h("p", { class: "sub" }, artistOf(track)), track.genre && h("span", { class: "chip" }, track.genre)),
    ),
    track.why || track.sources ? reasons(track, actions) : h("p", { class: "note" }, "Nobody recommended this: it comes from the listener's own history or a search."),
    h(
      "div",
      { class: "act-grid" },
      act("play", "Play", () => actions.play(track)),
      act("heart", liked ? "Take the like back" : "Like", () => actions.like(track), { "aria-pressed": String(liked) }),
      act("station", "Station from this track", () => actions.station({ track_id: track.track_id })),
      track.artist_id != null && act("station", `Station from ${artistOf(track)}`, () => actions.station({ artist_id: track.artist_id, name: artistOf(track) })),
      act("hide", "Never show this again", () => actions.hide(track)),
      track.artist_id != null && act("block", `Block ${artistOf(track)}`, () => actions.block(track)),
    ),
    h(
      "dl",
      { class: "facts" },
      fact("Track", track.track_id),
      track.artist_id != null && fact("Artist", track.artist_id),
      answer && fact("Answer", answer.request_id),
    ),
  );
}

const fact = (name, value) => [h("dt", {}, name), h("dd", {}, String(value))];

function reasons(track, actions) {
  const why = track.why ?? {};
  const features = Object.entries(why.features ?? {}).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = Math.max(...features.map(([, weight]) => Math.abs(weight)), 1e-9);
  return h(
    "div",
    { class: "reasons" },
    why.text && h("p", { class: "reason-text" }, sentence(why.text)),
    why.because_of?.length > 0 && [
      h("h3", {}, "Because of"),
      h("ul", { class: "because-of" }, why.because_of.map((cause) => causeOf(cause, actions))),
    ],
    features.length > 0 && [
      h("h3", {}, "What weighed most"),
      h(
        "ul",
        { class: "weights" },
        features.map(([name, weight]) =>
          h(
            "li",
            {},
            h("span", { class: "weight-name", title: name }, inWords(name)),
            h("span", { class: `weight-bar ${weight < 0 ? "less" : "more"}`, vars: { "--share": `${(Math.abs(weight) / most) * 50}%` } }),
            h("span", { class: "weight-number" }, `${weight < 0 ? "−" : "+"}${Math.abs(weight).toPrecision(2)}`),
          ),
        ),
      ),
    ],
    h("h3", {}, "Where it came from"),
    h("p", { class: "chips" }, (track.sources ?? []).map((name) => h("span", { class: "chip" }, name.replace(/_/g, " ")))),
    h(
      "dl",
      { class: "facts" },
      track.position != null && fact("Place", track.position + 1),
      track.score != null && fact("Score", Number(track.score).toPrecision(3)),
      track.propensity != null && fact("Chance of this slot", chance(track.propensity)),
      why.moved && fact("Moved", why.moved),
    ),
  );
}

const chance = (p) => (p >= 1 ? "certain: nothing was drawn at random" : `${(p * 100).toPrecision(2)} %, given the slots before it`);

function causeOf(cause, actions) {
  const { track_id, artist_id, title, artist, name, ...rest } = cause;
  const words = title || artist || name || (track_id != null ? `Track ${track_id}` : `Artist ${artist_id}`);
  const details = Object.entries(rest).map(([key, value]) => (key === "plays" ? plural(value, "play") : `${key.replace(/_/g, " ")} ${value}`));
  return h("li", {}, art({ track_id: track_id ?? `artist ${artist_id}`, genre: actions.genreOf(track_id) }, "tiny"), h("span", {}, words), h("span", { class: "sub" }, details.join(", ")));
}

const REMOVED = {
  lost: "others scored higher",
  country: "not to be played in this country",
  explicit: "explicit words",
  private: "private",
  unpublished: "not out yet",
  deleted: "not in the catalogue any more",
  blocked_artist: "by a blocked artist",
  hidden: "hidden by the listener",
  recently_played: "played a short while ago",
  in_session: "already in this session",
  seed: "the start of the station itself",
};

export function openTrace(answer) {
  const { trace } = answer;
  const longest = Math.max(...trace.stages.map((s) => s.ms), 1e-9);
  const total = trace.stages.reduce((sum, s) => sum + s.ms, 0);
  const removed = Object.entries(trace.removed).sort((a, b) => b[1] - a[1]);
  show(
    "How this answer was made",
    h("p", { class: "reason-text" }, trace.personalized ? "Made for this listener, from what they played and said." : "Not personal: no history was read for this answer."),
    trace.degraded.length > 0 && h("p", { class: "note warn" }, `Left out: ${trace.degraded.join(", ")}`),
    h("h3", {}, `Stages, ${total.toFixed(1)} ms`),
    h(
      "ol",
      { class: "stages" },
      trace.stages.map((stage) =>
        h(
          "li",
          { class: stage.degraded ? "degraded" : "" },
          h("span", { class: "stage-name" }, stage.name.replace(/[_:]/g, (c) => (c === ":" ? ": " : " "))),
          h("span", { class: "stage-rows" }, Number(stage.rows).toLocaleString("en")),
          h("span", { class: "stage-ms" }, `${stage.ms.toFixed(2)} ms`),
          h("span", { class: "stage-bar", vars: { "--share": `${(stage.ms / longest) * 100}%` } }),
          stage.degraded && h("span", { class: "stage-why" }, stage.degraded),
        ),
      ),
    ),
    h("h3", {}, "Removed on the way"),
    removed.length
      ? h("ul", { class: "removed" }, removed.map(([reason, count]) => h("li", {}, h("span", {}, REMOVED[reason] ?? reason.replace(/_/g, " ")), h("b", {}, count.toLocaleString("en")))))
      : h("p", { class: "sub" }, "Nothing had to be removed."),
    h("dl", { class: "facts" }, fact("Answer", answer.request_id), fact("Bundle", answer.bundle), fact("Settings", answer.config)),
  );
}
