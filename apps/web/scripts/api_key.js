// Keeps the API key for this tab: in sessionStorage alone, so that closing the tab forgets it.

import { byId } from "./elements.js";

const PLACE = "mobile-mm-key";
let inMemory = ""; // where storage is blocked

/** The key to send, or "". */
export function currentKey() {
  try {
    return sessionStorage.getItem(PLACE) ?? inMemory;
  } catch {
    return inMemory;
  }
}

function keep(key) {
  inMemory = key;
  try {
    if (key) sessionStorage.setItem(PLACE, key);
    else sessionStorage.removeItem(PLACE);
  } catch {
    // Storage is blocked: the key holds until the page is left.
  }
}

/** Makes the key's dialog work; `onChange` is called with a new or a forgotten key. */
export function setUpKey(onChange) {
  const dialog = byId("key-dialog");
  const field = byId("key");
  const opener = byId("open-key");

  function show() {
    opener.classList.toggle("is-set", currentKey() !== "");
    opener.setAttribute("aria-label", currentKey() ? "API key: set" : "API key");
    opener.title = currentKey() ? "API key: set" : "API key";
  }

  function change(key) {
    keep(key);
    show();
    onChange();
  }

  opener.addEventListener("click", openKeyDialog);
  byId("close-key").addEventListener("click", () => dialog.close());
  byId("forget-key").addEventListener("click", () => {
    dialog.close();
    change("");
  });
  byId("key-form").addEventListener("submit", () => change(field.value.trim()));
  show();
}

/** Shows the dialog with the cursor in its field. */
export function openKeyDialog() {
  byId("key").value = currentKey();
  byId("key-dialog").showModal();
  byId("key").focus();
}
