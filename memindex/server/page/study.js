// A study: what its models memorized, its main figures, and all its questions.

import { check, get, getText, named, studies, studyPath } from "./api.js";
import { address, copyBar, failed, h, percent, plural, say, table } from "./dom.js";

const FIRST = ["rate_by_size", "rate_by_frequency", "domain_shares"];

export async function study(view, name, values) {
  const { box, signal, hasKey, title } = view;
  check(values, []);
  if (!name) return list(view);
  await checkStudy(name, signal);
  const told = await get(studyPath(name), signal);
  title(told.title);
  say(`${told.title}: ${plural(told.models.length, "model")}`);
  const path = `study/${encodeURIComponent(name)}`;
  box.append(
    h("p", { class: "lead" }, `${plural(told.models.length, "model")}, ${plural(told.runs.length, "run")}, ` +
      `${plural(told.samples.reduce((sum, one) => sum + one.sequences, 0), "sequence")} of the index ${told.index}.`),
    h("p", {}, h("a", { href: `#/${path}/sequences` }, "Browse the sequences"), " · ",
      h("a", { href: address("sql", { study: name }) }, "Ask in SQL")),
    h("h2", {}, "Memorized sequences"), rates(told));
  const figures = h("div", { class: "figures" });
  box.append(h("h2", {}, "Figures"), figures);
  const { questions } = await get(studyPath(name, "/questions"), signal);
  box.append(h("h2", {}, "All questions"), h("ul", { class: "questions" }, questions.map((one) =>
    h("li", {}, h("a", { href: `#/${path}/question/${one.name}`, title: one.question }, one.title)))));
  box.append(copyBar({ path: studyPath(name) }, { sql: "SELECT run_label, sample, count(*) AS sequences, avg(memorized::DOUBLE) AS rate\nFROM memorization\nGROUP BY ALL\nORDER BY ALL" }, hasKey));
  const known = questions.filter((one) => FIRST.includes(one.name));
  await Promise.all(known.map(async (one) => {
    const part = h("section", {}, h("h3", {}, h("a", { href: `#/${path}/question/${one.name}` }, one.title)), h("p", { class: "note" }, one.question));
    figures.append(part);
    part.append(await figure(name, one, {}, signal, "narrow"));
  }));
}

// Throws where this server has no such study.
export const checkStudy = async (name, signal) => named("study", await studies(signal), name, (other) => `#/study/${encodeURIComponent(other)}`);

async function list({ box, signal, title }) {
  title("Studies");
  const found = await studies(signal);
  if (found.length === 1) return void location.replace(`#/study/${encodeURIComponent(found[0].name)}`);
  box.append(found.length ? h("ul", {}, found.map((one) => h("li", {}, h("a", { href: `#/study/${encodeURIComponent(one.name)}` }, one.title))))
    : h("p", {}, "This server has no study."));
}

function rates(told) {
  const samples = told.samples.map((one) => one.sample);
  const runs = [...new Map(told.rates.map((one) => [one.run_id, one.run_label]))];
  const size = new Map(told.runs.map((run) => [run.run_id, told.models.find((model) => model.model_id === run.model_id)?.non_embedding_parameters ?? 0]));
  runs.sort(([one], [other]) => (size.get(one) ?? 0) - (size.get(other) ?? 0));
  const rows = runs.map(([id, label]) => [label, size.get(id) ?? null, ...samples.map((sample) => {
    const rate = told.rates.find((one) => one.run_id === id && one.sample === sample);
    return h("td", { class: "number" }, rate ? h("a", { href: address(`study/${encodeURIComponent(told.name)}/sequences`, { run: id, sample, outcome: "memorized" }) }, percent(rate.rate)) : "—");
  })]);
  if (!rows.length) return h("p", { class: "note" }, "No model was scored yet.");
  return table("Share of memorized sequences by model and sample", ["model", "parameters without embeddings", ...samples], rows);
}

// The figure as an image: what the server draws can't run anything there.
export async function figure(name, one, values, signal, drawn = innerWidth < 560 ? "narrow" : "wide") {
  if (one.figure === "none") return h("p", { class: "note" }, "The answer is a table.");
  const query = new URLSearchParams({ ...values, width: drawn });
  try {
    const svg = await getText(studyPath(name, `/questions/${one.name}/figure.svg?${query}`), "image/svg+xml", signal);
    const described = plainText(svg.match(/<desc[^>]*>(.*?)<\/desc>/s)?.[1] ?? "");
    return h("figure", { class: drawn }, h("img", { src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`, alt: `${one.title}. ${described}` }));
  } catch (error) {
    if (error.status === 404) return h("p", { class: "note" }, `No figure: ${error.message}.`);
    if (signal.aborted) throw error;
    return failed(error);
  }
}

// A parser of the browser would look at the drawing's styles, too, which this page's policy forbids.
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', "#x27": "'" };
const plainText = (xml) => xml.replace(/&([a-z]+|#x27);/g, (whole, name) => ENTITIES[name] ?? whole);
