// Shows the present request as code, and copies it.

import { currentKey } from "./api_key.js";
import { setUpCopy } from "./clipboard.js";
import { byId } from "./elements.js";
import { curlCode, pythonCode } from "./request_code.js";
import { addressOf } from "./requests.js";

/** Keeps the section in step with the session; `planOf()` gives the present request. */
export function setUpCode(session, planOf) {
  const section = byId("code");
  const language = () => section.querySelector("[name=language]:checked").value;

  function show() {
    const plan = planOf();
    const request = {
      address: addressOf(plan.path),
      fields: plan.fields,
      json: plan.json,
      fileName: plan.takesPicture ? (session.picture?.name ?? "picture.jpg") : null,
      streams: plan.streams,
      hasKey: currentKey() !== "",
    };
    byId("code-text").textContent = language() === "curl" ? curlCode(request) : pythonCode(request);
    byId("copy-code-text").textContent = language() === "curl" ? "Copy as curl" : "Copy as Python";
    byId("code-help").textContent = [
      plan.takesPicture ? "The picture is the file of that name in your folder, as it is." : "",
      request.hasKey ? "Your key is not in it: set MOBILE_MM_KEY." : "",
      language() === "python" ? "Needs the package httpx." : "",
    ].filter(Boolean).join(" ");
  }

  setUpCopy(byId("copy-code"), () => byId("code-text").textContent, (said) => session.announce(said));
  section.addEventListener("change", show);
  session.addEventListener("plan", show);
}
