// The server's interface. Ids have 63 bits, more than a JavaScript number holds: large ones are kept as text on the
// way in and written as plain digits on the way out.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const ID_FIELD = /"(user_id|track_id|artist_id|session_id)":"(\d+)"/g;

export const parse = (text) =>
  JSON.parse(text.replace(TOKEN, (t) => (/^-?\d{16,}$/.test(t) && !Number.isSafeInteger(Number(t)) ? `"${t}"` : t)));

export const write = (value) => JSON.stringify(value).replace(ID_FIELD, '"$1":$2');

export const same = (a, b) => a != null && b != null && String(a) === String(b);

/** An error the server explained (RFC 9457), or the lack of an answer. */
export class Problem extends Error {
  constructor(document) {
    const unanswered = { status: 0, title: "The server does not answer", detail: "Check that it is running, then try again." };
    const { status, title, detail, instance } = { ...unanswered, ...document };
    super(detail);
    Object.assign(this, { status, title, detail, instance });
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({});
  }
  const text = await response.text();
  let body;
  try {
    body = parse(text);
  } catch {
    throw new Problem({ status: response.status, title: "An answer that is not JSON", detail: text.slice(0, 200) });
  }
  if (!response.ok) throw new Problem(body);
  return body;
}

export function get(path, params = {}, signal) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value != null && value !== ""));
  return call(query.size ? `${path}?${query}` : path, { signal });
}

/** Sends what happened. Every event gets its id here, so that trying again cannot count it twice. */
export async function send(events) {
  const stamped = events.map((e) => ({ event_id: uuid7(), ts: Date.now() * 1000, device: "web", ...e }));
  const options = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: write({ events: stamped }),
    keepalive: true,
  };
  let answer;
  try {
    answer = await call("/v1/events", options);
  } catch (error) {
    if (!(error instanceof Problem) || (error.status && error.status !== 429 && error.status !== 503)) throw error;
    await new Promise((resolve) => setTimeout(resolve, 1200));
    answer = await call("/v1/events", options);
  }
  const refused = answer.results.find((r) => r.status === "rejected");
  if (refused) throw new Problem({ status: 422, title: "The event was refused", detail: refused.detail || refused.reason });
  return answer;
}

function uuid7() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let ms = Date.now();
  for (let i = 5; i >= 0; i--, ms = Math.floor(ms / 256)) bytes[i] = ms % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
