// The Caption tab: one sentence about the picture, as it is written or the best of three beams.

import { setUpCopy } from "./clipboard.js";
import { byId } from "./elements.js";
import { showConfidence } from "./measures.js";
import { countText, millisecondsText } from "./quantities.js";

export const CAPTION_SIDE = 512; // more than twice the 224 pixels that the model looks at

export function captionTask(session) {
  const text = byId("caption-text");
  const panel = byId("panel-caption");
  const isStreamed = () => panel.querySelector("[name=writing]:checked").value === "stream";

  panel.addEventListener("change", () => session.planChanged());
  setUpCopy(byId("copy-caption"), () => text.textContent, (said) => session.announce(said));

  return {
    name: "caption",
    startsItself: true,
    plan() {
      const fields = isStreamed() ? [["stream", "true"]] : [];
      return { path: "v1/caption", fields, takesPicture: true, longest: CAPTION_SIDE, streams: isStreamed() };
    },
    lacks: () => (session.picture ? null : { text: "Choose a picture first.", field: byId("choose-file") }),
    begin() {
      text.textContent = "";
    },
    piece(more) {
      text.textContent = (text.textContent + more).trimStart();
    },
    label: (response) => response.result.text,
    show({ response, picture, times }) {
      const { result } = response;
      text.textContent = result.text;
      showConfidence(byId("caption-confidence"), result.confidence, "of its words");
      byId("caption-facts").textContent = [
        times.firstWordMilliseconds === null ? "" : `First word after ${millisecondsText(times.firstWordMilliseconds)}`,
        `whole after ${millisecondsText(times.roundTripMilliseconds)}`,
        countText(result.text.split(/\s+/).filter(Boolean).length, "word"),
      ]
        .filter(Boolean)
        .join(" · ")
        .replace(/^w/, "W");
      picture.caption = result.text;
      session.dispatchEvent(new Event("caption"));
    },
  };
}
