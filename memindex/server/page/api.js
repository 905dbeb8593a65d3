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

// A text, or ids where the index has no tokenizer.
export function query(index, text) {
  if (index.tokenizer !== null || !/^\s*\d+(\s+\d+)*\s*$/.test(text)) return text;
  return text.trim().split(/\s+/).map(Number);
}
