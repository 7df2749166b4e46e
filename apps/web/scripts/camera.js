// Takes a picture with the camera, which is on only while its dialog is open and the page is seen.

import { byId, element } from "./elements.js";

const REASONS = {
  NotAllowedError: "The camera is not allowed here. Allow it in the browser's settings for this page, then open it again.",
  NotFoundError: "This device has no camera.",
  NotReadableError: "Another program uses the camera. Close it there, then open it again.",
  OverconstrainedError: "That camera is gone. Choose another one.",
};

/** Makes the camera's button and dialog work; `onPicture(blob, name)` gets what is taken. */
export function setUpCamera(onPicture) {
  const dialog = byId("camera-dialog");
  const view = byId("camera-view");
  const note = byId("camera-note");
  const take = byId("take-picture");
  const devices = byId("camera-device");
  let stream = null;
  let opening = 0; // a camera that opens after its dialog was left is closed at once

  function stop() {
    opening += 1;
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    view.srcObject = null;
  }

  async function start(deviceId) {
    stop();
    const turn = opening;
    take.disabled = true;
    note.textContent = "Asking for the camera";
    if (!navigator.mediaDevices?.getUserMedia) {
      note.textContent = "Browsers give the camera to pages on https or on this very machine only.";
      return;
    }
    try {
      const wish = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
      const opened = await navigator.mediaDevices.getUserMedia({ video: { ...wish, width: { ideal: 1920 } }, audio: false });
      if (turn !== opening) {
        for (const track of opened.getTracks()) track.stop();
        return;
      }
      stream = opened;
      view.srcObject = stream;
      note.textContent = "";
      take.disabled = false;
      await listDevices();
    } catch (error) {
      if (turn === opening) note.textContent = REASONS[error.name] ?? `The camera cannot be used: ${error.message}`;
    }
  }

  async function listDevices() {
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    const current = stream?.getVideoTracks()[0]?.getSettings().deviceId;
    byId("camera-choice").hidden = cameras.length < 2;
    devices.replaceChildren(
      ...cameras.map(({ deviceId, label }, index) =>
        element("option", { value: deviceId, selected: deviceId === current, text: label || `Camera ${index + 1}` }),
      ),
    );
  }

  async function capture() {
    const canvas = document.createElement("canvas");
    canvas.width = view.videoWidth;
    canvas.height = view.videoHeight;
    canvas.getContext("2d").drawImage(view, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    dialog.close();
    if (blob) onPicture(blob, `camera-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.jpg`);
  }

  byId("open-camera").addEventListener("click", () => {
    dialog.showModal();
    take.focus();
    start();
  });
  byId("close-camera").addEventListener("click", () => dialog.close());
  take.addEventListener("click", capture);
  devices.addEventListener("change", () => start(devices.value));
  dialog.addEventListener("close", stop);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && dialog.open) dialog.close();
  });
  window.addEventListener("pagehide", stop);
}
