// Which parts of a text occur in a corpus word for word: the rarer, the stronger their colour.

import { brief, check, indexes, indexPath, named, post, query, tokenized } from "./api.js";
import { address, copyBar, excerpt, field, fill, h, number, parameters, percent, plural, say, select, sqlText } from "./dom.js";
import { nameOf, NO_STUDY } from "./lookup.js";

// Occurrences from which on a span has a colour, rarest first, and what the legend calls them.
const LEVELS = [[1, "once"], [2, "2 to 9 times"], [10, "10 to 99"], [100, "100 to 999"], [1000, "1,000 or more"]];

export async function trace({ box, signal, hasKey }, values) {
  check(values, ["index", "text", "ids", "min"]);
  const found = await indexes(signal);
  const index = named("index", found, values.index, (name) => address("trace", { ...values, index: name }));
  if (!index) return void box.append(h("p", {}, "This server has no index."));
  const least = values.min ? Number(values.min) : 8;
  const place = h("div");
  box.append(h("p", { class: "lead" }, "Finds the longest parts that the corpus holds word for word, and the documents they occur in."), place);
  fill(place, form(found, index, values.text, null, least));
  if (!Number.isInteger(least) || least < 1) throw new Error(`min: ${brief(values.min)} is not a whole number of at least 1`);
  const asked = query(index, values.text, values.ids);
  if (asked === null) return;
  const shown = values.ids ? await asText(index, asked, signal) : { text: values.text, characters: null };
  if (values.ids) fill(place, form(found, index, shown.text, values.ids, least));
  const call = { path: indexPath(index.name, "/trace"), body: { query: asked, min_tokens: least } };
  const result = h("div", { "aria-busy": "true" }, h("p", { class: "note" }, "Tracing …"));
  box.append(result);
  const told = await post(call.path, call.body, signal);
  const sources = h("section", { "aria-live": "polite" });
  say(`${plural(told.spans.length, "span")}, ${percent(told.coverage)} of the text`);
  fill(result,
    h("p", {}, `${plural(told.spans.length, "span")} of ${least} tokens or more: ${percent(told.coverage)} of ${plural(told.tokens.length, "token")}.`),
    told.spans.length ? legend() : null,
    highlighted(shown, told.spans, (chosen) => fill(sources, ...chosen.map((span) => card(span, index.name)))),
    h("p", { class: "note" }, told.spans.length ? "Choose a coloured part to see where it occurs." : "Nothing of this length occurs in the corpus: try fewer tokens."),
    sources, documents(told), copyBar(call, sqlOf(index, told.tokens, least), hasKey));
  result.removeAttribute("aria-busy");
}

// The text of ids, and the characters of each.
async function asText(index, ids, signal) {
  const told = await tokenized(index, ids, signal);
  const again = index.tokenizer === null ? null : await tokenized(index, told.text, signal);
  if (again && String(again.tokens) === String(ids)) return { text: told.text, characters: again.characters };
  // No text has these ids: each token is shown by itself.
  const pieces = index.tokenizer === null ? told.pieces.map((piece) => `${piece} `) : told.pieces;
  const ends = pieces.map((piece) => Array.from(piece).length).map(((sum) => (length) => (sum += length))(0));
  return { text: pieces.join(""), characters: ends.map((end, at) => [at ? ends[at - 1] : 0, end]) };
}

function form(found, index, text, ids, least) {
  const area = excerpt("textarea", { name: "text", rows: "5", required: true, spellcheck: "false", value: text ?? "" });
  const chosen = select("index", found.map((one) => [one.name, one.name]), index.name);
  const made = h("form", { class: "ask", onsubmit: (event) => {
    event.preventDefault();
    const typed = Object.fromEntries(parameters(made));
    // The ids are those of this text in this index.
    const same = ids && area.value === text && chosen.value === index.name;
    location.hash = address("trace", same ? { index: typed.index, ids, min: typed.min } : typed);
  } },
  field("Text", area, "wide"),
  h("div", { class: "fields" },
    field("Index", chosen),
    field("Tokens at least", h("input", { name: "min", type: "number", min: "1", value: Number.isInteger(least) ? least : 8, class: "small" })),
    h("button", { class: "main" }, "Trace")));
  return made;
}

const levelOf = (count) => LEVELS.findLastIndex(([from]) => count >= from);

const legend = () => h("ul", { class: "note keys", "aria-label": "Colours: occurrences in the corpus" }, LEVELS.map(([, name], level) =>
  h("li", {}, h("span", { class: `key count-${level}`, "aria-hidden": "true" }), name)));

// Spans overlap: the text is cut at every end, and each part has the colour of its rarest span.
function highlighted({ text, characters }, spans, choose) {
  const letters = Array.from(text);
  const ends = (span) => characters ? [characters[span.start][0], characters[span.start + span.length - 1][1]] : span.characters ?? [0, 0];
  const placed = spans.map((span, place) => [...ends(span), place]);
  const cuts = [...new Set([0, letters.length, ...placed.flatMap(([start, end]) => [start, end])])].sort((one, other) => one - other);
  const box = excerpt("div", { class: "traced" });
  for (const [place, start] of cuts.slice(0, -1).entries()) {
    const part = letters.slice(start, cuts[place + 1]).join("");
    const inside = placed.filter(([from, to]) => from <= start && cuts[place + 1] <= to).map(([, , span]) => spans[span]);
    if (!inside.length) {
      box.append(part);
      continue;
    }
    const rarest = Math.min(...inside.map((span) => span.count));
    const show = (event) => {
      if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      for (const other of box.children) other.setAttribute("aria-pressed", String(other === event.currentTarget));
      choose(inside);
    };
    // No <button>: those don't break over lines as text does.
    box.append(h("span", { role: "button", tabindex: "0", class: `count-${levelOf(rarest)}`, title: plural(rarest, "occurrence"), "aria-pressed": "false", onclick: show, onkeydown: show }, part));
  }
  return box;
}

function card(span, index) {
  const more = span.count - span.sources.length;
  return h("article", { class: "document" },
    h("h3", {}, `${plural(span.count, "occurrence")}, ${plural(span.length, "token")}`),
    excerpt("p", {}, h("mark", {}, span.text || span.tokens.join(" "))),
    h("ul", {}, span.sources.map((source) => h("li", {}, nameOf(source))), more > 0 ? h("li", { class: "note" }, `and ${number(more)} more`) : null),
    // By its ids: the text by itself may be tokenized otherwise.
    h("a", { href: address("lookup", { index, ids: span.tokens.join(" ") }) }, "Look it up"));
}

function documents(told) {
  if (!told.documents.length) return null;
  const rows = told.documents.map((document) => h("li", {}, nameOf(document), h("span", { class: "note" },
    ` — ${plural(document.covered, "token")} of the text in ${plural(document.spans.length, "span")}`)));
  return h("section", {}, h("h2", {}, "Documents that share most"), h("ol", {}, rows));
}

// The spans: matches of enough tokens that go on beyond the match from the token before.
function sqlOf(index, tokens, least) {
  const [study] = index.studies;
  if (!study) return { why: NO_STUDY };
  const name = sqlText(index.name);
  const text = index.tokenizer === null ? "" : `,\n       detokenize(${name}, asked.tokens[start + 1:start + length]) AS text`;
  return { study, sql: `WITH asked AS (SELECT [${tokens.join(", ")}] AS tokens),
matches AS (
    SELECT generate_subscripts(found, 1) - 1 AS start, unnest(found, recursive := true)
    FROM (SELECT longest_matches(${name}, tokens) AS found FROM asked)
)
SELECT start, length, count${text}
FROM (SELECT *, lag(start + length, 1, 0) OVER (ORDER BY start) AS reached FROM matches), asked
WHERE length >= ${least} AND start + length > reached
ORDER BY start` };
}
