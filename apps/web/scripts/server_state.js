// Shows what the server says about itself, and the times of the last answer.

import { byId, element } from "./elements.js";
import { bytesText, millisecondsText } from "./quantities.js";
import { getJson } from "./requests.js";

const POLL_MILLISECONDS = 15_000; // only while the page is seen: a forgotten tab asks nothing

/** Keeps the chip in the header and the strip in step. */
export function setUpServerState(session) {
  let server = [];
  let answer = [];

  function setChip(state, text) {
    byId("server-state").dataset.state = state;
    byId("server-state-text").textContent = text;
  }

  function show() {
    byId("strip").replaceChildren(
      ...[...answer, ...server].map(([name, value, title]) =>
        element("div", { title }, element("dt", { text: name }), element("dd", { text: value })),
      ),
    );
  }

  async function ask() {
    try {
      const stats = await getJson("v1/stats");
      server = serverFacts(stats);
      setChip(stats.is_ready === false ? "waiting" : "ready", stats.is_ready === false ? "starting" : "ready");
    } catch (problem) {
      if (problem.status === 401 || problem.status === 403) setChip("waiting", "needs a key");
      else if (problem.status) setChip("waiting", "busy");
      else setChip("gone", "not reachable");
    }
    show();
  }

  session.addEventListener("result", ({ detail }) => {
    answer = answerFacts(detail);
    show();
    ask();
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

function serverFacts(stats) {
  const { model = {}, workers = [] } = stats;
  const facts = [["Model", model.name ?? "unknown", model.version]];
  if (model.version) facts.push(["Version", model.version.slice(0, 8), model.version]);
  if (model.file_bytes) facts.push(["File", bytesText(model.file_bytes), "size of the model file"]);
  facts.push(["Workers", String(workers.length), "processes that run the model"]);
  return facts;
}
