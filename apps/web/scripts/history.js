// Lists the results of this page while it is open: in memory alone, sent nowhere, gone with the page.

import { byId, element } from "./elements.js";

const MOST = 30; // each may keep a picture of some MB alive

/** Remembers what the session adds; `onChoose(record)` shows one again. */
export function setUpHistory(session, onChoose) {
  let records = [];
  let previous = null;

  function show() {
    byId("history-count").textContent = String(records.length);
    byId("clear-history").hidden = records.length === 0;
    byId("history-list").replaceChildren(...records.map(entryOf));
  }

  function entryOf(record) {
    const thumbnail = record.picture?.isShown
      ? element("img", { src: record.picture.url, alt: "", width: 44, height: 44 })
      : element("span", { class: "no-thumbnail" });
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", class: "history-entry", on: { click: () => onChoose(record) } },
        thumbnail,
        element("span", { class: "history-task", text: record.task }),
        element("span", { class: "history-label", text: record.label }),
      ),
    );
  }

  /** Frees the pictures that nothing on the page shows any more. */
  function release(gone) {
    const used = new Set([session.picture, ...records.map(({ picture }) => picture)]);
    for (const { picture } of gone) if (picture && !used.has(picture)) picture.release();
  }

  session.addEventListener("picture", () => {
    release([{ picture: previous }]);
    previous = session.picture;
  });
  session.addEventListener("result", ({ detail }) => {
    records = [detail, ...records];
    release(records.splice(MOST));
    show();
  });
  byId("clear-history").addEventListener("click", () => {
    const gone = records;
    records = [];
    release(gone);
    show();
    byId("history").querySelector("summary").focus();
    session.announce("The results of this session are forgotten");
  });
}
