// Shows how far each step of a transcription is.

import { byId, element } from "./dom.js";
import { clock, digits } from "./format.js";

export class ProgressList {
  #rows = new Map();

  // Shows a row for each step, none of which has begun.
  begin(names) {
    this.#rows = new Map(names.map((name) => [name, row(name)]));
    const list = byId("progress");
    list.replaceChildren(...[...this.#rows.values()].map(({ item }) => item));
    list.hidden = false;
  }

  // Shows how far a step is: a share from 0 to 1, or null where nobody knows, and a few words.
  set(name, share, text) {
    const { bar, words } = this.#rows.get(name);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    words.textContent = text;
  }

  fail(name, sentence) {
    const { item, bar, words } = this.#rows.get(name);
    bar.remove();
    words.className = "failed";
    words.textContent = sentence;
    item.setAttribute("aria-live", "polite");
  }
}

function row(name) {
  const bar = element("progress", { max: 1, value: 0, "aria-label": name });
  const words = element("span", { class: "number" }, "waits");
  return { item: element("li", {}, element("span", { class: "name" }, name), bar, words), bar, words };
}

// Returns how far a model is, and what is probably left.
export function transcribed(end, seconds, computing) {
  const left = end > 0 && end < seconds ? `, about ${clock((computing / end) * (seconds - end) + 0.5)} left` : "";
  return `${clock(Math.min(end, seconds))} of ${clock(seconds)}, ${digits(Math.min(end, seconds) / computing)} × real time${left}`;
}
