// The pieces the views are made of: cards, rows, shelves, notes.

import { cover } from "./covers.js";
import { artistOf, h, icon, iconButton, minutes, sentence, titleOf } from "./dom.js";

export const art = (track, size = "") => h("img", { class: `art ${size}`, src: cover(track.track_id, track.genre), alt: "", loading: "lazy" });

const hearted = (track, actions) =>
  iconButton("heart", actions.isLiked(track) ? "Take the like back" : "Like", () => actions.like(track), {
    "aria-pressed": String(actions.isLiked(track)),
    "data-do": "like",
  });

const quick = (track, actions) => [
  hearted(track, actions),
  iconButton("hide", `Never show ${titleOf(track)} again`, () => actions.hide(track), { "data-do": "hide" }),
  iconButton("why", `Why ${titleOf(track)}?`, () => actions.open(track), { "data-do": "why" }),
];

export function card(track, actions, { fresh = false } = {}) {
  const playing = actions.isPlaying(track);
  return h(
    "li",
    { class: `card${playing ? " playing" : ""}${fresh ? " fresh" : ""}`, "data-track": String(track.track_id) },
    h(
      "button",
      { type: "button", class: "cover", "aria-label": `Play ${titleOf(track)} by ${artistOf(track)}`, onclick: () => actions.play(track) },
      art(track),
      h("span", { class: "cover-play" }, icon(playing ? "pause" : "play")),
      track.propensity != null && track.propensity < 0.5 && h("span", { class: "badge", title: "Shown to learn what you think of it" }, icon("spark"), "trying"),
    ),
    h(
      "button",
      { type: "button", class: "words", onclick: () => actions.open(track) },
      h("span", { class: "title" }, titleOf(track)),
      h("span", { class: "sub" }, artistOf(track)),
    ),
    track.why && h("p", { class: "because" }, sentence(track.why.text)),
    h("div", { class: "acts" }, quick(track, actions)),
  );
}

export function row(track, actions, { number = null, fresh = false, aside = null } = {}) {
  const playing = actions.isPlaying(track);
  return h(
    "li",
    { class: `row${playing ? " playing" : ""}${fresh ? " fresh" : ""}${number == null ? " plain" : ""}`, "data-track": String(track.track_id) },
    number != null && h("span", { class: "number", "aria-hidden": "true" }, String(number)),
    h(
      "button",
      { type: "button", class: "cover small", "aria-label": `Play ${titleOf(track)} by ${artistOf(track)}`, onclick: () => actions.play(track) },
      art(track, "small"),
      h("span", { class: "cover-play" }, icon(playing ? "pause" : "play")),
    ),
    h(
      "button",
      { type: "button", class: "words", onclick: () => actions.open(track) },
      h("span", { class: "title" }, titleOf(track)),
      h("span", { class: "sub" }, artistOf(track), track.genre && h("span", { class: "genre" }, track.genre)),
    ),
    h("p", { class: "because" }, sentence(track.why?.text ?? "")),
    aside ?? h("span", { class: "time" }, track.duration_ms ? minutes(track.duration_ms) : ""),
    h("div", { class: "acts" }, quick(track, actions)),
  );
}

export function shelf(title, cards) {
  const list = h("ul", { class: "shelf-row" }, cards);
  const roll = (way) => list.scrollBy({ left: way * list.clientWidth * 0.8, behavior: "smooth" });
  const id = `shelf-${title.replace(/\W+/g, "-")}`;
  return h(
    "section",
    { class: "shelf", "aria-labelledby": id },
    h(
      "div",
      { class: "shelf-head" },
      h("h2", { id }, title),
      h("div", { class: "rollers", "aria-hidden": "true" }, iconButton("left", "Back", () => roll(-1), { tabIndex: -1 }), iconButton("right", "On", () => roll(1), { tabIndex: -1 })),
    ),
    list,
  );
}

export const empty = (name, title, text, ...more) =>
  h("div", { class: "empty" }, icon(name), h("h2", {}, title), h("p", {}, text), ...more);

export const failed = (problem, again) =>
  h(
    "div",
    { class: "empty failed", role: "alert" },
    icon("block"),
    h("h2", {}, problem.title || "That did not work"),
    h("p", {}, problem.detail || String(problem)),
    problem.instance && h("p", { class: "fine" }, problem.instance),
    h("button", { type: "button", class: "solid", onclick: again }, icon("refresh"), "Try again"),
  );

const bone = (cls) => h("span", { class: `bone ${cls}` });
export const loadingShelves = () =>
  h(
    "div",
    { class: "loading", "aria-label": "Loading" },
    Array.from({ length: 3 }, () =>
      h("section", { class: "shelf" }, bone("line wide"), h("div", { class: "shelf-row" }, Array.from({ length: 8 }, () => h("div", { class: "card" }, bone("square"), bone("line"), bone("line short"))))),
    ),
  );
export const loadingRows = () =>
  h("div", { class: "loading", "aria-label": "Loading" }, Array.from({ length: 8 }, () => h("div", { class: "row" }, bone("square small"), bone("line wide"))));
