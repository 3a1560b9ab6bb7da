// Elements without markup in strings: text stays text, whatever a title contains.

export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c != null && c !== false));
  return node;
}

const PATHS = {
  play: "M8 5.5v13l11-6.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  next: "M6 6v12l9-6zM16 6h2.5v12H16z",
  heart: "M12 20.3 4.6 13a4.8 4.8 0 0 1 0-6.8 4.7 4.7 0 0 1 6.7 0l.7.7.7-.7a4.7 4.7 0 0 1 6.7 6.8z",
  hide: "M6.4 5 12 10.6 17.6 5 19 6.4 13.4 12l5.6 5.6-1.4 1.4-5.6-5.6L6.4 19 5 17.6l5.6-5.6L5 6.4z",
  why: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 14.6a1.2 1.2 0 1 1 0-2.4 1.2 1.2 0 0 1 0 2.4zm1.2-4.9V14h-2.3v-2.2c1.9-.6 2.6-1.1 2.6-2 0-.7-.5-1.2-1.4-1.2-.9 0-1.5.5-1.7 1.5L8.2 9.7C8.5 7.7 10 6.5 12.2 6.5c2.3 0 3.8 1.3 3.8 3.2 0 1.5-1 2.5-2.8 3z",
  home: "M4 11 12 4l8 7v9h-5.5v-5.5h-5V20H4z",
  station: "M12 10a2 2 0 0 0-1 3.7V21h2v-7.3A2 2 0 0 0 12 10zM7.8 16.2a6 6 0 1 1 8.4 0l-1.3-1.5a4 4 0 1 0-5.8 0zM5 19a10 10 0 1 1 14 0l-1.3-1.5a8 8 0 1 0-11.4 0z",
  up: "M4 6h11v2H4zm0 5h11v2H4zm0 5h7v2H4zm13-5.5 5 4-5 4z",
  history: "M12 4a8 8 0 1 1-7.7 5.9H2L5.5 6 9 9.9H6.4A6 6 0 1 0 12 6zm-1 4h2v4l3 2-1 1.6-4-2.6z",
  search: "M10.5 4a6.5 6.5 0 0 1 5.2 10.4l4.6 4.6-1.4 1.4-4.6-4.6A6.5 6.5 0 1 1 10.5 4zm0 2a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9z",
  sound: "M4 9.5v5h3.5L12 19V5L7.5 9.5zm10-1.8v8.6a4.7 4.7 0 0 0 0-8.6zm0-4v2a7 7 0 0 1 0 12.6v2a9 9 0 0 0 0-16.6z",
  mute: "M4 9.5v5h3.5L12 19V5L7.5 9.5zm11 .2 2 2 2-2 1.3 1.3-2 2 2 2-1.3 1.3-2-2-2 2-1.3-1.3 2-2-2-2z",
  block: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM5 12a7 7 0 0 1 11.2-5.6l-9.8 9.8A7 7 0 0 1 5 12zm7 7a7 7 0 0 1-4.2-1.4l9.8-9.8A7 7 0 0 1 12 19z",
  theme: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm-1 2.1v13.8a7 7 0 0 1 0-13.8z",
  left: "M14.6 5.4 16 6.8 10.8 12l5.2 5.2-1.4 1.4L8 12z",
  right: "M9.4 5.4 8 6.8l5.2 5.2L8 17.2l1.4 1.4L16 12z",
  refresh: "M12 5a7 7 0 0 1 6 3.4V5h2v7h-7v-2h3.6A5 5 0 1 0 17 13h2a7 7 0 1 1-7-8z",
  person: "M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8zm0 9.5c4.5 0 7.5 2.2 7.5 5V20h-15v-1.5c0-2.8 3-5 7.5-5z",
  spark: "M12 2.5 14 10l7.5 2-7.5 2-2 7.5-2-7.5-7.5-2L10 10z",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", PATHS[name]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

/** A round button that is only an icon; its label is what a screen reader says and a mouse shows. */
export const iconButton = (name, label, onclick, props = {}) =>
  h("button", { type: "button", class: "round", "aria-label": label, title: label, onclick, ...props }, icon(name));

export const minutes = (ms) => {
  const s = Math.max(0, Math.round(ms / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
};

export function ago(micros) {
  const s = Math.max(0, Date.now() / 1000 - micros / 1e6);
  for (const [unit, size] of [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (s >= size) return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-Math.floor(s / size), unit);
  }
  return "just now";
}

export const plural = (n, one, many = `${one}s`) => `${Number(n).toLocaleString("en")} ${n === 1 ? one : many}`;
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const titleOf = (track) => track.title || `Track ${track.track_id}`;
export const artistOf = (track) => track.artist || (track.artist_id != null ? `Artist ${track.artist_id}` : "Unknown artist");
