// Which view an address means, and what every view shares: the navigation, the key, focus.

import { brief, key, setKey } from "./api.js";
import { failed, h, say } from "./dom.js";
import { start } from "./start.js";
import { lookup } from "./lookup.js";
import { trace } from "./trace.js";
import { study } from "./study.js";
import { sequences } from "./sequences.js";
import { sequence } from "./sequence.js";
import { question } from "./question.js";
import { sql } from "./sql.js";

const main = document.getElementById("main");
let running = new AbortController();

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parts = path.replace(/\/+$/, "").split("/").map(decoded);
  const values = parametersOf(query ?? "");
  const [name, one, kind, two] = parts;
  if (parts.length === 1) {
    if (name === "lookup") return [name, "Look up a text", (view) => lookup(view, values)];
    if (name === "trace") return [name, "Trace a text", (view) => trace(view, values)];
    if (name === "sql") return [name, "SQL", (view) => sql(view, values)];
    if (name === "") return ["", "memindex", (view) => start(view, values)];
  }
  if (name === "study" && parts.length <= 2) return [name, one || "Studies", (view) => study(view, one, values)];
  if (name === "study" && parts.length === 4 && kind === "sequence") return [name, `Sequence ${two}`, (view) => sequence(view, one, two, values)];
  if (name === "study" && parts.length === 3 && kind === "sequences") return [name, "Sequences", (view) => sequences(view, one, values)];
  if (name === "study" && parts.length === 4 && kind === "question") return [name, "Question", (view) => question(view, one, two, values)];
  throw new Error(`no page ${brief(path)} here: choose one above`);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Error(`the address is malformed: ${brief(part)} has a % that does not start an encoded character (write %25 for the sign itself)`);
  }
}

// A browser reads a wrong encoding as U+FFFD, which would be another text.
function parametersOf(query) {
  const values = Object.fromEntries(new URLSearchParams(query));
  for (const part of query.split("&")) {
    const marks = (text) => text.split("\ufffd").length;
    const [read] = new URLSearchParams(part);
    const meant = part.replaceAll(/%EF%BF%BD/gi, "\ufffd");
    if (read && marks(read.join("")) > marks(meant)) throw new Error(`the address is malformed: ${brief(part)} is not UTF-8`);
  }
  return values;
}

async function show(moved) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  let found;
  try {
    found = route();
  } catch (error) {
    found = ["", "Not found", () => Promise.reject(error)];
  }
  const [name, title, draw] = found;
  document.title = title === "memindex" ? title : `${title} · memindex`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = h("h1", { tabindex: "-1" }, title);
  const box = h("div");
  main.replaceChildren(heading, box);
  main.dataset.ready = "no";
  say("");
  if (moved) heading.focus();
  try {
    await draw({ box, heading, signal, hasKey: Boolean(key()), title: (text) => {
      heading.textContent = text;
      document.title = `${text} · memindex`;
    } });
  } catch (error) {
    if (signal.aborted) return;
    for (const waiting of box.querySelectorAll("[aria-busy]")) waiting.remove();
    box.append(failed(error));
  }
  if (!signal.aborted) main.dataset.ready = "yes";
}

// The address of the page's own parts is the view: the skip link moves focus only.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

const panel = document.getElementById("key-panel");
const state = document.getElementById("key-state");
document.addEventListener("key-needed", () => {
  panel.open = true;
  state.textContent = key() ? "The server does not know this key." : "This server asks for a key.";
});
document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(document.getElementById("key").value.trim());
  state.textContent = key() ? "The key goes with every request of this tab." : "No key is used.";
  show(false);
});
document.getElementById("key").value = key();

addEventListener("hashchange", () => show(true));
show(false);
