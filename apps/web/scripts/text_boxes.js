// Draws the boxes of read lines over the picture, in the picture's own pixels, with text that can be selected.

import { drawing } from "./elements.js";

/**
 * Corners of the sent copy -> corners of the picture: the boxes count in pixels of what was sent.
 * The picture may be unknown to the browser (width 0): then nothing is drawn over it anyway.
 */
export function scaledBox(box, picture, upload) {
  const [x, y] = upload.width ? [picture.width / upload.width, picture.height / upload.height] : [1, 1];
  return box.map((corner) => [corner[0] * x, corner[1] * y]);
}

/** Puts a group for each line into `svg`; `onPoint(index | null)` is told which one the pointer is over. */
export function drawBoxes(svg, picture, lines, { onPoint, onPick }) {
  svg.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
  svg.replaceChildren(
    ...lines.map(({ text, box }, index) =>
      drawing(
        "g",
        {
          "data-line": index,
          on: { pointerenter: () => onPoint(index), pointerleave: () => onPoint(null), click: () => onPick(index) },
        },
        drawing("polygon", { points: box.map((corner) => corner.map((value) => value.toFixed(1)).join(",")).join(" ") }),
        selectableText(text, box),
      ),
    ),
  );
}

/** The text itself, unseen, stretched over its box: selecting it in the picture selects the words. */
function selectableText(text, box) {
  const [[left, top], [right, rightTop], , [bottomLeft, bottom]] = box;
  const width = Math.hypot(right - left, rightTop - top);
  const height = Math.hypot(bottomLeft - left, bottom - top);
  const angle = (Math.atan2(rightTop - top, right - left) * 180) / Math.PI;
  const isUpright = height > 2 * width && text.length > 1; // a line that runs down: its letters would be squeezed
  if (isUpright || width === 0 || height === 0) return null;
  return drawing("text", {
    transform: `translate(${left.toFixed(1)} ${top.toFixed(1)}) rotate(${angle.toFixed(2)})`,
    y: (height * 0.78).toFixed(1), // the base line lies about there in a box around a line
    "font-size": (height * 0.8).toFixed(1),
    textLength: width.toFixed(1),
    lengthAdjust: "spacingAndGlyphs",
    text,
  });
}

/** Lights up one box, or none. */
export function markBox(svg, index) {
  for (const group of svg.children) group.classList.toggle("marked", Number(group.dataset.line) === index);
}
