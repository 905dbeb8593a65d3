// Requests to this server: with the key of this tab, and with errors that say what the server said.

const PLACE = "memindex-key";

export const key = () => sessionStorage.getItem(PLACE) ?? "";
export const setKey = (value) => (value ? sessionStorage.setItem(PLACE, value) : sessionStorage.removeItem(PLACE));

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options, signal) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer: is it running?");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401) document.dispatchEvent(new Event("key-needed"));
  throw new ApiError(answer.status, problem.detail ?? problem.error ?? `${answer.status} ${answer.statusText}`);
}

export const get = async (path, signal) => (await ask(path, {}, signal)).json();
export const getText = async (path, accept, signal) => (await ask(path, { headers: { Accept: accept } }, signal)).text();

const posting = (body, accept = "application/json") => ({
  method: "POST",
  headers: { "Content-Type": "application/json", Accept: accept },
  body: JSON.stringify(body),
});
export const post = async (path, body, signal) => (await ask(path, posting(body), signal)).json();
export const postText = async (path, body, accept, signal) => (await ask(path, posting(body, accept), signal)).text();

export const indexPath = (index, what = "") => `/v1/indexes/${encodeURIComponent(index)}${what}`;
export const studyPath = (study, what = "") => `/v1/studies/${encodeURIComponent(study)}${what}`;

// Both lists change only when the server starts anew.
const kept = new Map();
async function once(path, signal) {
  const name = `${path} ${key()}`;
  if (!kept.has(name)) kept.set(name, await get(path, signal));
  return kept.get(name);
}
export const indexes = async (signal) => (await once("/v1/indexes", signal)).indexes;
export const studies = async (signal) => (await once("/v1/studies", signal)).studies;

// What an address says, as an error repeats it.
export const brief = (text) => (text.length > 80 ? `${text.slice(0, 80)}…` : text);

// The entry of a list that an address names; the first one where it names none.
export function named(kind, list, name, addressOf) {
  if (!name) return list[0];
  const found = list.find((one) => one.name === name);
  if (!found) throw new NotHere(kind, name, list.map((one) => [one.name, addressOf(one.name)]));
  return found;
}

// Something that an address names and this server does not have; `others`: names and addresses of what it has.
export class NotHere extends Error {
  constructor(kind, name, others) {
    super(`no ${kind} ${brief(name)} here`);
    this.others = others;
    this.many = kind === "index" ? "indexes" : kind === "study" ? "studies" : `${kind}s`;
  }
}

// A parameter of an address must be known, and be one of the choices where there are such.
export function check(values, known, choices = {}) {
  const names = Object.keys(values).filter((name) => !known.includes(name));
  if (names.length) throw new Error(`no parameter ${brief(names[0])} here: this view has ${known.length ? known.join(", ") : "none"}`);
  for (const [name, allowed] of Object.entries(choices)) {
    const value = values[name];
    if (value === undefined || value === "" || allowed.map(String).includes(value)) continue;
    throw new Error(`no ${name} ${brief(value)} here: there ${allowed.length === 1 ? "is" : "are"} ${allowed.join(", ") || "none"}`);
  }
}

// What an address asks for: token ids, or a text, which is ids where the index has no tokenizer. Null: nothing.
export function query(index, text, ids) {
  if (ids && text) throw new Error("the address has both a text and ids: give one of them");
  const numbers = /^\s*\d+(\s+\d+)*\s*$/;
  if (ids && !numbers.test(ids)) throw new Error(`ids: ${brief(ids)} are not token ids: write whole numbers with spaces between them`);
  if (!ids && (!text || index.tokenizer !== null || !numbers.test(text))) return text || null;
  return (ids || text).trim().split(/\s+/).map(Number);
}

// Ids, pieces and text of a text or of ids.
export async function tokenized(index, asked, signal) {
  if (index.tokenizer === null) return { tokens: asked, pieces: asked.map(String), text: asked.join(" "), characters: null };
  return (await post(indexPath(index.name, "/tokenize"), { texts: [asked] }, signal)).texts[0];
}

