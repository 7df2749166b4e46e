// Holds what the parts of the page share while it is open: the picture, the task, and what the server said.

/** Events: "picture", "task", "plan" (the present request may have changed), "result" (detail: a record). */
export class Session extends EventTarget {
  #picture = null;
  #task = "caption";
  #announcer;

  constructor(announcer) {
    super();
    this.#announcer = announcer;
    this.wantsOriginal = false;
  }

  get picture() {
    return this.#picture;
  }

  set picture(picture) {
    if (picture === this.#picture) return;
    this.#picture = picture;
    this.dispatchEvent(new Event("picture"));
    this.planChanged();
  }

  get task() {
    return this.#task;
  }

  set task(name) {
    this.#task = name;
    this.dispatchEvent(new Event("task"));
    this.planChanged();
  }

  planChanged() {
    this.dispatchEvent(new Event("plan"));
  }

  addResult(record) {
    this.dispatchEvent(new CustomEvent("result", { detail: record }));
  }

  /** Says something to those who listen to the page instead of looking at it. */
  announce(text) {
    // The same text twice in a row is no change and would not be read: it is taken away first.
    this.#announcer.textContent = "";
    requestAnimationFrame(() => (this.#announcer.textContent = text));
  }
}
