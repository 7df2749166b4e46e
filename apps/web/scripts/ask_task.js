// The Ask tab: a question about the picture, its answer with alternatives, and what was asked before.

import { CAPTION_SIDE } from "./caption_task.js";
import { byId, element } from "./elements.js";
import { shareEntry, showConfidence } from "./measures.js";
import { millisecondsText, shareText } from "./quantities.js";

const SUGGESTIONS = ["What animal is this?", "Is there a person?", "What color is it?", "Is it outside?"];

export function askTask(session, rerun) {
  const question = byId("question");
  const options = byId("options");

  for (const field of [question, options]) field.addEventListener("input", () => session.planChanged());
  session.addEventListener("picture", showAskedBefore);
  byId("suggestions").append(
    ...SUGGESTIONS.map((text) =>
      element("button", {
        type: "button",
        class: "chip",
        text,
        on: {
          click() {
            question.value = text;
            options.value = "";
            session.planChanged();
            rerun();
          },
        },
      }),
    ),
  );

  function ownAnswers() {
    const lines = options.value.split("\n").map((line) => line.trim());
    return [...new Set(lines.filter(Boolean))];
  }

  /** The answer and its shares, of either kind: in the model's words, or among one's own. */
  function sharesOf(result) {
    if (result.probabilities) return Object.entries(result.probabilities).sort((a, b) => b[1] - a[1]);
    return result.alternatives.map(({ text, probability }) => [text, probability]);
  }

  function showAskedBefore() {
    const asked = session.picture?.questions ?? [];
    byId("asked-before").hidden = asked.length === 0;
    byId("asked-list").replaceChildren(
      ...asked.map((record) =>
        element(
          "li",
          {},
          element("button", {
            type: "button",
            class: "asked-again",
            on: { click: () => rerun(record) },
          },
            element("span", { class: "asked-question", text: record.plan.question }),
            element("span", { class: "asked-answer", text: `${record.response.result.text} · ${shareText(record.response.result.confidence)}` }),
          ),
        ),
      ),
    );
  }

  return {
    name: "ask",
    plan() {
      const asked = question.value.trim();
      const fields = [["question", asked], ...ownAnswers().map((text) => ["options", text])];
      return { path: "v1/ask", fields, takesPicture: true, longest: CAPTION_SIDE, question: asked, options: ownAnswers() };
    },
    lacks() {
      if (!session.picture) return { text: "Choose a picture first.", field: byId("choose-file") };
      if (!question.value.trim()) return { text: "Write a question first.", field: question };
      if (ownAnswers().length === 1) return { text: "Give two answers to choose from, or none.", field: options };
      return null;
    },
    begin: () => undefined,
    label: ({ result }, plan) => `${plan.question} ${result.text}`,
    show(record, isNew) {
      const { plan, response, times, picture } = record;
      const { result } = response;
      const isChoice = Boolean(result.probabilities);
      const shares = sharesOf(result).slice(isChoice ? 0 : 1); // the first of the model's own is the answer itself
      byId("asked").textContent = plan.question;
      byId("answer-text").textContent = result.text;
      showConfidence(byId("answer-confidence"), result.confidence, "of this answer");
      byId("alternatives-title").textContent = isChoice ? "Your answers" : "What else it thought of";
      byId("alternatives").replaceChildren(
        ...shares.map(([text, share], index) => shareEntry(text, share, { isFirst: isChoice && index === 0 })),
      );
      const unanswerable = result.unanswerable === undefined ? "" : `${shareText(result.unanswerable)} that the picture does not tell · `;
      byId("answer-facts").textContent = `${unanswerable}answered in ${millisecondsText(times.roundTripMilliseconds)}`.replace(/^a/, "A");
      if (isNew) {
        const others = picture.questions.filter(
          ({ plan: old }) => JSON.stringify(old.fields) !== JSON.stringify(plan.fields),
        );
        picture.questions = [record, ...others];
      } else {
        question.value = plan.question;
        options.value = plan.options.join("\n");
      }
      showAskedBefore();
    },
  };
}
