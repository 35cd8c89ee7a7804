// Shows several models side by side: their times as bars, and their texts with the differences marked.

import { compareWords } from "./diff.js";
import { element } from "./dom.js";
import { count, digits, duration, megabytes } from "./format.js";

// Shows the bars of runs: the time that each model has computed, and how much faster than the recording that is.
export function showBars(box, runs) {
  const times = runs.map((run) => run.result.computing);
  const speeds = runs.map((run) => run.result.seconds / run.result.computing);
  box.replaceChildren(
    bars("Computing time", "shorter is better", runs, times, (run, time) => {
      const factor = time / run.result.seconds;
      return `${duration(time)}, real-time factor ${factor.toFixed(factor < 0.1 ? 3 : 2)}`;
    }),
    bars("Speed", "longer is better", runs, speeds, (run, speed) => `${digits(speed)} × real time`),
    element(
      "p",
      { class: "about" },
      "The models computed one after the other, on the same decoded recording. Loading them, and turns of other requests, are not counted.",
    ),
  );
}

function bars(title, about, runs, values, text) {
  const largest = Math.max(...values);
  const rows = runs.map((run, i) =>
    element(
      "div",
      { class: "bar" },
      element("span", { class: "name" }, run.name, element("small", {}, describe(run.model))),
      element("div", { class: "track", "aria-hidden": "true" }, element("div", { class: "fill", width: `${(100 * values[i]) / largest}%` })),
      element("span", { class: "number" }, text(run, values[i])),
    ),
  );
  return element("div", { class: "bars" }, element("h3", {}, `${title} `, element("small", {}, about)), ...rows);
}

export const describe = (model) => `${model.spec}, ${model.dtype}, ${megabytes(model.bytes)}`;

// Shows the text of each run in a column, with what differs from the reference, which is one of the runs.
export function showColumns(box, runs, reference) {
  const own = wordsOf(reference);
  const others = runs.filter((run) => run !== reference);
  const compared = new Map(others.map((run) => [run, compareWords(own.map(text), wordsOf(run).map(text))]));
  const marked = new Map(); // the index of a word of the reference, and what the first other model made of it
  for (const chunks of compared.values()) {
    for (const chunk of chunks ?? []) {
      if (chunk.kind === "other") chunk.before.forEach((index) => marked.set(index, "mark"));
    }
  }
  const first = column(reference, "the reference", own.map((word, i) => [marked.get(i) ?? "span", word, word.start]));
  box.replaceChildren(first, ...others.map((run) => other(run, own, compared.get(run))));
}

function other(run, own, chunks) {
  const words = wordsOf(run);
  if (!chunks) {
    const about = "differs too much from the reference to be compared word by word";
    return column(run, about, words.map((word) => ["span", word, word.start]));
  }
  const sums = { other: 0, missing: 0, added: 0 };
  const pieces = [];
  for (const { kind, before, after } of chunks) {
    if (kind in sums) sums[kind] += Math.max(before.length, after.length);
    if (kind === "missing") pieces.push(...before.map((i) => ["del", own[i], own[i].start]));
    const tag = { equal: "span", other: "mark", added: "ins" }[kind];
    pieces.push(...after.map((i) => [tag, words[i], words[i].start]));
  }
  const total = sums.other + sums.missing + sums.added;
  const parts = Object.entries(sums).filter(([, number]) => number).map(([kind, number]) => `${number} ${kind}`);
  const about = total ? `${count(total, "difference")} in ${count(own.length, "word")}: ${parts.join(", ")}` : `the same ${count(own.length, "word")}`;
  return column(run, about, pieces);
}

function column(run, about, pieces) {
  const children = [];
  for (const [tag, word, start] of pieces) {
    const trimmed = word.word.trimStart();
    children.push(word.word.slice(0, word.word.length - trimmed.length), element(tag, { "data-at": start }, trimmed));
  }
  return element(
    "article",
    { "aria-label": run.name },
    element("h3", {}, run.name),
    element("p", { class: "about" }, about),
    element("p", { class: "text", lang: run.result.language.code, dir: "auto", tabindex: 0 }, ...children),
  );
}

// Returns the words of a run; a segment without times of words is one word for each space.
function wordsOf(run) {
  return run.result.segments.flatMap((segment) =>
    segment.words.length
      ? segment.words
      : segment.text.split(/(?=\s)/u).map((word) => ({ word, start: segment.start, end: segment.end })),
  );
}

const text = (word) => word.word;
