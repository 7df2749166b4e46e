// Takes pictures in: from the file chooser, by drop, from the clipboard, and from the samples.

import { byId, element } from "./elements.js";

const SAMPLES = [
  { file: "boats.jpg", name: "boats on a river" },
  { file: "sheep.jpg", name: "sheep on a pasture" },
  { file: "photographer.jpg", name: "a man with a camera" },
  { file: "invoice.png", name: "a page with text" },
];

/** Calls `onPicture(blob, name)` for each picture that comes, and `onNote(text)` for what is none. */
export function setUpChoosing(onPicture, onNote) {
  const input = byId("file");
  byId("choose-file").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    takeFirst([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  });
  setUpDrop(takeFirst);
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return; // text for a field
    event.preventDefault();
    takeFirst(files);
  });
  setUpSamples(onPicture, onNote);

  function takeFirst(files) {
    if (!files.length) {
      onNote("That was no file. Drop a picture from a folder.");
      return;
    }
    // A file without a type may still be a picture that the server reads; a film or a text is none.
    const picture = files.find(({ type }) => type.startsWith("image/")) ?? files.find(({ type }) => type === "");
    if (!picture) {
      onNote(`${files[0].name} is no picture. Choose a JPEG, PNG, WebP, GIF, BMP or TIFF file.`);
      return;
    }
    onNote(files.length > 1 ? `One picture at a time: ${picture.name} was taken.` : "");
    onPicture(picture, picture.name || "pasted.png");
  }
}

function setUpDrop(take) {
  const frame = byId("frame");
  let depth = 0; // entering a child comes before leaving its parent
  const show = () => frame.classList.toggle("is-over", depth > 0);
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    show();
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    show();
  });
  window.addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault(); // else the browser would leave the page and open the file
  });
  window.addEventListener("drop", (event) => {
    depth = 0;
    show();
    if (!hasFiles(event)) return;
    event.preventDefault();
    take([...event.dataTransfer.files]);
  });
}

function setUpSamples(onPicture, onNote) {
  byId("samples").append(
    ...SAMPLES.map(({ file, name }) => {
      const address = new URL(`../samples/${file}`, import.meta.url).href;
      const choose = async () => {
        try {
          const response = await fetch(address);
          if (!response.ok) throw new Error(String(response.status));
          onNote("");
          onPicture(await response.blob(), file);
        } catch {
          onNote(`The sample ${file} could not be loaded. Is the server still there?`);
        }
      };
      const image = element("img", { src: address, alt: "", width: 52, height: 52, draggable: "false" });
      return element("button", { type: "button", class: "sample", "aria-label": `Sample: ${name}`, title: name, on: { click: choose } }, image);
    }),
  );
}
