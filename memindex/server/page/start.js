// What this server holds.

import { check, indexes, studies } from "./api.js";
import { address, h, plural } from "./dom.js";

export async function start({ box, signal }, values) {
  check(values, []);
  box.append(h("p", { class: "lead" },
    "What did language models memorize, how often did it occur in their training data, and in which domains?"));
  const [found, read] = await Promise.all([indexes(signal), studies(signal)]);
  const corpora = found.map((index) => h("li", {}, h("a", { href: address("lookup", { index: index.name }) }, index.name),
    ` — ${plural(index.tokens, "token")} in ${plural(index.documents, "document")}, ${plural(index.domains.length, "domain")}`));
  const list = read.map((study) => h("li", {}, h("a", { href: `#/study/${encodeURIComponent(study.name)}` }, study.title),
    study.title === study.name ? "" : ` (${study.name})`));
  const none = (what) => h("li", { class: "note" }, `This server has no ${what}.`);
  box.append(h("h2", {}, "Indexes"), h("ul", {}, corpora.length ? corpora : none("index")),
    h("h2", {}, "Studies"), h("ul", {}, list.length ? list : none("study")),
    h("p", { class: "note" }, "For programs: ",
      h("a", { href: "/openapi.json" }, "OpenAPI"), " describes the HTTP interface."));
}
