// Which parts of a text stand in a corpus word for word: the rarer, the stronger their colour.

import { indexes, indexPath, post, query } from "./api.js";
import { address, copyBar, field, fill, h, number, parameters, percent, plural, say, select, sqlText } from "./dom.js";
import { nameOf } from "./lookup.js";

const LEVELS = 4;

export async function trace({ box, signal, hasKey }, values) {
  const found = await indexes(signal);
  if (!found.length) return void box.append(h("p", {}, "This server has no index."));
  const index = found.find((one) => one.name === values.index) ?? found[0];
  const least = Number(values.min) || 8;
  box.append(h("p", { class: "lead" }, "Finds the longest parts that the corpus holds word for word, and the documents they stand in."),
    form(found, index, values.text, least));
  if (!values.text) return;
  const call = { path: indexPath(index.name, "/trace"), body: { query: query(index, values.text), min_tokens: least } };
  const result = h("div", { "aria-busy": "true" }, h("p", { class: "note" }, "Tracing …"));
  box.append(result);
  const told = await post(call.path, call.body, signal);
  const levels = levelsOf(told.spans);
  const sources = h("section", { "aria-live": "polite" });
  say(`${plural(told.spans.length, "span")}, ${percent(told.coverage)} of the text`);
  fill(result,
    h("p", {}, `${plural(told.spans.length, "span")} of ${least} tokens or more: ${percent(told.coverage)} of ${plural(told.tokens.length, "token")}.`),
    told.spans.length ? legend() : null,
    highlighted(values.text, told.spans, levels, (chosen) => fill(sources, ...chosen.map((span) => card(span, index.name)))),
    h("p", { class: "note" }, told.spans.length ? "Choose a coloured part to see where it stands." : "Nothing of this length stands in the corpus: try fewer tokens."),
    sources, documents(told), copyBar(call, sqlOf(index.name, values.text, least), hasKey));
  result.removeAttribute("aria-busy");
}

function form(found, index, text, least) {
  const made = h("form", { class: "ask", onsubmit: (event) => {
    event.preventDefault();
    location.hash = address("trace", Object.fromEntries(parameters(made)));
  } },
  field("Text", h("textarea", { name: "text", rows: "5", required: true, spellcheck: "false", value: text ?? "" }), "wide"),
  h("div", { class: "fields" },
    field("Index", select("index", found.map((one) => [one.name, one.name]), index.name)),
    field("Tokens at least", h("input", { name: "min", type: "number", min: "1", value: least, class: "small" })),
    h("button", { class: "main" }, "Trace")));
  return made;
}

// 1 for the most common span to 4 for the rarest, by rank.
function levelsOf(spans) {
  const order = spans.map((_, place) => place).sort((one, other) => spans[one].rarity - spans[other].rarity);
  const levels = new Array(spans.length);
  order.forEach((place, rank) => {
    levels[place] = 1 + Math.floor((rank * LEVELS) / spans.length);
  });
  return levels;
}

const legend = () => h("p", { class: "note keys" }, "common", [1, 2, 3, 4].map((level) => h("span", { class: `key rare-${level}`, "aria-hidden": "true" })), "rare");

// Spans overlap: the text is cut at every end, and each part has the colour of its rarest span.
function highlighted(text, spans, levels, choose) {
  const letters = Array.from(text);
  const placed = spans.map((span, place) => [...(span.characters ?? [0, 0]), place]);
  const cuts = [...new Set([0, letters.length, ...placed.flatMap(([start, end]) => [start, end])])].sort((one, other) => one - other);
  const box = h("div", { class: "traced" });
  for (const [place, start] of cuts.slice(0, -1).entries()) {
    const part = letters.slice(start, cuts[place + 1]).join("");
    const inside = placed.filter(([from, to]) => from <= start && cuts[place + 1] <= to).map(([, , span]) => span);
    if (!inside.length) {
      box.append(part);
      continue;
    }
    const rarest = inside.reduce((one, other) => (spans[other].rarity > spans[one].rarity ? other : one));
    const show = (event) => {
      if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      for (const other of box.children) other.setAttribute("aria-pressed", String(other === event.currentTarget));
      choose(inside.map((span) => spans[span]));
    };
    // No <button>: those don't break over lines as text does.
    box.append(h("span", { role: "button", tabindex: "0", class: `rare-${levels[rarest]}`, "aria-pressed": "false", onclick: show, onkeydown: show }, part));
  }
  return box;
}

function card(span, index) {
  const more = span.count - span.sources.length;
  return h("article", { class: "document" },
    h("h3", {}, `${plural(span.count, "occurrence")}, ${plural(span.length, "token")}`),
    h("p", {}, h("mark", {}, span.text ?? span.tokens.join(" "))),
    h("ul", {}, span.sources.map((source) => h("li", {}, nameOf(source))), more > 0 ? h("li", { class: "note" }, `and ${number(more)} more`) : null),
    h("a", { href: address("lookup", { index, q: span.text ?? span.tokens.join(" ") }) }, "Look it up"));
}

function documents(told) {
  if (!told.documents.length) return null;
  const rows = told.documents.map((document) => h("li", {}, nameOf(document), h("span", { class: "note" },
    ` — ${plural(document.covered, "token")} of the text in ${plural(document.spans.length, "span")}`)));
  return h("section", {}, h("h2", {}, "Documents that share most"), h("ol", {}, rows));
}

function sqlOf(index, text, least) {
  return `SELECT place, m.length, m.count\nFROM (SELECT unnest(matches) AS m, generate_subscripts(matches, 1) AS place\n` +
    `      FROM (SELECT longest_matches(${sqlText(index)}, tokenize(${sqlText(index)}, ${sqlText(text)})) AS matches))\nWHERE m.length >= ${least}\nORDER BY place`;
}
