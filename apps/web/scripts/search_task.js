// The Search tab: the pictures of the server's index that are nearest to words or to the picture.

import { CAPTION_SIDE } from "./caption_task.js";
import { byId, element } from "./elements.js";
import { countText, millisecondsText } from "./quantities.js";
import { getBlob, getJson } from "./requests.js";

export function searchTask(session, { run, usePicture }) {
  const query = byId("query");
  const count = byId("search-count");
  let isByPicture = false;
  let index = null;
  let urls = [];

  query.addEventListener("input", () => {
    isByPicture = false;
    session.planChanged();
  });
  count.addEventListener("change", () => session.planChanged());
  byId("search-form").addEventListener("submit", () => (isByPicture = false), { capture: true });
  byId("search-by-picture").addEventListener("click", () => {
    isByPicture = true;
    session.planChanged();
    run();
  });
  session.addEventListener("task", () => {
    if (session.task === "search") askForIndex();
  });

  /** Asks once whether there is something to search, and says so where there is not. */
  async function askForIndex() {
    if (index?.enabled) return;
    try {
      index = await getJson("v1/search");
    } catch {
      return; // unreachable, or a key is missing: a search will say it with all that is known
    }
    byId("no-index").hidden = index.enabled;
    byId("search-form").hidden = !index.enabled;
    byId("search-empty").hidden = !index.enabled;
    byId("search-empty").textContent =
      `Nearest of ${countText(index.pictures, "picture")} in the server's index, by your words or by your picture.`;
    byId("no-index-commands").textContent = "mobile-mm index ~/Pictures\nmobile-mm serve --index ~/Pictures";
  }

  function hitOf({ path, score, thumbnail }) {
    const name = path.split("/").pop();
    const image = element("img", { alt: "", width: 320, height: 240, loading: "lazy" });
    const frame = element("span", { class: "hit-frame" }, image);
    const button = element(
      "button",
      { type: "button", class: "hit", title: path },
      frame,
      element("span", { class: "hit-facts" },
        element("span", { class: "hit-name", text: name }),
        element("span", { class: "hit-score", text: score.toFixed(3) })),
      element("span", { class: "unseen", text: ". Take it as the picture" }),
    );
    const loading = load(thumbnail, image, frame);
    button.addEventListener("click", async () => {
      const blob = await loading;
      if (blob) usePicture(blob, name);
    });
    return element("li", {}, button);
  }

  async function load(thumbnail, image, frame) {
    try {
      const blob = await getBlob(thumbnail);
      image.src = URL.createObjectURL(blob);
      urls.push(image.src);
      return blob;
    } catch {
      frame.replaceChildren(element("span", { class: "hit-missing", text: "no preview" }));
      return null;
    }
  }

  return {
    name: "search",
    keepsResult: true,
    plan() {
      const k = Number(count.value);
      if (isByPicture) {
        return {
          path: "v1/search", fields: [["k", String(k)]], takesPicture: true, longest: CAPTION_SIDE, what: session.picture?.name,
        };
      }
      const words = query.value.trim();
      return { path: "v1/search", json: { query: words, k }, fields: [], takesPicture: false, longest: CAPTION_SIDE, what: words };
    },
    lacks() {
      if (isByPicture) return session.picture ? null : { text: "Choose a picture first.", field: byId("choose-file") };
      return query.value.trim() ? null : { text: "Write what you look for.", field: query };
    },
    begin: () => undefined,
    label: ({ results }, plan) => `${countText(results.length, "picture")} for ${plan.what}`,
    show({ plan, response, times }, isNew) {
      for (const url of urls) URL.revokeObjectURL(url);
      urls = [];
      const { results } = response;
      const found = results.length ? `The ${countText(results.length, "nearest picture")} for ` : "Nothing found for ";
      byId("search-facts").replaceChildren(
        found, element("strong", { text: plan.what }), ` · ${millisecondsText(times.roundTripMilliseconds)}`,
      );
      byId("hits").replaceChildren(...results.map(hitOf));
      if (!isNew && plan.json) query.value = plan.json.query;
    },
  };
}
