// Small helpers: elements without markup (what comes from data is always text), numbers, tables, what is told aloud.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter(present));
  return element;
}

const present = (child) => child !== null && child !== undefined && child !== false;

// Put children in place of those that are there; what is none is left out.
export const fill = (box, ...children) => box.replaceChildren(...children.flat(9).filter(present));

const whole = new Intl.NumberFormat("en-US");
export const number = (value) => (value === null || value === undefined ? "—" : whole.format(value));
export const percent = (value) => (value === null || value === undefined ? "—" : `${Number((100 * value).toPrecision(3))}\u00a0%`);
export const decimal = (value) => (typeof value === "number" ? String(Number(value.toPrecision(3))) : value ?? "—");
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

// White space in a token must be seen.
export const visible = (piece) => piece.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "·");

export function say(text) {
  document.getElementById("status").textContent = text;
}

export const failed = (error) => {
  say(`Error: ${error.message}`);
  const others = error.others?.length ? [h("p", {}, `The ${error.many} of this server:`),
    h("ul", { class: "others" }, error.others.map(([name, href]) => h("li", {}, h("a", { href }, name))))] : null;
  return h("div", {}, h("p", { class: "error", role: "alert" }, error.message, error.others && !others ? `: this server has no ${error.many}` : null), others);
};

// A text from the corpus or of a model, in its own direction.
export const excerpt = (name, attributes, ...children) => h(name, { dir: "auto", ...attributes }, ...children);

// Rows of [label, count]: a bar for each, the largest full.
export function bars(caption, rows, share = null) {
  const most = Math.max(1, ...rows.map(([, count]) => count));
  const total = share ?? rows.reduce((sum, [, count]) => sum + count, 0);
  return h("table", { class: "bars" },
    h("caption", { class: "hidden" }, caption),
    h("thead", { class: "hidden" }, h("tr", {}, ["", "", "Count", "Share"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([label, count]) => {
      const bar = h("span");
      bar.style.setProperty("--share", count / most);
      return h("tr", {}, h("th", { scope: "row", dir: "auto" }, label), h("td", { class: "bar", "aria-hidden": "true" }, bar),
        h("td", { class: "number" }, number(count)), h("td", { class: "number" }, percent(total ? count / total : 0)));
    })));
}

export function cell(value) {
  if (value === null || value === undefined) return h("td", { class: "null" }, "—");
  if (typeof value === "number") return h("td", { class: "number" }, Number.isInteger(value) ? number(value) : decimal(value));
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return h("td", { class: text.length > 40 ? "long" : null, dir: "auto" }, text.length > 2000 ? `${text.slice(0, 2000)}…` : text);
}

export function table(caption, columns, rows) {
  const isNumber = (place) => rows.some((row) => typeof row[place] === "number");
  const head = columns.map((name, place) => h("th", { scope: "col", class: isNumber(place) ? "number" : null }, name));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value) => (value instanceof Node ? value : cell(value))))))));
}

export function field(label, control, kind = "") {
  control.id ||= `field-${label.toLowerCase().replace(/\W+/g, "-")}`;
  return h("div", { class: `field ${kind}` }, h("label", { for: control.id }, label), control);
}

export function select(name, options, chosen, every = null) {
  const rows = every === null ? options : [["", every], ...options];
  return h("select", { name }, rows.map(([value, text]) => h("option", { value, selected: String(value) === String(chosen ?? "") }, text)));
}

// What a form says, as a part of an address; empty fields are left out.
export function parameters(form) {
  const pairs = [...new FormData(form)].filter(([, value]) => value !== "");
  return new URLSearchParams(pairs);
}

export const address = (path, values) => {
  const filled = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(filled).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
};

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one)}`).join(", ")}}`;
}
export const sqlText = (text) => `'${text.replaceAll("'", "''")}'`;

// The request as what can be pasted elsewhere. The key itself is never written. `sql`: a statement that gives what is
// shown, with the study in whose SQL it runs, or why there is none.
export function copyBar(call, { sql = null, study = null, why = null }, hasKey) {
  const url = new URL(call.path, location.origin).href;
  const header = hasKey ? ` -H "Authorization: Bearer $MEMINDEX_KEY"` : "";
  const body = call.body ? ` \\\n  -H 'Content-Type: application/json' \\\n  -d ${shell(JSON.stringify(call.body))}` : "";
  const headers = hasKey ? ', headers={"Authorization": "Bearer " + os.environ["MEMINDEX_KEY"]}' : "";
  const imports = hasKey ? "import os\n\nimport requests" : "import requests";
  const asked = call.body
    ? `answer = requests.post(${JSON.stringify(url)}, json=${python(call.body)}${headers})`
    : `answer = requests.get(${JSON.stringify(url)}${headers})`;
  const forms = {
    curl: `curl -s ${shell(url)}${header}${body}`,
    Python: `${imports}\n\n${asked}\nanswer.raise_for_status()\nprint(answer.json())`,
    ...(sql ? { SQL: sql } : {}),
    Link: location.href,
  };
  const shown = h("pre", { tabindex: "0", hidden: true }, h("code"));
  const buttons = Object.entries(forms).map(([name, text]) => h("button", {
    type: "button",
    onclick: async () => {
      shown.hidden = false;
      shown.firstChild.textContent = text;
      try {
        await navigator.clipboard.writeText(text);
        say(`${name} copied`);
      } catch {
        say(`${name} is shown below`);
      }
    },
  }, name));
  return h("section", { class: "copy", "aria-label": "Copy as" }, h("div", { class: "row" }, "Copy as", buttons), shown,
    sql && study ? h("p", { class: "note" }, "The SQL runs in the study ", h("a", { href: address("sql", { study, sql }) }, study), ".") : null,
    why ? h("p", { class: "note" }, why) : null);
}
