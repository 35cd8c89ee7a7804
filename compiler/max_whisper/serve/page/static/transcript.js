// Shows the text of a recording: words that can be clicked, with colors for their probability, and suspect segments.

import { calm, element } from "./dom.js";
import { clock, percent } from "./format.js";
import { levelOf } from "./strip.js";

const REST_AFTER_SCROLLING = 4000; // milliseconds in which the text does not follow the sound
const JUMP = 1; // seconds between two times of which the second was sought: sound that plays tells each quarter of one

export class Transcript {
  #box;
  #about;
  #spans = [];
  #words = [];
  #now = -1;
  #time = 0;
  #scrolled = 0;

  // onSeek is called with the second of a word that was chosen, and whether to play from there.
  constructor(box, about, onSeek) {
    this.#box = box;
    this.#about = about;
    box.addEventListener("click", (event) => {
      const place = event.target.closest("[data-at]");
      if (place) onSeek(Number(place.dataset.at));
      const index = this.#spans.indexOf(place);
      if (index >= 0) this.#enter(index);
    });
    box.addEventListener("keydown", (event) => this.#key(event, onSeek));
    box.addEventListener("pointerover", (event) => this.#describe(event.target));
    box.addEventListener("focusin", (event) => this.#describe(event.target));
    for (const name of ["wheel", "touchmove"]) {
      box.addEventListener(name, () => (this.#scrolled = performance.now()), { passive: true });
    }
  }

  // Shows segments in place of all that were shown. language: the code of the language, for screen readers.
  show(segments, language) {
    this.#spans = [];
    this.#words = [];
    this.#now = -1;
    this.#time = 0;
    this.#box.replaceChildren();
    this.#box.lang = language || "";
    this.add(segments);
  }

  // Shows more segments behind those that are shown.
  add(segments) {
    for (const segment of segments) this.#box.append(this.#segment(segment));
    if (this.#spans.length && !this.#spans.some((span) => span.tabIndex === 0)) this.#spans[0].tabIndex = 0;
  }

  #segment(segment) {
    const words = segment.words.length ? segment.words.map((word) => this.#word(word)) : [segment.text];
    const suspect = segment.warnings.length > 0;
    const reasons = segment.warnings.map((warning) => warning.reason).join("; ");
    return element(
      "p",
      { class: suspect ? "segment suspect" : "segment" },
      element("time", { "data-at": segment.start }, clock(segment.start, true)),
      element("span", { class: "words", dir: "auto" }, ...words.flat()),
      suspect ? element("span", { class: "why" }, `Probably not said: ${reasons}`) : null,
    );
  }

  // Returns the space before a word as text, and the word as an element.
  #word(word) {
    const text = word.word.trimStart();
    const space = word.word.slice(0, word.word.length - text.length);
    const span = element("span", { class: `word ${levelOf(word.probability)}`.trim(), "data-at": word.start, tabindex: -1 }, text);
    this.#spans.push(span);
    this.#words.push(word);
    return [space, span];
  }

  // Marks the word that is said at a time, and brings it into view while the sound plays, and where a time was sought.
  follow(time, playing) {
    const begun = this.#lastBegun(time);
    const index = begun >= 0 && time < this.#words[begun].end ? begun : -1; // in a pause, no word is said
    const sought = Math.abs(time - this.#time) > JUMP;
    this.#time = time;
    if (sought && this.#spans.length) this.#bringIntoView(this.#spans[Math.max(0, begun)]);
    if (index === this.#now) return;
    this.#spans[this.#now]?.classList.remove("now");
    this.#now = index;
    const span = this.#spans[index];
    if (!span) return;
    span.classList.add("now");
    if (playing && performance.now() - this.#scrolled > REST_AFTER_SCROLLING) this.#bringIntoView(span);
  }

  // Scrolls the text alone: the page stays where its reader wants it.
  #bringIntoView(span) {
    const [box, place] = [this.#box.getBoundingClientRect(), span.getBoundingClientRect()];
    if (place.top >= box.top + 8 && place.bottom <= box.bottom - 8) return;
    const top = this.#box.scrollTop + place.top - box.top - box.height / 3;
    this.#box.scrollTo({ top, behavior: calm() ? "auto" : "smooth" });
  }

  // Returns the index of the last word that has begun at a time; -1 before the first.
  #lastBegun(time) {
    let [low, high] = [0, this.#words.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#words[middle].start <= time + 0.001) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  // Makes a word the one that Tab reaches: the text is one stop, in which arrows move.
  #enter(index) {
    for (const span of this.#box.querySelectorAll('.word[tabindex="0"]')) span.tabIndex = -1;
    this.#spans[index].tabIndex = 0;
    this.#spans[index].focus({ preventScroll: false });
  }

  #key(event, onSeek) {
    const index = this.#spans.indexOf(event.target);
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: this.#spans.length - 1 }[event.key];
    if (event.key === "Enter") onSeek(this.#words[index].start, true);
    else if (target === undefined) return;
    else if (this.#spans[target]) this.#enter(target);
    event.preventDefault();
    event.stopPropagation();
  }

  #describe(target) {
    const word = this.#words[this.#spans.indexOf(target)];
    if (!word) return;
    const times = `${clock(word.start, true)} to ${clock(word.end, true)}`;
    this.#about.textContent = `“${word.word.trim()}”: ${times}, probability ${percent(word.probability)}`;
  }
}
