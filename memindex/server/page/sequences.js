// The sequences of a study: filters, and pages of a table.

import { get, studyPath } from "./api.js";
import { address, copyBar, field, fill, h, number, parameters, percent, plural, say, select, sqlText } from "./dom.js";

const OUTCOMES = [["memorized", "memorized"], ["half", "half memorized"], ["unmemorized", "unmemorized"]];
const ORDERS = [["id", "number"], ["frequency", "frequency"], ["score", "score"]];

export async function sequences({ box, signal, hasKey, title }, study, values) {
  const told = await get(studyPath(study), signal);
  const here = `study/${encodeURIComponent(study)}/sequences`;
  title(`Sequences of ${told.title}`);
  box.append(h("p", {}, h("a", { href: `#/study/${encodeURIComponent(study)}` }, `All of ${told.title}`)), form(told, values, here));
  const query = new URLSearchParams({ limit: "25", ...values });
  const call = { path: studyPath(study, `/sequences?${query}`) };
  const place = h("div", { "aria-busy": "true" }, h("p", { class: "note" }, "Reading …"));
  box.append(place);
  const page = await get(call.path, signal);
  say(`${plural(page.sequences.length, "sequence")} shown`);
  place.removeAttribute("aria-busy");
  const more = page.next ? h("p", {}, h("a", { href: address(here, { ...values, cursor: page.next }), rel: "next" }, "Next page")) : null;
  const first = values.cursor ? h("p", {}, h("a", { href: address(here, { ...values, cursor: null }) }, "First page")) : null;
  fill(place, page.sequences.length ? rows(page, study) : h("p", {}, "No sequence is like this."), more, first,
    copyBar(call, sqlOf(page.run, values), hasKey));
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
  const text = (value) => h("td", { class: "text" }, value ?? h("span", { class: "null" }, "—"));
  const outcome = (row) => (row.memorized ? "memorized" : row.score > 0 ? "half" : "unmemorized");
  const body = page.sequences.map((row) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: address(`study/${encodeURIComponent(study)}/sequence/${row.sequence_id}`, { run: page.run }) }, String(row.sequence_id))),
    h("td", { class: "number" }, number(row.sequence_count)),
    scored ? [h("td", { class: "number" }, percent(row.score)), h("td", { class: row.memorized ? "memorized" : null }, outcome(row))] : null,
    h("td", {}, row.domain ?? "—"), h("td", {}, row.sample), text(row.prefix), text(row.suffix), scored ? text(row.continuation) : null));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sequences" }, h("table", {},
    h("caption", { class: "hidden" }, "Sequences"),
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: numeric.has(name) ? "number" : null }, name)))), h("tbody", {}, body)));
}

function sqlOf(run, values) {
  const outcomes = { memorized: "memorized", half: "score > 0 AND NOT memorized", unmemorized: "score = 0" };
  const wanted = [run && `run_id = ${sqlText(run)}`, values.sample && `sample = ${sqlText(values.sample)}`, values.domain && `domain = ${sqlText(values.domain)}`,
    values.bucket && (values.bucket < 0 ? "sequence_count = 0" : `frequency_bucket = ${Number(values.bucket)}`), outcomes[values.outcome]].filter(Boolean);
  const order = { frequency: "sequence_count DESC, ", score: "score DESC, " }[values.order] ?? "";
  return `SELECT sequence_id, run_id, sample, domain, sequence_count, score\nFROM memorization_runs\n${wanted.length ? `WHERE ${wanted.join("\n  AND ")}\n` : ""}ORDER BY ${order}sequence_id\nLIMIT 25`;
}
