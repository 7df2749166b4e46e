// Puts the page together: the session, the tabs and their tasks, and what surrounds them.

import { setUpKey } from "./api_key.js";
import { askTask } from "./ask_task.js";
import { setUpCamera } from "./camera.js";
import { captionTask } from "./caption_task.js";
import { setUpCode } from "./code_section.js";
import { setUpColours } from "./colours.js";
import { byId } from "./elements.js";
import { setUpHistory } from "./history.js";
import { Picture } from "./picture.js";
import { setUpChoosing } from "./picture_choosing.js";
import { setUpStage } from "./picture_stage.js";
import { readTask } from "./read_task.js";
import { searchTask } from "./search_task.js";
import { setUpServerState } from "./server_state.js";
import { Session } from "./session.js";
import { setUpTabs } from "./tabs.js";
import { TaskPanel } from "./task_panel.js";

const session = new Session(byId("announcer"));
const panels = {};
const tasks = {
  caption: captionTask(session),
  read: readTask(session),
  ask: askTask(session, (record) => (record ? panels.ask.show(record) : panels.ask.run())),
  search: searchTask(session, { run: () => panels.search.run(), usePicture: takePicture }),
};
for (const [name, task] of Object.entries(tasks)) panels[name] = new TaskPanel(byId(`panel-${name}`), task, session);

const presentPlan = () => panels[session.task].plan;

setUpStage(session, presentPlan);
setUpCode(session, presentPlan);
const askServer = setUpServerState(session);
setUpHistory(session, showAgain);
setUpKey(() => {
  session.planChanged();
  askServer();
});
setUpColours(byId("switch-colours"));
setUpCamera(takePicture);
setUpChoosing(takePicture, (text) => (byId("pick-note").textContent = text));
const showTab = setUpTabs(document.querySelector("[role=tablist]"), (name) => {
  byId("work").dataset.task = name;
  session.task = name;
});

/** Makes a file the picture of all tabs; those that need nothing else begin at once. */
async function takePicture(blob, name) {
  const previous = session.picture;
  session.picture = await Picture.open(blob, name);
  for (const task of ["caption", "read", "ask"]) panels[task].clear();
  if (tasks[session.task].startsItself) panels[session.task].run();
  else if (previous === null) session.announce(`${name} is the picture now`);
}

/** Shows a result of before, with its picture and in its tab. */
function showAgain(record) {
  if (record.picture && record.picture !== session.picture) {
    session.picture = record.picture;
    for (const task of ["caption", "read", "ask"]) panels[task].clear();
  }
  showTab(record.task);
  panels[record.task].show(record);
  byId(`tab-${record.task}`).focus();
}
