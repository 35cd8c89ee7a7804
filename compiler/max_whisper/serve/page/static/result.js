// Shows a recording with its text: player, waveform, words, downloads.

import { showDownloads } from "./downloads.js";
import { byId, element, say } from "./dom.js";
import { capital, clock, digits, duration } from "./format.js";
import { listen } from "./keyboard.js";
import { Player } from "./player.js";
import { Strip } from "./strip.js";
import { Transcript } from "./transcript.js";
import { readPeaks } from "./waveform.js";

export class ResultView {
  #player = new Player();
  #strip = new Strip(byId("overview"), byId("strip"));
  #transcript = new Transcript(byId("transcript"), byId("word-about"), (second, play) => this.seek(second, play));
  #file = null;
  #seconds = 0;

  constructor() {
    this.#player.onChange(() => this.#showTime());
    byId("play").addEventListener("click", () => this.#player.toggle());
    listen(this.#player, byId("seek"), () => !byId("result").hidden);
    for (const [target, canvas] of [["seek", "overview"], ["strip", "strip"]]) this.#seekByPointer(byId(target), byId(canvas));
  }

  seek(second, play = false) {
    this.#player.seek(second);
    if (play) this.#player.play();
  }

  // Takes a recording, if it is another one, and shows its waveform as soon as the browser has decoded it.
  async open(file) {
    if (this.#file === file) return;
    this.#file = file;
    this.#strip.peaks = null;
    this.#player.seconds = this.#seconds = 0;
    await this.#player.load(file);
    if (this.#file !== file) return;
    const unplayable = this.#player.playable ? "" : "This browser cannot play this kind of file; its text has times nevertheless.";
    say(byId("sound-about"), unplayable);
    const { peaks, reason } = await readPeaks(file, this.#player.seconds);
    if (this.#file !== file) return;
    this.#strip.peaks = peaks;
    say(byId("sound-about"), [unplayable, reason].filter(Boolean).join(" "));
    this.#strip.redraw();
  }

  // Shows what is known of a run, which may still go on. seconds: the duration that the server found.
  show(run, seconds) {
    byId("result").hidden = false;
    this.#seconds = seconds;
    if (!this.#player.playable) this.#player.seconds = seconds;
    this.#transcript.show(run.segments, run.result?.language.code);
    byId("transcript").setAttribute("aria-busy", String(!run.result));
    showDownloads(byId("downloads"), run.result?.files ?? {}, this.#file.name);
    const { result } = run;
    byId("summary").textContent = result ? summary(result) : "";
    this.#update(run);
  }

  // Shows more segments of the run that is shown.
  add(run, segments) {
    this.#transcript.add(segments);
    this.#update(run);
  }

  // Shows a choice of the runs that have a text.
  offer(runs, shown, onChoose) {
    const choices = runs.map((run) =>
      element(
        "label",
        { class: "choice" },
        element("input", { type: "radio", name: "shown", value: run.name, checked: run === shown, onchange: () => onChoose(run) }),
        run.name,
      ),
    );
    byId("shown").replaceChildren(element("legend", {}, "Text of"), ...choices);
    byId("shown").hidden = runs.length < 2;
  }

  #update(run) {
    const suspect = (segment) => segment.warnings.length > 0;
    this.#strip.seconds = this.#seconds;
    this.#strip.done = run.result ? this.#seconds : run.end;
    this.#strip.segments = run.segments;
    this.#strip.words = run.segments.flatMap((segment) => segment.words.map((word) => ({ ...word, suspect: suspect(segment) })));
    this.#showTime();
  }

  #showTime() {
    const { time, playing, playable } = this.#player;
    const seconds = this.#seconds || this.#player.seconds;
    byId("play").textContent = playing ? "Pause" : "Play";
    byId("play").disabled = !playable;
    byId("clock").textContent = `${clock(time, true)} / ${clock(seconds, true)}`;
    const seek = byId("seek");
    seek.setAttribute("aria-valuemax", seconds.toFixed(1));
    seek.setAttribute("aria-valuenow", time.toFixed(1));
    seek.setAttribute("aria-valuetext", `${clock(time, true)} of ${clock(seconds, true)}`);
    this.#strip.draw(time, playing);
    this.#transcript.follow(time, playing);
  }

  #seekByPointer(target, canvas) {
    const seek = (event) => this.seek(this.#strip.secondAt(canvas, event.clientX - canvas.getBoundingClientRect().left));
    target.addEventListener("pointerdown", (event) => {
      target.setPointerCapture(event.pointerId);
      seek(event);
    });
    if (canvas.id !== "overview") return; // the strip moves while the sound plays: dragging there would run away
    target.addEventListener("pointermove", (event) => target.hasPointerCapture(event.pointerId) && seek(event));
  }
}

function summary(result) {
  const found = result.segments.length ? capital(result.language.name) : "No speech was found";
  const speed = digits(result.seconds / result.computing);
  return `${found}; ${duration(result.seconds)} of sound, computed in ${duration(result.computing)}, ${speed} × real time`;
}
