// One sequence: its prefix, and its suffix with what a model said instead, token below token.

import { brief, check, get, indexes, studyPath } from "./api.js";
import { address, bars, copyBar, decimal, excerpt, field, h, number, percent, plural, say, select, sqlText, visible } from "./dom.js";
import { checkStudy } from "./study.js";

export async function sequence({ box, signal, hasKey, title }, study, id, values) {
  check(values, ["run"]);
  await checkStudy(study, signal);
  if (!/^\d+$/.test(id)) throw new Error(`no sequence ${brief(id)} here: sequences have numbers`);
  const query = values.run ? `?${new URLSearchParams({ run: values.run })}` : "";
  const call = { path: studyPath(study, `/sequences/${encodeURIComponent(id)}${query}`) };
  const [told, found] = await Promise.all([get(call.path, signal), indexes(signal)]);
  const here = `study/${encodeURIComponent(study)}`;
  title(`Sequence ${told.sequence_id}`);
  say(told.outcome ? `Score ${percent(told.outcome.score)}` : `${plural(told.runs.length, "run")}`);
  box.append(h("p", {}, h("a", { href: address(`${here}/sequences`, { run: values.run }) }, "All sequences")), chooser(told, values, here));
  box.append(h("h2", {}, "Prefix"), told.prefix ? plain(told.prefix) : h("p", { class: "note" }, "Its tokens are not known."));
  box.append(h("h2", {}, told.outcome ? "Suffix, and below it the continuation" : "Suffix"));
  if (!told.suffix) box.append(h("p", { class: "note" }, "Its tokens are not known, or the run tokenized the text anew."));
  else box.append(told.continuation ? beside(told) : plain(told.suffix));
  box.append(h("div", { class: "columns" }, facts(told), counts(told)));
  box.append(links(told, found), copyBar(call, { sql: sqlOf(told, values.run) }, hasKey));
}

// By ids: the text by itself may be tokenized otherwise.
function links(told, found) {
  if (!told.prefix || !told.suffix || told.index === null) return h("p");
  const { index } = told;
  if (!found.some((one) => one.name === index)) return h("p", { class: "note" }, `This server does not have the index ${index}, so the sequence can't be looked up here.`);
  const ids = [...told.prefix.tokens, ...told.suffix.tokens].join(" ");
  return h("p", {}, h("a", { href: address("lookup", { index, ids }) }, "Look up the whole sequence"), " · ",
    h("a", { href: address("trace", { index, ids }) }, "Trace it"));
}

function chooser(told, values, here) {
  const options = told.runs.map((run) => [run.run_id, `${run.run_id}: ${run.memorized ? "memorized" : percent(run.score)}`]);
  const control = select("run", options, values.run, "none");
  const made = h("form", { class: "ask", onsubmit: (event) => {
    event.preventDefault();
    location.hash = address(`${here}/sequence/${told.sequence_id}`, { run: control.value });
  } }, h("div", { class: "fields" }, field("What a run made of it", control), h("button", { class: "main" }, "Show")));
  return made;
}

const name = (aligned, place) => (aligned.pieces ? visible(aligned.pieces[place]) || "…" : String(aligned.tokens[place]));

const plain = (aligned) => excerpt("ol", { class: "tokens" }, aligned.tokens.map((token, place) =>
  h("li", {}, h("span", { class: "token" }, name(aligned, place)), h("span", { class: "id" }, String(token)))));

function beside({ suffix, continuation, right, outcome }) {
  const { token_ranks: ranks, token_logprobs: logprobs } = outcome;
  const cells = suffix.tokens.map((token, place) => {
    const given = place < continuation.tokens.length ? name(continuation, place) : "";
    const isRight = right?.[place] ?? false;
    const kept = logprobs?.[place] === undefined ? "" : `; suffix token: log-probability ${decimal(logprobs[place])}, rank ${ranks?.[place] ?? "—"}`;
    return h("li", { class: isRight ? "right" : "wrong", title: `id ${token}${kept}` },
      h("span", { class: "token" }, name(suffix, place)),
      h("span", { class: "token given" }, given),
      h("span", { class: "sign" }, h("span", { "aria-hidden": "true" }, isRight ? "✓" : "✗"), h("span", { class: "hidden" }, isRight ? "right" : "wrong")),
      logprobs ? h("span", { class: "id" }, percent(Math.exp(logprobs[place]))) : null);
  });
  return h("div", {}, excerpt("ol", { class: "tokens" }, cells),
    h("p", { class: "note" }, "Above what the corpus has, below what the model said",
      logprobs ? "; the share is the probability that the model gave the corpus's token." : "."));
}

function facts(told) {
  const { document: place, outcome } = told;
  const source = place ? `${place.path ?? `document ${number(place.document)}`}${place.line === null ? "" : `:${place.line}`}, token ${number(place.offset)}${place.tokens === null ? "" : ` of ${number(place.tokens)}`}` : "not known";
  const rows = [["Domain", told.domain ?? "—"], ["Sample", told.sample], ["Document", source], ["Index", told.index ?? "—"]];
  if (outcome) {
    rows.push(["Run", outcome.run_id], ["Score", `${percent(outcome.score)}${outcome.memorized ? ", memorized" : ""}`],
      ["Until the first mismatch", plural(outcome.matched, "token")], ["Edit distance", plural(outcome.edit_distance, "token")],
      ["Log-probability of the suffix", decimal(outcome.suffix_logprob)], ["Perplexity of the prefix", decimal(outcome.prefix_perplexity)]);
    if (outcome.span) rows.push(["Longest part in the corpus", `${plural(outcome.span.length, "token")}, ${plural(outcome.span.count, "occurrence")}`]);
  }
  return h("section", {}, h("h2", {}, "What is known"), h("dl", { class: "facts" }, rows.map(([term, text]) => [h("dt", {}, term), h("dd", {}, text)])));
}

function counts(told) {
  const domains = Object.entries(told.domains);
  return h("section", {}, h("h2", {}, "In the corpus"),
    parts(told),
    domains.length ? [h("h3", {}, "By domain"), bars("Occurrences by domain", domains, told.sequence_count)] : null);
}

const parts = (told) => h("dl", { class: "facts" }, [["Whole sequence", told.sequence_count], ["Prefix", told.prefix_count], ["Suffix", told.suffix_count]]
  .map(([term, count]) => [h("dt", {}, term), h("dd", {}, count === null ? "not counted" : plural(count, "occurrence"))]));

function sqlOf(told, run) {
  const wanted = run ? `\n  AND run_id = ${sqlText(told.outcome?.run_id ?? run)}` : "";
  return `SELECT *\nFROM memorization_runs\nWHERE sequence_id = ${told.sequence_id}${wanted}`;
}
