// What this browser remembers: who is listening, what they played in this session, what they asked never to see again.

const read = (key, fallback) => {
  try {
    return JSON.parse(localStorage.getItem(`segue.${key}`)) ?? fallback;
  } catch {
    return fallback;
  }
};
const keep = (key, value) => {
  try {
    localStorage.setItem(`segue.${key}`, JSON.stringify(value));
  } catch {
    // A browser that stores nothing still plays.
  }
};

export const recents = () => read("recents", []);
export const remember = (userId) => keep("recents", [userId, ...recents().filter((u) => u !== userId)].slice(0, 6));

export const theme = () => read("theme", null);
export function setTheme(name) {
  keep("theme", name);
  applyTheme();
}
export function applyTheme() {
  const chosen = theme();
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

const digits = (n) => Array.from(crypto.getRandomValues(new Uint32Array(n)), (x) => x % 10).join("");

/** One sitting of one listener. `seed` holds exploration still, so that a change on the page is a change by the listener. */
export class Sitting {
  constructor(userId) {
    this.userId = userId;
    this.id = `1${digits(14)}`;
    this.seed = Number(digits(6));
    this.tracks = [];
    this.liked = new Set();
    this.hidden = new Set();
    this.blocked = new Set();
  }

  played(track) {
    this.tracks = [...this.tracks.filter((t) => String(t.track_id) !== String(track.track_id)), track].slice(-50);
  }

  allows(track) {
    return !this.hidden.has(String(track.track_id)) && !this.blocked.has(String(track.artist_id));
  }

  learn(marks) {
    const sets = { like: this.liked, hide: this.hidden, block_artist: this.blocked };
    for (const mark of marks) sets[mark.kind]?.add(String(mark.target_id));
  }
}

/** An id of somebody who was never here. */
export const newcomer = () => `8${digits(14)}`;
