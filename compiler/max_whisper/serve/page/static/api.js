// Speaks with the server.

const KEY = "max-whisper-key";

// An error whose message is the sentence that the server gave.
export class Refusal extends Error {
  constructor(status, body) {
    super(sentence(status, body));
    this.status = status;
  }
}

function sentence(status, body) {
  try {
    const message = JSON.parse(body).error.message;
    if (typeof message === "string" && message) return message;
  } catch {
    // no answer of max-whisper: perhaps that of a proxy before it
  }
  if (!status) return "The server cannot be reached: is it still running?";
  return `The server answered with status ${status} and gave no reason.`;
}

export const setKey = (key) => sessionStorage.setItem(KEY, key);
export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

// Returns the JSON of an address, or throws a Refusal.
export async function getJson(path) {
  let response;
  try {
    response = await fetch(path, { headers: authorization() });
  } catch {
    throw new Refusal(0, "");
  }
  const body = await response.text();
  if (!response.ok) throw new Refusal(response.status, body);
  return JSON.parse(body);
}

// Opens a WebSocket. Browsers can send a key with it in a subprotocol alone, which has no signs but these.
export function socketOf(path) {
  const key = sessionStorage.getItem(KEY);
  const sign = (character) => `%${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  const safe = key?.replace(/[^A-Za-z0-9!#$&'*+.^_`|~-]/g, sign);
  return new WebSocket(`${location.origin.replace(/^http/, "ws")}${path}`, ["realtime", ...(key ? [`openai-insecure-api-key.${safe}`] : [])]);
}

// Sends a recording, and calls onEvent with each event of the answer; onUpload with the share that was sent.
// Returns { done, abort }: a promise, which a Refusal rejects, and a function that hangs up. fetch() cannot tell how
// much was sent, so this is an XMLHttpRequest.
export function transcribe(file, models, language, { onUpload, onEvent }) {
  const request = new XMLHttpRequest();
  const form = new FormData();
  for (const model of models) form.append("model", model);
  if (language) form.append("language", language);
  form.append("file", file);
  let read = 0;
  const take = (ended) => {
    if (request.status !== 200) return;
    const text = request.responseText;
    for (;;) {
      const end = text.indexOf("\n", read);
      if (end < 0) break;
      onEvent(JSON.parse(text.slice(read, end)));
      read = end + 1;
    }
    if (ended && read < text.length) throw new Refusal(0, "");
  };
  const done = new Promise((resolve, reject) => {
    const guarded = (step) => () => {
      try {
        step();
      } catch (error) {
        reject(error);
        request.abort();
      }
    };
    request.upload.onprogress = (event) => event.lengthComputable && onUpload(event.loaded / event.total);
    request.onprogress = guarded(() => take(false));
    request.onerror = () => reject(new Refusal(0, ""));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = guarded(() => {
      if (request.status !== 200) throw new Refusal(request.status, request.responseText);
      take(true);
      resolve();
    });
  });
  request.open("POST", "/page-data/transcriptions");
  for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
  request.send(form);
  return { done, abort: () => request.abort() };
}
