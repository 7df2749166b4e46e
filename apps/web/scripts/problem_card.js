// Shows a Problem: what happened, what to do, the request id, and a way on that waits as long as the server asked.

import { openKeyDialog } from "./api_key.js";
import { setUpCopy } from "./clipboard.js";
import { element, icon } from "./elements.js";
import { countText } from "./quantities.js";

const SHOWN_SECONDS = 3600; // a server that asks for more is not waited for

/** The card of a problem; `retry` is called by its button. Remove it with its `stop()`, which ends the countdown. */
export function problemCard(problem, { retry, announce }) {
  const button = element("button", { type: "button", class: "button", text: "Try again", on: { click: retry } });
  const waiting = element("p", { class: "waiting", hidden: true });
  const actions = element("div", { class: "controls-row" }, button);
  if (problem.status === 401 || problem.status === 403) {
    const key = element("button", { type: "button", class: "button primary", text: "Enter an API key" });
    key.addEventListener("click", openKeyDialog);
    actions.prepend(key);
  }
  const card = element(
    "div",
    { class: "problem", role: "alert" },
    element("p", { class: "problem-title" }, icon("warning"), element("strong", { text: problem.title })),
    problem.detail ? element("p", { text: sentence(problem.detail) }) : null,
    problem.hint ? element("p", { class: "problem-hint" }, element("span", { text: sentence(problem.hint) })) : null,
    waiting,
    actions,
    footOf(problem, announce),
  );
  const stop = countDown(problem.retryAfterSeconds, button, waiting, announce);
  return { card, stop };
}

function footOf(problem, announce) {
  const foot = element("p", { class: "problem-foot" });
  if (problem.requestId) {
    const id = element("code", { text: problem.requestId });
    const copy = element("button", { type: "button", class: "link" }, element("span", { text: "Copy" }));
    copy.setAttribute("aria-label", "Copy the request id");
    setUpCopy(copy, () => problem.requestId, announce);
    foot.append("Request ", id, " ", copy);
  }
  if (problem.status) foot.append(element("span", { class: "status", text: `HTTP ${problem.status}` }));
  return foot;
}

/** Keeps `button` off until the time has come; gives a function that ends the counting. */
function countDown(seconds, button, waiting, announce) {
  if (!seconds || seconds > SHOWN_SECONDS) return () => undefined;
  const end = Date.now() + seconds * 1000;
  button.disabled = true;
  waiting.hidden = false;
  // The numbers change every second: a screen reader hears the first in the alert, and then that it is over.
  const number = element("span", { class: "number" });
  waiting.append("The server asked for a pause: ", number, " to go.");
  const show = () => (number.textContent = countText(Math.max(1, Math.ceil((end - Date.now()) / 1000)), "second"));
  show();
  const timer = setInterval(() => {
    if (Date.now() < end) return show();
    clearInterval(timer);
    button.disabled = false;
    waiting.textContent = "You can try again now.";
    announce("You can try again now");
  }, 250);
  return () => clearInterval(timer);
}

/** Messages of the library begin in lower case, as exceptions do; a card holds sentences. */
function sentence(text) {
  const first = /^`/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?:;)`]$/.test(first) ? first : `${first}.`;
}
