// SQL over a study: one SELECT, its rows as a table or as CSV.

import { check, get, named, post, postText, studies, studyPath } from "./api.js";
import { address, copyBar, failed, field, fill, h, parameters, plural, say, select, table } from "./dom.js";

const SHOWN = 500;
const FIRST = `SELECT run_label, domain, count(*) AS sequences, avg(memorized::DOUBLE) AS rate
FROM memorization
GROUP BY ALL
ORDER BY rate DESC
LIMIT 20`;

export async function sql({ box, signal, hasKey }, values) {
  check(values, ["study", "sql"]);
  const found = await studies(signal);
  const study = named("study", found, values.study, (name) => address("sql", { ...values, study: name }));
  if (!study) return void box.append(h("p", {}, "This server has no study."));
  box.append(h("p", { class: "lead" }, "One SELECT at a time, over the study's tables and with functions that ask its indexes."), form(found, study, values.sql ?? FIRST));
  const result = h("div");
  box.append(result, await help(study, signal));
  if (!values.sql) return;
  const call = { path: studyPath(study.name, "/sql"), body: { sql: values.sql } };
  result.setAttribute("aria-busy", "true");
  fill(result, h("p", { class: "note" }, "Running …"));
  const began = performance.now();
  try {
    const answer = await post(call.path, call.body, signal);
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    fill(result, ...rows(answer, seconds), save(call, signal), copyBar(call, { sql: values.sql }, hasKey));
  } catch (error) {
    if (signal.aborted) return;
    fill(result, failed(error));
  } finally {
    result.removeAttribute("aria-busy");
  }
}

function form(found, study, text) {
  const area = h("textarea", { name: "sql", class: "code", rows: Math.min(18, Math.max(6, text.split("\n").length + 1)), required: true, spellcheck: "false", value: text });
  const made = h("form", { class: "ask", onsubmit: (event) => {
    event.preventDefault();
    const before = location.hash;
    location.hash = address("sql", Object.fromEntries(parameters(made)));
    // The same query again is asked again.
    if (location.hash === before) dispatchEvent(new HashChangeEvent("hashchange"));
  } },
  field("Query", area, "wide"),
  h("div", { class: "fields" }, field("Study", select("study", found.map((one) => [one.name, one.title]), study.name)), h("button", { class: "main" }, "Run"), h("span", { class: "note" }, "or Ctrl + Enter")));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) made.requestSubmit();
  });
  return made;
}

function rows(answer, seconds) {
  const told = `${plural(answer.rows.length, "row")}${answer.truncated ? " (there are more: they were cut off)" : ""} in ${seconds} s`;
  say(told);
  const shown = answer.rows.slice(0, SHOWN);
  const more = answer.rows.length > SHOWN ? h("p", { class: "note" }, `The first ${SHOWN} are shown; the CSV file has all.`) : null;
  return [h("p", { class: "note" }, told), shown.length ? table("Rows", answer.columns.map((column) => column.name), shown) : null, more].filter(Boolean);
}

function save(call, signal) {
  return h("p", {}, h("button", { type: "button", onclick: async () => {
    const text = await postText(call.path, call.body, "text/csv", signal);
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "rows.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  } }, "Save as CSV"));
}

async function help(study, signal) {
  const box = h("details", { class: "fold" }, h("summary", {}, "Tables, views and questions"));
  const { questions } = await get(studyPath(study.name, "/questions"), signal);
  box.append(h("p", { class: "note" }, "DESCRIBE memorization lists a table's columns. The view memorization has a row for each sequence under each run."),
    h("ul", { class: "questions" }, questions.map((one) => h("li", {}, h("a", { href: address("sql", { study: study.name, sql: one.sql }) }, one.title)))));
  return box;
}
