// The page: takes a recording, has it transcribed, and shows what comes.

import { Refusal, getJson, hasKey, setKey, transcribe } from "./api.js";
import { showBars, showColumns } from "./compare.js";
import { byId, fillSelect, say } from "./dom.js";
import { duration, megabytes, percent } from "./format.js";
import { showLayers } from "./layers.js";
import "./live.js";
import { ProgressList, transcribed } from "./progress.js";
import { ResultView } from "./result.js";
import { chosenLanguage, chosenModels, showModels } from "./settings.js";

const UPLOAD = "Upload";
const view = new ResultView();
const progress = new ProgressList();
let models = [];
let file = null;
let runs = new Map();
let shown = null;
let seconds = 0;
let current = null; // the request that is under way
let turn = 0; // counts what was asked for: only the last one may begin

async function start() {
  say(byId("error"), "");
  try {
    ({ models } = await getJson("/page-data/models"));
  } catch (error) {
    refused(error);
    return;
  }
  byId("key-form").hidden = true;
  showModels(models);
  byId("choose").hidden = byId("live").hidden = byId("layers").hidden = false;
  fillSelect(byId("layers-of"), models.map(({ name }) => [name, name]));
  await loadLayers();
}

// Shows the sentence of an error, and asks for the key where that is what is missing.
function refused(error) {
  if (!(error instanceof Refusal)) console.error(error);
  const missing = error.status === 401;
  const first = missing && !hasKey(); // that a key is needed is no error of anybody's
  say(byId("error"), first ? "" : error instanceof Refusal ? error.message : `The page failed with ${error}: this is a bug of max-whisper.`);
  if (!first) byId("error").scrollIntoView({ block: "nearest" });
  if (!missing) return;
  byId("key-form").hidden = false;
  byId("key").focus();
}

async function loadLayers() {
  const name = byId("layers-of").value;
  try {
    const report = await getJson(`/page-data/models/${encodeURIComponent(name)}/layers`);
    if (byId("layers-of").value === name) showLayers(byId("layers-body"), report);
  } catch (error) {
    refused(error);
  }
}

async function take(chosen) {
  if (!chosen) return;
  const mine = ++turn;
  while (current) { // the recording before is given up, and run() says when it has ended
    current.abort();
    await current.ended;
  }
  if (mine !== turn) return; // another one was dropped meanwhile
  file = chosen;
  byId("file-about").textContent = `${file.name}, ${megabytes(file.size)}. Drop or choose another one at any time.`;
  await run();
}

async function run() {
  if (current) return;
  const names = chosenModels();
  if (!names.length) {
    say(byId("error"), "No model is ticked: tick at least one, and press “Transcribe again”.");
    byId("again").hidden = false;
    return; // the recording before is still shown, with its text
  }
  view.open(file).catch(refused);
  begin(names);
  let end;
  const ended = new Promise((resolve) => (end = resolve));
  current = transcribe(file, names, chosenLanguage(), {
    onUpload: (share) => progress.set(UPLOAD, share, share < 1 ? percent(share) : "sent; it is decoded"),
    onEvent: takeEvent,
  });
  current.ended = ended;
  let message = "";
  try {
    await current.done;
    message = finished(names);
  } catch (error) {
    if (error.name === "AbortError") message = "Cancelled.";
    else refused(error);
    byId("progress").hidden = true;
  }
  current = null;
  busy(false);
  byId("status").textContent = message;
  end();
}

function begin(names) {
  say(byId("error"), "");
  runs = new Map(names.map((name) => [name, { name, model: models.find((model) => model.name === name), segments: [], end: 0, result: null, failed: false }]));
  shown = runs.get(names[0]);
  seconds = 0;
  for (const id of ["result", "comparison"]) byId(id).hidden = true;
  view.offer([]); // the texts before belong to another recording
  progress.begin([UPLOAD, ...names]);
  busy(true);
  byId("status").textContent = "Transcribing.";
}

function busy(isBusy) {
  byId("choose").classList.toggle("busy", isBusy);
  byId("cancel").hidden = !isBusy;
  byId("again").hidden = isBusy || !file;
}

function finished(names) {
  for (const { name, result, failed } of runs.values()) {
    if (!result && !failed) progress.fail(name, "The answer of the server ended before this text.");
  }
  const texts = names.filter((name) => runs.get(name).result).length;
  return texts === names.length ? "Done." : `${names.length - texts} of ${names.length} models gave no text; the reason stands beside them.`;
}

// Takes an event of the answer; its fields are explained in serve/page/transcriptions.py.
function takeEvent(event) {
  const run = runs.get(event.model);
  if (event.event === "decoded") {
    seconds = event.seconds;
    progress.set(UPLOAD, 1, `${duration(seconds)} of sound, decoded in ${duration(event.took)}`);
    view.show(shown, seconds);
  } else if (event.event === "loading") progress.set(run.name, null, "is loaded");
  else if (event.event === "loaded") progress.set(run.name, null, "begins");
  else if (event.event === "window") {
    run.end = event.end;
    run.segments.push(...event.segments);
    progress.set(run.name, seconds ? Math.min(1, event.end / seconds) : 1, transcribed(event.end, seconds, event.computing));
    if (run === shown) view.add(run, event.segments);
  } else if (event.event === "result") takeResult(run, event);
  else if (event.event === "error") {
    run.failed = true;
    progress.fail(run.name, event.error.message);
    if (run === shown) shown = [...runs.values()].find((other) => !other.failed) ?? run;
    if (shown !== run) view.show(shown, seconds);
  }
}

function takeResult(run, event) {
  run.result = event;
  run.segments = event.segments;
  progress.set(run.name, 1, transcribed(event.seconds, event.seconds, event.computing));
  if (run === shown) view.show(run, seconds);
  const finishedRuns = [...runs.values()].filter((other) => other.result);
  view.offer(finishedRuns, shown, (chosen) => {
    shown = chosen;
    view.show(shown, seconds);
  });
  if (finishedRuns.length > 1) compare(finishedRuns);
}

function compare(finishedRuns) {
  fillSelect(byId("reference"), finishedRuns.map(({ name }) => [name, name]));
  showBars(byId("bars"), finishedRuns);
  showColumns(byId("columns"), finishedRuns, runs.get(byId("reference").value));
  byId("comparison").hidden = false;
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  start();
});
byId("file").addEventListener("change", (event) => {
  const [chosen] = event.target.files;
  event.target.value = ""; // so that the same file can be chosen again
  take(chosen);
});
byId("again").addEventListener("click", run);
byId("cancel").addEventListener("click", () => current?.abort());
byId("layers-of").addEventListener("change", loadLayers);
byId("reference").addEventListener("change", () => compare([...runs.values()].filter((run) => run.result)));
byId("columns").addEventListener("click", (event) => {
  const place = event.target.closest("[data-at]");
  if (place) view.seek(Number(place.dataset.at), true);
});
// Anywhere on the page: a file that misses the field would otherwise replace the page.
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => byId("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});

start();
