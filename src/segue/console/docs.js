// The API page: draws /openapi.json and lets every operation be tried. Nothing comes from elsewhere.

import { h } from "./dom.js";

const page = document.getElementById("page");
const contents = document.getElementById("contents");

const typeOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return h("a", { href: `#schema-${name}` }, name);
  }
  if (schema.anyOf) return schema.anyOf.flatMap((s, n) => [n ? " or " : "", typeOf(s)]).flat();
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" or ");
  if (schema.type === "array") return ["list of ", typeOf(schema.items ?? schema.prefixItems?.[0]) || "anything"].flat();
  if (schema.type === "object" && schema.additionalProperties) return ["object of ", typeOf(schema.additionalProperties)].flat();
  return schema.type ?? "anything";
};

/** Words with `names` in code. */
const coded = (text) => text.split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part));

/** JSON with line breaks, left otherwise as it came: parsing would round large ids. */
function pretty(text) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return text.replace(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+|\s+/g, (token, at) => {
    if (/^\s/.test(token)) return "";
    if ("[{".includes(token)) return /^\s*[\]}]/.test(text.slice(at + 1)) ? token : (depth++, token + line());
    if ("]}".includes(token)) return /[[{]\s*$/.test(text.slice(0, at)) ? token : (depth--, line() + token);
    if (token === ",") return token + line();
    return token === ":" ? ": " : token;
  });
}

function operation(path, method, op) {
  const parameters = op.parameters ?? [];
  const inputs = new Map();
  const fields = parameters.map((p) => {
    const example = Array.isArray(p.example) ? p.example.join(",") : p.example;
    const input = p.schema.enum
      ? h("select", { "aria-label": p.name }, !p.required && h("option", { value: "" }, ""), p.schema.enum.map((v) => h("option", { value: v }, v)))
      : h("input", { "aria-label": p.name, placeholder: String(example), value: p.required ? String(example) : "" });
    if (p.required && p.schema.enum) input.value = String(example);
    inputs.set(p, input);
    return h("div", { class: "field" }, h("span", {}, h("code", {}, p.name), p.required && h("b", {}, " *")), input, h("span", { class: "doc" }, coded(p.description), p.schema.default != null && ` (default ${p.schema.default})`));
  });
  const media = Object.keys(op.requestBody?.content ?? {});
  const kind = media.length ? h("select", { "aria-label": "Content type" }, media.map((m) => h("option", { value: m }, m))) : null;
  const sample = () => {
    const { example } = op.requestBody.content[kind.value];
    const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
    return text.replace(/"ts":(\s?)"[^"]*"/g, `"ts":$1"${new Date().toISOString()}"`); // the example's own moment is long past
  };
  const body = media.length ? h("textarea", { "aria-label": "Body", spellcheck: "false" }) : null;
  if (body) {
    body.value = sample();
    kind.addEventListener("change", () => (body.value = sample()));
  }
  const result = h("div", { role: "status" });
  const curl = h("code", {});
  const request = () => {
    const filled = [...inputs].filter(([, input]) => input.value !== "");
    const url = path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent([...inputs].find(([p]) => p.name === name)[1].value));
    const query = new URLSearchParams(filled.filter(([p]) => p.in === "query").map(([p, input]) => [p.name, input.value]));
    const headers = Object.fromEntries(filled.filter(([p]) => p.in === "header").map(([p, input]) => [p.name, input.value]));
    if (kind) headers["Content-Type"] = kind.value;
    return { url: query.size ? `${url}?${query}` : url, headers };
  };
  const quoted = (text) => `'${text.replace(/'/g, `'\\''`)}'`;
  const redraw = () => {
    const { url, headers } = request();
    const parts = ["curl", ...Object.entries(headers).map(([k, v]) => `-H ${quoted(`${k}: ${v}`)}`), ...(body ? [`--data-binary ${quoted(body.value)}`] : []), quoted(location.origin + url)];
    curl.textContent = parts.join(" ");
  };
  const send = async () => {
    const { url, headers } = request();
    result.replaceChildren(h("p", {}, "…"));
    try {
      const response = await fetch(url, { method: method.toUpperCase(), headers, body: body?.value });
      const text = await response.text();
      const json = /json/.test(response.headers.get("content-type"));
      result.replaceChildren(
        h("h4", {}, "Answer"),
        h("p", {}, h("span", { class: `status ${response.ok ? "ok" : "bad"}` }, `${response.status} ${response.statusText}`), ` · ${response.headers.get("server-timing")?.split("total;dur=").pop() ?? "?"} ms · ${response.headers.get("content-type")}`),
        h("pre", { tabindex: "0" }, json ? pretty(text) : text),
      );
    } catch (error) {
      result.replaceChildren(h("p", { class: "status bad" }, `No answer: ${error.message}`));
    }
  };
  const box = h(
    "details",
    { class: "operation", id: op.operationId },
    h("summary", {}, h("span", { class: `method ${method}` }, method.toUpperCase()), h("span", { class: "path" }, path), h("span", { class: "what" }, op.summary)),
    h(
      "div",
      { class: "inside" },
      h("p", {}, coded(op.description)),
      fields.length > 0 && [h("h4", {}, "Parameters"), fields],
      body && [h("h4", {}, "Body"), h("p", { class: "lead" }, op.requestBody.description), kind, body],
      h("div", { class: "send" }, h("button", { type: "button", onclick: send }, "Try it"), curl),
      result,
      h("h4", {}, "Answers"),
      h(
        "ul",
        { class: "answers" },
        Object.entries(op.responses).map(([status, r]) => {
          const [type, content] = Object.entries(r.content)[0];
          return h("li", {}, h("span", { class: `status ${status < 400 ? "ok" : "bad"}` }, status), h("span", {}, r.description), h("span", { class: "media" }, content.schema.$ref ? typeOf(content.schema) : type));
        }),
      ),
    ),
  );
  box.addEventListener("input", redraw);
  redraw();
  return box;
}

const schema = (name, s) =>
  h(
    "details",
    { class: "schema", id: `schema-${name}` },
    h("summary", {}, name),
    h("p", { class: "lead" }, s.description ?? ""),
    h(
      "table",
      {},
      h("tbody", {}, Object.entries(s.properties ?? {}).map(([field, p]) => h("tr", {}, h("td", {}, h("code", {}, field)), h("td", {}, typeOf(p)), h("td", {}, p.description ?? (s.required?.includes(field) ? "" : "may be absent"))))),
    ),
  );

function open() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}

async function draw() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`/openapi.json: ${response.status}`);
  const api = await response.json();
  const groups = api.tags.map(({ name }) => [name, Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).filter(([, op]) => op.tags[0] === name).map(([method, op]) => [path, method, op]))]);
  contents.replaceChildren(
    h("a", { class: "brand", href: "/" }, h("img", { src: "/docs/icon.svg", alt: "", width: "26", height: "26" }), "Segue API"),
    ...groups.flatMap(([name, operations]) => [h("h4", {}, name), h("ul", {}, operations.map(([, , op]) => h("li", {}, h("a", { href: `#${op.operationId}` }, op.summary))))]),
    h("h4", {}, "Reference"),
    h("ul", {}, h("li", {}, h("a", { href: "#problems" }, "Problems")), h("li", {}, h("a", { href: "#types" }, "Types")), h("li", {}, h("a", { href: "/openapi.json" }, "openapi.json"))),
  );
  page.replaceChildren(
    h("h1", {}, "Segue API"),
    h("p", { class: "lead" }, api.info.description),
    ...groups.flatMap(([name, operations]) => [h("h2", {}, name), ...operations.map((o) => operation(...o))]),
    h("h2", { id: "problems" }, "Problems"),
    h("p", { class: "lead" }, "Errors are problem documents (RFC 9457): `field` names what is wrong, `limit` what it must satisfy, `instance` the request in the log."),
    ...api["x-problems"].map((p) => h("p", { class: "problem", id: p.slug }, h("span", { class: "status bad" }, String(p.status)), " ", p.title, p.retry_after_s ? ` · Retry-After: ${p.retry_after_s}` : "")),
    h("h2", { id: "types" }, "Types"),
    ...Object.entries(api.components.schemas).map(([name, s]) => schema(name, s)),
  );
  open();
}

addEventListener("hashchange", open);
draw().catch((error) => page.replaceChildren(h("p", { class: "status bad" }, String(error))));
