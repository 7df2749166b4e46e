// The Read tab: the lines of text in the picture, tied to their boxes over it.

import { setUpCopy } from "./clipboard.js";
import { byId, element } from "./elements.js";
import { countText, millisecondsText, shareText } from "./quantities.js";
import { drawBoxes, markBox, scaledBox } from "./text_boxes.js";

const READ_SIDE = 2048; // the server looks for text at 960; small print is cut from the picture as sent
const DOUBTFUL = 0.8; // lines below are marked: the lines of the test pages that were right had more

export function readTask(session) {
  const list = byId("lines");
  const svg = byId("boxes");
  const toggle = byId("show-boxes");
  let shown = null;

  toggle.addEventListener("change", showBoxes);
  session.addEventListener("task", showBoxes);
  session.addEventListener("picture", () => {
    shown = null;
    showBoxes();
  });
  setUpCopy(byId("copy-text"), () => shown?.response.result.text ?? "", (said) => session.announce(said));
  list.addEventListener("keydown", move);

  function showBoxes() {
    const isVisible = session.task === "read" && shown !== null && shown.picture === session.picture && toggle.checked;
    svg.toggleAttribute("hidden", !isVisible);
  }

  /** Marks a line and its box, both ways. */
  function mark(index) {
    for (const [at, entry] of [...list.children].entries()) entry.classList.toggle("marked", at === index);
    markBox(svg, index);
  }

  /** One line is in the tab order; the arrows move between them. */
  function focusLine(index) {
    const entry = list.children[index];
    if (!entry) return;
    for (const other of list.children) other.tabIndex = other === entry ? 0 : -1;
    entry.focus();
  }

  function move(event) {
    const at = [...list.children].indexOf(document.activeElement);
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: list.children.length - 1 };
    if (at < 0 || !Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    focusLine(steps[event.key]);
  }

  function entryOf({ text, confidence }, index) {
    return element(
      "li",
      {
        tabindex: index === 0 ? 0 : -1,
        class: confidence < DOUBTFUL ? "doubtful" : undefined,
        on: {
          pointerenter: () => mark(index),
          pointerleave: () => mark(null),
          focus: () => mark(index),
          blur: () => mark(null),
        },
      },
      element("span", { class: "line-text", text }),
      element("span", { class: "line-share", text: shareText(confidence), title: "How sure the model is of its letters" }),
    );
  }

  return {
    name: "read",
    startsItself: true,
    plan: () => ({ path: "v1/ocr", fields: [], takesPicture: true, longest: READ_SIDE }),
    lacks: () => (session.picture ? null : { text: "Choose a picture first.", field: byId("choose-file") }),
    begin() {
      shown = null;
      showBoxes();
    },
    label: ({ result }) => (result.lines.length ? `${countText(result.lines.length, "line")}: ${result.lines[0].text}` : "No text found"),
    show(record) {
      shown = record;
      const { response, picture, upload, times } = record;
      const { lines, dropped_boxes: dropped } = response.result;
      list.replaceChildren(...lines.map(entryOf));
      list.hidden = byId("lines-help").hidden = byId("copy-text").hidden = lines.length === 0;
      byId("read-facts").textContent = lines.length
        ? `${countText(lines.length, "line")} in ${millisecondsText(times.roundTripMilliseconds)}`
        : "No text found. Small print may need the original: switch it on below the picture.";
      if (dropped > 0) byId("read-facts").append(`, ${countText(dropped, "place")} more left out`);
      drawBoxes(
        svg,
        picture,
        lines.map(({ text, box }) => ({ text, box: scaledBox(box, picture, upload) })),
        { onPoint: mark, onPick: (index) => !String(getSelection()) && focusLine(index) },
      );
      showBoxes();
    },
  };
}
