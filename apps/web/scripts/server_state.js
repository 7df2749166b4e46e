// Shows what the server says about itself, and the times of the last answer.

import { byId, element } from "./elements.js";
import { bytesText, millisecondsText } from "./quantities.js";
import { getJson } from "./requests.js";

const POLL_MILLISECONDS = 15_000; // only while the page is seen: a forgotten tab asks nothing
const FRESH_MILLISECONDS = 5_000; // questions count against a rate limit as well

/** Keeps the chip in the header and the strip in step. */
export function setUpServerState(session) {
  let askedAt = -Infinity;

  function setChip(state, text) {
    byId("server-state").dataset.state = state;
    byId("server-state-text").textContent = text;
  }

  function show(place, facts) {
    byId(place).replaceChildren(
      ...facts.map(([name, value, title]) =>
        element("div", { title }, element("dt", { text: name }), element("dd", { text: value })),
      ),
    );
  }

  async function ask() {
    askedAt = performance.now();
    try {
      const stats = await getJson("v1/stats");
      show("server-strip", serverFacts(stats));
      setChip(stats.is_ready ? "ready" : "waiting", stats.is_ready ? "ready" : "not ready");
    } catch (problem) {
      if (problem.status === 401 || problem.status === 403) setChip("waiting", "needs a key");
      else if (problem.status) setChip("waiting", "busy");
      else setChip("gone", "not reachable");
    }
  }

  session.addEventListener("result", ({ detail }) => {
    show("answer-strip", answerFacts(detail));
    if (performance.now() - askedAt > FRESH_MILLISECONDS) ask();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
  setInterval(() => {
    if (!document.hidden) ask();
  }, POLL_MILLISECONDS);
  ask();
  return ask;
}

function answerFacts({ response, times }) {
  const timings = response.timings ?? {};
  const facts = [];
  if (timings.queue_milliseconds !== undefined) facts.push(["Queue", millisecondsText(timings.queue_milliseconds), "waited for a worker"]);
  if (timings.inference_milliseconds !== undefined) facts.push(["Inference", millisecondsText(timings.inference_milliseconds), "decoding and the model"]);
  if (timings.total_milliseconds !== undefined) facts.push(["Server", millisecondsText(timings.total_milliseconds), "from the request to the answer, in the server"]);
  facts.push(["Round trip", millisecondsText(times.roundTripMilliseconds), "seen from this page"]);
  if (response.cached !== undefined) facts.push(["Cached", response.cached ? "yes" : "no", "whether the answer was known already"]);
  return facts;
}

function serverFacts({ model, queue, workers }) {
  const able = workers.filter(({ state }) => state === "ready" || state === "busy").length;
  const facts = [
    ["Workers", able === workers.length ? String(able) : `${able} of ${workers.length}`, "processes that run the model"],
    ["Waiting", String(queue.length), `requests in the queue, which holds ${queue.limit}`],
  ];
  if (!model) return facts; // no worker has opened it yet
  return [
    ["Model", model.name, `programs: ${model.programs.join(", ")}`],
    ["Version", model.model_version.slice(0, 8), `SHA-256 of the model file: ${model.model_version}`],
    ["File", bytesText(model.file_bytes), "size of the model file"],
    ...facts,
  ];
}
