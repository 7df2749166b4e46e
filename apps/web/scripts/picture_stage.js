// Shows the chosen picture, and what of it will be sent.

import { byId } from "./elements.js";
import { bytesText, sizeText } from "./quantities.js";

/** Keeps the stage in step with the session; `planOf()` gives the present request. */
export function setUpStage(session, planOf) {
  const image = byId("picture");
  const canvas = byId("canvas");
  const original = byId("send-original");

  session.addEventListener("picture", () => {
    const { picture } = session;
    byId("frame").dataset.state = picture.isShown ? "shown" : "unshown";
    byId("unshown").hidden = picture.isShown;
    byId("unshown-name").textContent = picture.name;
    canvas.hidden = !picture.isShown;
    if (picture.isShown) {
      image.src = picture.url;
      image.width = picture.width;
      image.height = picture.height;
      canvas.style.setProperty("--ratio", String(picture.width / picture.height)); // through CSSOM: the CSP allows it
      canvas.style.setProperty("--natural", `${picture.width}px`);
    } else image.removeAttribute("src");
    showAlternative();
  });
  session.addEventListener("caption", showAlternative);
  session.addEventListener("plan", showUpload);
  original.addEventListener("change", () => {
    session.wantsOriginal = original.checked;
    session.planChanged();
  });

  function showAlternative() {
    const { picture } = session;
    if (picture) image.alt = picture.caption || `Chosen picture: ${picture.name}`;
  }

  async function showUpload() {
    const { picture, wantsOriginal } = session;
    byId("upload").hidden = !picture;
    if (!picture) return;
    const plan = planOf();
    const upload = await picture.uploadFor(plan.longest, wantsOriginal);
    if (picture !== session.picture || wantsOriginal !== session.wantsOriginal) return; // an older question
    byId("upload-name").textContent = picture.name;
    byId("upload-facts").textContent = factsOf(picture, upload, plan);
  }
}

function factsOf(picture, upload, plan) {
  const whole = bytesText(picture.blob.size);
  const size = picture.isShown ? `${sizeText(picture.width, picture.height)}, ` : "";
  if (!plan.takesPicture) return `${size}${whole}. A search by words sends no picture.`;
  if (upload.way === "original") return `Sent as it is: ${size}${whole}.`;
  const sent = `${sizeText(upload.width, upload.height)}, ${bytesText(upload.blob.size)}`;
  const why = upload.way === "shrunk" ? "Shrunk before sending" : "Converted to JPEG before sending";
  return `${why}: ${sent} instead of ${size}${whole}.`;
}
