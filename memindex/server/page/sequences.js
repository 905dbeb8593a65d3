// The sequences of a study: filters, and pages of a table.

import { check, get, studyPath } from "./api.js";
import { address, copyBar, excerpt, field, fill, h, number, parameters, percent, plural, say, select, sqlText } from "./dom.js";

import { checkStudy } from "./study.js";

const OUTCOMES = [["memorized", "memorized"], ["half", "half memorized"], ["unmemorized", "unmemorized"]];
const ORDERS = [["id", "number"], ["frequency", "frequency"], ["score", "score"]];

const OPTIONS = ["run", "model", "outcome", "sample", "domain", "bucket", "order", "limit", "cursor"];

export async function sequences({ box, signal, hasKey, title }, study, values) {
  check(values, OPTIONS);
  await checkStudy(study, signal);
  const told = await get(studyPath(study), signal);
  const here = `study/${encodeURIComponent(study)}/sequences`;
  title(`Sequences of ${told.title}`);
  box.append(h("p", {}, h("a", { href: `#/study/${encodeURIComponent(study)}` }, `All of ${told.title}`)), form(told, values, here));
  check(values, OPTIONS, {
    run: told.runs.map((run) => run.run_id).concat(told.models.map((model) => model.model_id)),
    model: told.models.map((model) => model.model_id),
    outcome: OUTCOMES.map(([name]) => name),
    sample: told.samples.map((one) => one.sample),
    domain: told.domains.map((one) => one.domain),
    bucket: told.buckets.map((one) => one.bucket),
    order: ORDERS.map(([name]) => name),
  });
  const filled = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
  const query = new URLSearchParams({ limit: "25", ...filled });
  const call = { path: studyPath(study, `/sequences?${query}`) };
  const place = h("div", { "aria-busy": "true" }, h("p", { class: "note" }, "Reading …"));
  box.append(place);
  const page = await get(call.path, signal);
  say(`${plural(page.sequences.length, "sequence")} shown`);
  place.removeAttribute("aria-busy");
  const more = page.next ? h("p", {}, h("a", { href: address(here, { ...values, cursor: page.next }), rel: "next" }, "Next page")) : null;
  const first = values.cursor ? h("p", {}, h("a", { href: address(here, { ...values, cursor: null }) }, "First page")) : null;
  fill(place, page.sequences.length ? rows(page, study) : h("p", {}, "No sequence is like this."), more, first,
    copyBar(call, { sql: sqlOf(page.run, { limit: 25, ...filled }) }, hasKey));
}

function form(told, values, here) {
  const runs = told.runs.map((run) => [run.run_id, run.run_id]);
  const bucket = ({ bucket: one, sequences: count }) => [one, `${one < 0 ? "0 times" : one === 0 ? "once" : `${number(2 ** one)} to ${number(2 ** (one + 1) - 1)} times`} (${number(count)})`];
  const made = h("form", { class: "ask", onsubmit: (event) => {
    event.preventDefault();
    location.hash = address(here, Object.fromEntries(parameters(made)));
  } }, h("div", { class: "fields" },
    field("Run", select("run", runs, values.run ?? values.model, "none")),
    field("Outcome", select("outcome", OUTCOMES, values.outcome, "all")),
    field("Sample", select("sample", told.samples.map((one) => [one.sample, one.sample]), values.sample, "all")),
    field("Domain", select("domain", told.domains.map((one) => [one.domain, one.domain]), values.domain, "all")),
    field("Frequency", select("bucket", told.buckets.map(bucket), values.bucket, "any")),
    field("Order by", select("order", ORDERS, values.order ?? "id")),
    h("button", { class: "main" }, "Show")));
  return made;
}

function rows(page, study) {
  const scored = page.run !== null;
  const names = ["sequence", "occurrences", ...(scored ? ["score", "outcome"] : []), "domain", "sample", "prefix", "suffix", ...(scored ? ["continuation"] : [])];
  const numeric = new Set(["occurrences", "score"]);
  const outcome = (row) => (row.memorized ? "memorized" : row.score > 0 ? "half" : "unmemorized");
  const body = page.sequences.map((row) => {
    // On a phone the rows are stacked, and each cell says what it is.
    const plain = (column, value, kind = null) => h("td", { class: kind, "data-name": column }, value);
    const text = (column) => h("td", { class: "text", "data-name": column }, row[column] === null ? h("span", { class: "null" }, "—") : excerpt("div", {}, row[column]));
    return h("tr", {},
      h("th", { scope: "row" }, h("a", { href: address(`study/${encodeURIComponent(study)}/sequence/${row.sequence_id}`, { run: page.run }) }, String(row.sequence_id))),
      plain("occurrences", number(row.sequence_count), "number"),
      scored ? [plain("score", percent(row.score), "number"), plain("outcome", outcome(row), row.memorized ? "memorized" : null)] : null,
      plain("domain", row.domain ?? "—"), plain("sample", row.sample), text("prefix"), text("suffix"), scored ? text("continuation") : null);
  });
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sequences" }, h("table", { class: "stack" },
    h("caption", { class: "hidden" }, "Sequences"),
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: numeric.has(name) ? "number" : null }, name)))), h("tbody", {}, body)));
}

// The rows of this page; a cursor is what rows are ordered by and the number, of the last row before them.
function sqlOf(run, values) {
  const outcomes = { memorized: "memorized", half: "score > 0 AND NOT memorized", unmemorized: "score = 0" };
  const orders = { frequency: "coalesce(sequence_count, -1)", ...(run ? { score: "coalesce(score, -1)::DOUBLE" } : {}) };
  const order = orders[values.order];
  const wanted = [run && `run_id = ${sqlText(run)}`, values.sample && `sample = ${sqlText(values.sample)}`, values.domain && `domain = ${sqlText(values.domain)}`,
    values.bucket && within(Number(values.bucket)), outcomes[values.outcome], values.cursor && after(values.cursor, order)].filter(Boolean);
  const source = run ? "memorization_runs" : 'sequences LEFT JOIN (FROM frequencies WHERE "index" = study_index()) USING (sequence_id)';
  return `SELECT sequence_id, sample, domain, sequence_count${run ? ", run_id, score, memorized" : ""}\nFROM ${source}\n` +
    `${wanted.length ? `WHERE ${wanted.join("\n  AND ")}\n` : ""}ORDER BY ${order ? `${order} DESC, ` : ""}sequence_id\nLIMIT ${Number(values.limit)}`;
}

const within = (bucket) => (bucket < 0 ? "sequence_count = 0" : `sequence_count BETWEEN ${2 ** bucket} AND ${2 ** (bucket + 1) - 1}`);

function after(cursor, order) {
  const [key, number] = JSON.parse(atob(cursor.replaceAll("-", "+").replaceAll("_", "/")));
  const last = `${Number(key)}::DOUBLE`;
  return order ? `(${order} < ${last} OR (${order} = ${last} AND sequence_id > ${Number(number)}))` : `sequence_id > ${Number(number)}`;
}
