// How often a text occurs in a corpus: its count, by domain, documents that hold it, and what follows.

import { check, indexes, indexPath, named, post, query, tokenized } from "./api.js";
import { address, bars, copyBar, excerpt, failed, field, fill, h, number, parameters, plural, say, select, sqlText, visible } from "./dom.js";

export async function lookup({ box, signal, hasKey }, values) {
  check(values, ["index", "q", "ids"]);
  const found = await indexes(signal);
  const index = named("index", found, values.index, (name) => address("lookup", { ...values, index: name }));
  if (!index) return void box.append(h("p", {}, "This server has no index."));
  const place = h("div");
  box.append(h("p", { class: "lead" }, "Every occurrence in the corpus is counted, whatever its number."), place);
  fill(place, form(found, index, values.q, null));
  const asked = query(index, values.q, values.ids);
  if (asked === null) return;
  const told = tokenized(index, asked, signal);
  if (values.ids) fill(place, form(found, index, (await told).text, values.ids));
  const byDomain = index.domains.length > 0;
  const call = { path: indexPath(index.name, "/count"), body: { queries: [asked], by_domain: byDomain } };
  const result = h("div", { "aria-busy": "true" }, h("p", { class: "note" }, "Looking up …"));
  box.append(result);
  const [counted, inText] = await Promise.all([post(call.path, call.body, signal), told]);
  const { count, tokens, domains } = counted.counts[0];
  // A text may have a space of the tokenizer in front, which is not looked for.
  const pieces = inText.pieces.slice(inText.pieces.length - tokens.length);
  say(`${plural(count, "occurrence")} of ${plural(tokens.length, "token")}`);
  const left = h("section", {}, h("h2", {}, "By domain"), domains ? domainBars(domains, count) : h("p", { class: "note" }, "This index has no domains."));
  const right = h("section", {}, h("h2", {}, "What follows"));
  const documents = h("section", {}, h("h2", {}, "Where it occurs"));
  fill(result,
    h("p", { class: "count" }, number(count)),
    h("p", { class: "note" }, `${count === 1 ? "occurrence" : "occurrences"} of ${plural(tokens.length, "token")} in ${index.name}${values.ids ? ", looked up by token ids" : ""}`),
    excerpt("div", { class: "pieces", "aria-label": "Tokens" }, pieces.map((piece, place) => h("span", { class: "piece", title: `id ${tokens[place]}` }, visible(piece)))),
    h("div", { class: "columns" }, left, right), documents,
    copyBar(call, sqlOf(index, asked, byDomain), hasKey));
  result.removeAttribute("aria-busy");
  if (!count) documents.append(h("p", { class: "note" }, "Nowhere in this corpus."));
  await Promise.all([follow(right, index, asked, signal), excerpts(documents, index, asked, count, signal)]);
}

function form(found, index, text, ids) {
  const area = excerpt("textarea", { name: "q", rows: "2", spellcheck: "false", required: true, value: text ?? "" });
  const chosen = select("index", found.map((one) => [one.name, one.name]), index.name);
  const made = h("form", { class: "ask", onsubmit: (event) => {
    event.preventDefault();
    const typed = Object.fromEntries(parameters(made));
    // The ids are those of this text in this index.
    const same = ids && area.value === (text ?? "") && chosen.value === index.name;
    location.hash = address("lookup", same ? { index: typed.index, ids } : typed);
  } },
  field("Text", area, "wide"),
  h("div", { class: "fields" }, field("Index", chosen), h("button", { class: "main" }, "Look up")));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      made.requestSubmit();
    }
  });
  return made;
}

function domainBars(domains, count) {
  const rows = Object.entries(domains).filter(([, inside]) => inside).sort((one, other) => other[1] - one[1]);
  return rows.length ? bars("Occurrences by domain", rows, count) : h("p", { class: "note" }, "In no domain.");
}

async function follow(section, index, asked, signal) {
  try {
    const { next, count, end_of_document: end, distinct } = await post(indexPath(index.name, "/next"), { query: asked, top: 8 }, signal);
    if (!count) return void section.append(h("p", { class: "note" }, "Nothing: the text does not occur."));
    const rows = next.map((one) => [one.text === null ? String(one.token) : visible(one.text), one.count]);
    if (end.count) rows.push(["end of the document", end.count]);
    section.append(bars("Next tokens", rows, count), h("p", { class: "note" }, `${plural(distinct, "different next token")} in total`));
  } catch (error) {
    if (!signal.aborted) section.append(failed(error));
  }
}

async function excerpts(section, index, asked, count, signal) {
  if (!count) return;
  try {
    const told = await post(indexPath(index.name, "/documents"), { query: asked, limit: 10 }, signal);
    const [least, most] = [told.documents_at_least, told.documents_at_most];
    section.append(h("p", { class: "note" }, `In ${least === most ? plural(least, "document") : `${number(least)} to ${plural(most, "document")}`}; ` +
      `${told.documents.length === count ? "all" : `${number(told.documents.length)} of the`} occurrences:`));
    section.append(...told.documents.map(shown));
  } catch (error) {
    if (!signal.aborted) section.append(failed(error));
  }
}

export function shown(document) {
  // Positions count characters, as Python does; JavaScript counts halves of some.
  const letters = Array.from(document.text);
  const [start, end] = document.match_characters;
  const before = document.start > 0 ? "…" : "";
  const after = document.start + document.tokens.length < document.document_tokens ? "…" : "";
  return h("article", { class: "document" }, h("h3", {}, nameOf(document)),
    excerpt("p", {}, before, letters.slice(0, start).join(""), h("mark", {}, letters.slice(start, end).join("")), letters.slice(end).join(""), after));
}

export const nameOf = ({ domain, path, line, shard, document }) =>
  [domain, path === null ? `document ${number(document)} of shard ${shard}` : `${path}${line === null ? "" : `:${line}`}`].filter(Boolean).join(" · ");

export const NO_STUDY = "There is no SQL to copy: it runs in a study, and no study of this server has this index.";

function sqlOf(index, asked, byDomain) {
  const [study] = index.studies;
  if (!study) return { why: NO_STUDY };
  const name = sqlText(index.name);
  const tokens = typeof asked === "string" ? `tokenize(${name}, ${sqlText(asked)})` : `[${asked.join(", ")}]`;
  const more = byDomain ? `,\n       ngram_count_by_domain(${name}, ${tokens}) AS domains` : "";
  return { sql: `SELECT ngram_count(${name}, ${tokens}) AS count${more}`, study };
}
