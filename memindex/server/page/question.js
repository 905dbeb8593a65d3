// One question of a study: its figure, what the numbers are, the numbers, and the SQL behind them.

import { get, NotHere, studyPath } from "./api.js";
import { address, copyBar, field, fill, h, parameters, plural, say, select, sqlText, table } from "./dom.js";
import { figure, checkStudy } from "./study.js";

const SHOWN = 500;

// Samples drawn evenly over frequencies: questions refuse them.
const EVEN = ["bucket", "domain"];

export async function question(view, study, name, values) {
  const { box, signal, hasKey, title } = view;
  await checkStudy(study, signal);
  const { questions } = await get(studyPath(study, "/questions"), signal);
  const one = questions.find((other) => other.name === name);
  const page = (other) => `study/${encodeURIComponent(study)}/question/${other}`;
  if (!one) throw new NotHere("question", name, questions.map((other) => [other.title, `#/${page(other.name)}`]));
  title(one.title);
  const here = page(name);
  const told = await get(studyPath(study), signal);
  fill(box, h("p", { class: "lead" }, one.question), form(one, values, here, told));
  const path = studyPath(study, `/questions/${name}`);
  const query = new URLSearchParams(values).toString();
  const call = { path: query ? `${path}?${query}` : path };
  const place = h("div", { "aria-busy": "true" }, h("p", { class: "note" }, "Computing …"));
  box.append(place);
  const [drawn, answer] = await Promise.all([figure(study, one, values, signal), get(call.path, signal)]);
  say(plural(answer.rows.length, "row"));
  place.removeAttribute("aria-busy");
  const rows = answer.rows.slice(0, SHOWN);
  const sql = statement(one, values);
  const numbers = h("details", { class: "fold", open: one.figure === "none" || rows.length < 12 }, h("summary", {}, `The numbers (${plural(answer.rows.length, "row")}${answer.truncated ? ", more were cut off" : ""})`),
    rows.length ? table(`${one.title}: the numbers`, answer.columns.map((column) => column.name.replaceAll("_", " ")), rows) : h("p", { class: "note" }, "No rows: nothing in the study's tables answers this yet."));
  fill(place, drawn, ...[one.note, fewDocuments(answer)].filter(Boolean).map((text) => h("p", { class: "note" }, text)), numbers,
    h("details", { class: "fold" }, h("summary", {}, "The SQL"), h("pre", { tabindex: "0" }, h("code", {}, sql)),
      h("p", {}, h("a", { href: address("sql", { study, sql }) }, "Open it in SQL"))),
    h("p", {}, h("a", { href: `#/study/${encodeURIComponent(study)}` }, `All of ${told.title}`)),
    copyBar(call, { sql }, hasKey));
}

// What to say of rows whose interval rests on few documents.
function fewDocuments({ columns, rows }) {
  const column = columns.findIndex(({ name }) => name === "few_documents");
  const few = column < 0 ? 0 : rows.filter((row) => row[column]).length;
  return few ? `${few} of ${plural(rows.length, "row")}: fewer than 8 effective documents (few_documents), so an interval there may be too narrow.` : "";
}

// The SQL with the values that the address has, written out.
function statement(one, values) {
  return one.statement.replace(/\$([a-z_]+)/g, (whole, name) => {
    const value = values[name] ?? one.parameters[name];
    return typeof one.parameters[name] === "string" ? sqlText(String(value)) : String(Number(value));
  });
}

function form(one, values, here, told) {
  const names = Object.keys(one.parameters);
  if (!names.length) return null;
  const made = h("form", { class: "ask", onsubmit: (event) => {
    event.preventDefault();
    location.hash = address(here, Object.fromEntries(parameters(made)));
  } }, h("div", { class: "fields" }, names.map((name) => field(name.replaceAll("_", " "), control(one, name, values, told))), h("button", { class: "main" }, "Show")));
  return made;
}

function control(one, name, values, told) {
  const initial = one.parameters[name];
  const chosen = values[name] ?? initial;
  const options = name === "sample" ? told.samples.map((sample) => sample.sample).filter((sample) => !EVEN.includes(sample))
    : typeof initial === "string" && one.allowed[name] ? [initial, ...one.allowed[name].split(", ")] : null;
  if (options) return select(name, options.map((option) => [option, option]), chosen);
  return h("input", { name, class: "small", value: chosen, ...(typeof initial === "number" ? { type: "number", step: "any" } : {}) });
}
