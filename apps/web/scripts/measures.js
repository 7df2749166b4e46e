// Draws how sure the model is: a bar with its number.

import { element } from "./elements.js";
import { shareText } from "./quantities.js";

/** What a share is called. The bounds are for reading only: the model is not calibrated to them. */
function wordOf(share) {
  if (share >= 0.8) return "Sure";
  if (share >= 0.5) return "Fairly sure";
  if (share >= 0.25) return "Unsure";
  return "Very unsure";
}

/** Puts the confidence into `place`: a bar, the number, and words for it, with `ofWhat` behind them. */
export function showConfidence(place, share, ofWhat) {
  place.replaceChildren(
    element("span", { class: "measure-word", text: `${wordOf(share)} ${ofWhat}` }),
    bar(share),
    element("span", { class: "measure-number", text: shareText(share) }),
  );
}

/** A list entry of a text with its share. */
export function shareEntry(text, share, { isFirst = false } = {}) {
  return element(
    "li",
    { class: isFirst ? "first" : undefined },
    element("span", { class: "bar-name", text }),
    bar(share),
    element("span", { class: "measure-number", text: shareText(share) }),
  );
}

/** The number beside it says the same: screen readers need the bar not. */
function bar(share) {
  const inner = element("span");
  inner.style.setProperty("--share", String(Math.max(0, Math.min(1, share)))); // through CSSOM: the CSP allows it
  return element("span", { class: "bar", "aria-hidden": "true" }, inner);
}
