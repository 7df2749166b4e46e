// Sends requests to the server that the page came from, and turns what goes wrong into a Problem.

import { currentKey } from "./api_key.js";
import { eventsOf } from "./event_stream.js";
import { Problem, problemFrom, problemOf, unreachable } from "./problem.js";

/** The full address of a path of the API; relative to the page, so that it works behind a proxy's prefix. */
export function addressOf(path) {
  return new URL(path.replace(/^\//, ""), document.baseURI.replace(/#.*$/, "")).href;
}

/** The JSON at a path. */
export async function getJson(path, options = {}) {
  const { response } = await send(path, { ...options, method: "GET" });
  return response.json();
}

/** The file at a path, as a blob: an <img> could not send the key. */
export async function getBlob(path, options = {}) {
  const { response } = await send(path, { ...options, method: "GET" });
  return response.blob();
}

/**
 * Runs a plan (see task_panel.js) and gives {result, roundTripMilliseconds, firstWordMilliseconds}.
 *
 * `onPiece(text)` gets the words of a stream as they come. An aborted signal rejects with the AbortError of fetch.
 */
export async function runPlan(plan, upload, { signal, onPiece }) {
  const start = performance.now();
  const { response, requestId } = await send(plan.path, { method: "POST", signal, ...bodyOf(plan, upload) });
  const since = () => performance.now() - start;
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    const result = await whole(response, requestId);
    return { result, roundTripMilliseconds: since(), firstWordMilliseconds: null };
  }
  let firstWordMilliseconds = null;
  try {
    for await (const event of eventsOf(response.body)) {
      if (event.name === "error") throw problemFrom(JSON.parse(event.data), { requestId });
      if (event.name === "piece") {
        firstWordMilliseconds ??= since();
        onPiece(JSON.parse(event.data).text);
      }
      if (event.name === "result") {
        return { result: JSON.parse(event.data), roundTripMilliseconds: since(), firstWordMilliseconds };
      }
    }
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw unreachable(requestId, { midway: true });
  }
  throw unreachable(requestId, { midway: true });
}

function bodyOf(plan, upload) {
  if (plan.json) return { body: JSON.stringify(plan.json), headers: { "Content-Type": "application/json" } };
  const form = new FormData();
  for (const [name, value] of plan.fields) form.append(name, value);
  if (upload) form.append("image", upload.blob, upload.name);
  return { body: form };
}

async function send(path, { method, signal, body, headers = {} }) {
  const requestId = newRequestId();
  const key = currentKey();
  const all = { ...headers, "X-Request-Id": requestId, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(addressOf(path), { method, body, signal, headers: all, cache: "no-cache" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable(requestId);
  }
  if (!response.ok) throw await problemOf(response, requestId);
  return { response, requestId };
}

async function whole(response, requestId) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable(requestId, { midway: true });
  }
}

/** An id that the server takes over, so that even a request without an answer can be found in its log. */
function newRequestId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8)); // randomUUID exists on https and localhost only
  return `page-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
