// Draws the waveform: the whole recording, and below it, larger, the part that is played, with its words.

import { calm } from "./dom.js";
import { PEAKS_PER_SECOND } from "./waveform.js";

const PIXELS_PER_SECOND = 190; // so wide that ordinary words fit under their sound
const ROWS = 2;
const ROW_HEIGHT = 20;

export class Strip {
  #overview;
  #strip;
  #left = 0;
  peaks = null;
  seconds = 0;
  done = 0; // seconds that were transcribed
  words = [];
  segments = [];

  constructor(overview, strip) {
    this.#overview = overview;
    this.#strip = strip;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(strip);
  }

  time = 0;
  playing = false;

  redraw() {
    this.draw(this.time, this.playing);
  }

  draw(time, playing) {
    this.time = time;
    this.playing = playing;
    const width = this.#strip.clientWidth;
    if (!width || !this.seconds) return;
    const span = Math.min(width / PIXELS_PER_SECOND, this.seconds);
    this.#left = this.#start(time, span, playing);
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    this.#drawOverview(time, span, color);
    this.#drawStrip(time, span, color);
  }

  // Returns the second at the left end. The part moves with the sound; where motion is unwelcome, it changes by pages.
  #start(time, span, playing) {
    const last = Math.max(0, this.seconds - span);
    if (playing && !calm()) return Math.min(Math.max(0, time - span / 3), last);
    const visible = time >= this.#left && time < this.#left + span && this.#left <= last;
    return visible ? this.#left : Math.min(Math.max(0, time - span / 8), last);
  }

  // Returns the second of the recording at a place of one of the canvases.
  secondAt(canvas, x) {
    const share = Math.min(Math.max(0, x / canvas.clientWidth), 1);
    const span = Math.min(canvas.clientWidth / PIXELS_PER_SECOND, this.seconds);
    return canvas === this.#strip ? this.#left + share * span : share * this.seconds;
  }

  #drawOverview(time, span, color) {
    const { context, width, height } = prepared(this.#overview);
    const scale = width / this.seconds;
    context.fillStyle = color("soft");
    context.fillRect(this.#left * scale, 0, Math.max(2, span * scale), height);
    this.#wave(context, { width, height: height - 6, from: 0, to: this.seconds, color });
    context.fillStyle = color("warn");
    for (const segment of this.segments) {
      if (segment.warnings.length) context.fillRect(segment.start * scale, height - 4, Math.max(2, (segment.end - segment.start) * scale), 4);
    }
    context.fillStyle = color("text");
    context.fillRect(Math.min(time * scale, width - 2), 0, 2, height);
  }

  #drawStrip(time, span, color) {
    const { context, width, height } = prepared(this.#strip);
    const scale = width / span;
    const low = height - ROWS * ROW_HEIGHT - 14;
    this.#wave(context, { width, height: low, from: this.#left, to: this.#left + span, color });
    const x = (time - this.#left) * scale;
    context.fillStyle = color("accent");
    context.fillRect(Math.min(x, width - 2), 0, 2, low + 6);
    context.textBaseline = "middle";
    const ends = new Array(ROWS).fill(-Infinity);
    for (const word of this.words) {
      if (word.end < this.#left || word.start > this.#left + span) continue;
      this.#word(context, { word, ends, scale, low, now: time >= word.start && time < word.end, color });
    }
  }

  // Draws a word in the first row in which it does not touch the one before; where there is none, it is left out.
  #word(context, { word, ends, scale, low, now, color }) {
    const text = word.word.trim();
    const from = (word.start - this.#left) * scale;
    context.font = `${now ? "600 " : ""}14px system-ui, sans-serif`;
    const row = ends.findIndex((end) => end < from);
    context.fillStyle = color(word.suspect ? "warn" : now ? "accent" : "edge");
    context.fillRect(from + 1, low + 4, Math.max(2, (word.end - word.start) * scale - 2), 3);
    if (row < 0) return;
    const size = context.measureText(text).width;
    const y = low + 14 + row * ROW_HEIGHT + ROW_HEIGHT / 2;
    const tint = levelOf(word.probability);
    if (tint) {
      context.fillStyle = color(tint);
      context.fillRect(from, y - 9, size + 4, 18);
    }
    context.fillStyle = color(now ? "accent" : "text");
    context.fillText(text, from + 2, y);
    ends[row] = from + size + 8;
  }

  // Draws peaks, or where there are none, a line for each segment.
  #wave(context, { width, height, from, to, color }) {
    const middle = height / 2;
    if (!this.peaks) {
      context.fillStyle = color("wave");
      for (const segment of this.segments) {
        const start = ((segment.start - from) / (to - from)) * width;
        const end = ((Math.min(segment.end, this.seconds) - from) / (to - from)) * width;
        context.fillRect(start, middle - 2, Math.max(1, end - start - 1), 4);
      }
      return;
    }
    const step = 3;
    for (let x = 0; x < width; x += step) {
      const second = from + (x / width) * (to - from);
      const next = from + ((x + step) / width) * (to - from);
      let peak = 0;
      for (let i = Math.floor(second * PEAKS_PER_SECOND); i < Math.max(next * PEAKS_PER_SECOND, Math.floor(second * PEAKS_PER_SECOND) + 1); i++) {
        peak = Math.max(peak, this.peaks[i] ?? 0);
      }
      const size = Math.max(1, peak * (height - 4));
      context.fillStyle = color(second <= this.done ? "accent" : "wave");
      context.fillRect(x, middle - size / 2, step - 1, size);
    }
  }
}

// Returns the class of a probability: its color, and that of the legend.
export function levelOf(probability) {
  return probability >= 0.9 ? "" : probability >= 0.7 ? "p3" : probability >= 0.4 ? "p2" : "p1";
}

function prepared(canvas) {
  const [width, height, density] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
  if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
  }
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
