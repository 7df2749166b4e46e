// Runs one task in its panel: sends, can cancel, shows the result or the problem, and tells the session.

import { element } from "./elements.js";
import { Problem } from "./problem.js";
import { problemCard } from "./problem_card.js";
import { bytesText, millisecondsText } from "./quantities.js";
import { runPlan } from "./requests.js";

const SLOW_MILLISECONDS = 700; // below, a clock would only flicker

/**
 * A task gives:
 *   name
 *   plan()    what to send: {path, fields: [name, value][], json, takesPicture, longest, what}; `json` excludes `fields`
 *   lacks()   null, or {text, field}: what is missing before it can run, and where to give it
 *   begin()   clears what the last run left, before the first word comes
 *   piece(text)            more of a stream
 *   show(record, isNew)    the result: {task, plan, picture, upload, response, label, times}
 *   label(response)        the result in one line, for history and screen readers
 */
export class TaskPanel {
  #root;
  #task;
  #session;
  #runButton;
  #cancelButton;
  #output;
  #controller = null;
  #problem = null;

  constructor(root, task, session) {
    this.#root = root;
    this.#task = task;
    this.#session = session;
    this.#runButton = root.querySelector("[data-run]");
    this.#cancelButton = root.querySelector("[data-cancel]");
    this.#output = root.querySelector(".output");
    root.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    this.#cancelButton.addEventListener("click", () => this.cancel());
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#controller) this.cancel();
    });
  }

  get isRunning() {
    return this.#controller !== null;
  }

  get plan() {
    return this.#task.plan();
  }

  /** Ends the run under way, here and in the server, and says so. */
  cancel() {
    this.#controller?.abort();
  }

  /** Back to the state before the first run. */
  clear() {
    this.#drop();
    this.#removeProblem();
    this.#setState("empty");
  }

  /** Shows a result again. */
  show(record) {
    this.#drop();
    this.#removeProblem();
    this.#task.show(record, false);
    this.#setState("done");
  }

  async run() {
    if (this.#controller) return;
    this.#removeProblem();
    const lack = this.#task.lacks();
    if (lack) {
      this.#complain(lack);
      return;
    }
    const controller = new AbortController();
    this.#controller = controller;
    const before = this.#root.dataset.state;
    this.#start();
    const stopClock = this.#startClock();
    try {
      const record = await this.#answer(controller.signal);
      if (this.#controller !== controller) return;
      this.#note("");
      this.#task.show(record, true);
      this.#setState("done");
      this.#session.announce(record.label);
      this.#session.addResult(record);
    } catch (error) {
      if (this.#controller !== controller) return; // dropped: something else is shown by now
      if (error.name === "AbortError") {
        this.#setState(before === "done" && this.#task.keepsResult ? "done" : "empty");
        this.#note("Cancelled.");
      } else if (error instanceof Problem) this.#fail(error);
      else {
        this.#fail(new Problem({ title: "The page made a mistake", detail: String(error), hint: "Load it again." }));
        throw error;
      }
    } finally {
      stopClock();
      if (this.#controller === controller) {
        this.#controller = null;
        this.#stop();
      }
    }
  }

  /** Ends the run under way without a word: what it was for is gone. */
  #drop() {
    if (!this.#controller) return;
    this.#controller.abort();
    this.#controller = null;
    this.#stop();
  }

  async #answer(signal) {
    const plan = this.#task.plan();
    const { picture, wantsOriginal } = this.#session;
    const upload = plan.takesPicture ? await picture.uploadFor(plan.longest, wantsOriginal) : null;
    signal.throwIfAborted();
    if (upload) this.#note(`Sending ${bytesText(upload.blob.size)}`, "quiet");
    const { result, ...times } = await runPlan(plan, upload, {
      signal,
      onPiece: (text) => {
        if (signal.aborted) return;
        this.#setState("writing");
        this.#task.piece(text);
      },
    });
    const record = { task: this.#task.name, plan, picture: plan.takesPicture ? picture : null, upload, response: result };
    return { ...record, times, label: this.#task.label(result, plan) };
  }

  #start() {
    this.#task.begin();
    this.#setState("busy");
    this.#output.setAttribute("aria-busy", "true");
    this.#runButton.setAttribute("aria-disabled", "true");
    this.#cancelButton.hidden = false;
  }

  #stop() {
    this.#output.removeAttribute("aria-busy");
    this.#runButton.removeAttribute("aria-disabled");
    const hadFocus = document.activeElement === this.#cancelButton;
    this.#cancelButton.hidden = true;
    if (hadFocus) this.#runButton.focus(); // a hidden button would drop the focus to the top of the page
  }

  #startClock() {
    const start = performance.now();
    const timer = setInterval(() => {
      const milliseconds = performance.now() - start;
      if (milliseconds > SLOW_MILLISECONDS) this.#note(`Working, ${millisecondsText(milliseconds)}`, "quiet");
    }, 100);
    return () => clearInterval(timer);
  }

  #fail(problem) {
    this.#note("");
    this.#problem = problemCard(problem, {
      retry: () => {
        this.#runButton.focus();
        this.run();
      },
      announce: (text) => this.#session.announce(text),
    });
    this.#output.prepend(this.#problem.card);
    this.#setState("failed");
  }

  #removeProblem() {
    this.#problem?.stop();
    this.#problem?.card.remove();
    this.#problem = null;
    this.#note("");
  }

  #complain({ text, field }) {
    this.#note(text, "wanting");
    this.#session.announce(text);
    field.focus();
  }

  #note(text, kind = "plain") {
    this.#root.querySelector(".run-note")?.remove();
    if (text) this.#output.before(element("p", { class: `run-note ${kind}`, text }));
  }

  #setState(state) {
    this.#root.dataset.state = state;
    // On a narrow screen the answer is below the picture: it comes into sight, the rest of the page stays.
    if (state === "done" || state === "failed") this.#output.scrollIntoView({ block: "nearest" });
  }
}
