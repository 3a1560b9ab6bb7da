// Cover art from nothing but a track's id and genre: the genre gives the colours, the id the drawing.

export function random(text) {
  let state = 2166136261;
  for (const c of String(text)) state = Math.imul(state ^ c.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const n = (x) => x.toFixed(1);

const DRAWINGS = [
  (r, ink) =>
    Array.from({ length: 5 }, (_, i) => `<circle cx="${n(r() * 100)}" cy="${n(r() * 100)}" r="${n(12 + r() * 30)}" fill="${ink(i)}" opacity=".55"/>`),
  (r, ink) => {
    const tilt = r() * 180;
    return [`<g transform="rotate(${n(tilt)} 50 50)">`, ...Array.from({ length: 9 }, (_, i) => `<rect x="-30" y="${n(-25 + i * 17)}" width="160" height="${n(3 + r() * 9)}" fill="${ink(i)}" opacity=".7"/>`), "</g>"];
  },
  (r, ink) => {
    const [x, y] = [20 + r() * 60, 20 + r() * 60];
    return Array.from({ length: 7 }, (_, i) => `<circle cx="${n(x)}" cy="${n(y)}" r="${n(8 + i * 11)}" fill="none" stroke="${ink(i)}" stroke-width="${n(1.5 + r() * 4)}" opacity=".8"/>`);
  },
  (r, ink) =>
    Array.from({ length: 5 }, (_, i) => {
      const y = 18 + i * 17;
      return `<path d="M-5 ${n(y)} Q${n(10 + r() * 25)} ${n(y - 22 * r())} 50 ${n(y)} T105 ${n(y)} V110 H-5Z" fill="${ink(i)}" opacity=".45"/>`;
    }),
  (r, ink) =>
    Array.from({ length: 16 }, (_, i) => {
      const [x, y] = [(i % 4) * 25, Math.floor(i / 4) * 25];
      return r() < 0.5
        ? `<path d="M${x} ${y}h25v25z" fill="${ink(i)}" opacity="${n(0.3 + r() * 0.6)}"/>`
        : `<path d="M${x} ${y}v25h25z" fill="${ink(i)}" opacity="${n(0.3 + r() * 0.6)}"/>`;
    }),
  (r, ink) =>
    Array.from({ length: 22 }, (_, i) => {
      const tall = 10 + r() * 70;
      return `<rect x="${n(4 + i * 4.2)}" y="${n(50 - tall / 2)}" width="2.2" height="${n(tall)}" rx="1.1" fill="${ink(i)}" opacity=".85"/>`;
    }),
];

export function palette(id, genre) {
  const hue = Math.floor(random(`genre ${genre || "none"}`)() * 360 + random(`hue ${id}`)() * 90 - 45 + 360) % 360;
  return { hue, deep: `hsl(${hue} 62% 24%)`, mid: `hsl(${(hue + 28) % 360} 66% 44%)`, bright: `hsl(${(hue + 55) % 360} 88% 70%)` };
}

const made = new Map();

/** The cover as a data: URI. */
export function cover(id, genre) {
  const key = `${id} ${genre}`;
  if (!made.has(key)) {
    const r = random(`cover ${id}`);
    const { deep, mid, bright } = palette(id, genre);
    const inks = [bright, "#fff", mid, deep];
    const drawing = DRAWINGS[Math.floor(r() * DRAWINGS.length)](r, (i) => inks[(i + Math.floor(r() * 2)) % inks.length]);
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100"><defs><linearGradient id="g" gradientTransform="rotate(${Math.floor(r() * 90)})"><stop stop-color="${deep}"/><stop offset="1" stop-color="${mid}"/></linearGradient></defs><rect width="100" height="100" fill="url(#g)"/>${[].concat(drawing).join("")}</svg>`;
    made.set(key, `data:image/svg+xml,${encodeURIComponent(svg)}`);
  }
  return made.get(key);
}
