// Shows the layers of a model: shapes, parameters, operations, and where they were measured, times.

import { element } from "./dom.js";
import { digits, short } from "./format.js";

const PARTS = {
  encoder: { title: "Encoder, once for each window", graphs: ["encoder"], flops: "flops_per_window", unit: "window" },
  decoder: { title: "Decoder, once for each token", graphs: ["step"], flops: "flops_per_token", unit: "token" },
};
const HEADS = ["layer", "output", "parameters", "FLOPs"];

// Shows the answer of /page-data/models/NAME/layers.
export function showLayers(box, report) {
  const tables = Object.entries(report.parts).map(([name, layers]) => partTable(name, layers, report.times));
  box.replaceChildren(
    element("p", { class: "about" }, `${report.spec} in ${report.dtype}: ${report.parameters.toLocaleString("en")} parameters. ${aboutTimes(report)}`),
    ...tables,
    element("p", { class: "about" }, "“× 6” stands for six equal layers in a row; parameters, operations and times are those of all six."),
  );
}

function aboutTimes({ times, no_times: none }) {
  if (!times) return none;
  const day = new Date(times.measured * 1000).toISOString().slice(0, 10);
  const batch = times.batch > 1 ? `${times.batch} windows at once` : "one window";
  return `Times were measured by max-whisper bench on ${day} with ${times.threads} ${times.threads === 1 ? "core" : "cores"}, for ${batch} of ${times.seconds} s and ${times.tokens} tokens. Layers beside one time are computed together.`;
}

function partTable(name, layers, times) {
  const part = PARTS[name] ?? { title: name, graphs: [name], flops: "flops_per_window", unit: "run" };
  const graphs = part.graphs.map((graph) => times?.graphs[graph]).filter(Boolean);
  const groups = graphs.flatMap((graph) => graph.rows);
  const once = name === "decoder" ? times?.graphs.cross_kv : null;
  const rows = layers.map((layer) => [layer, layerCells(name, layer, part)]);
  const placed = groups.length ? placeTimes(rows, groups) : [];
  const heads = [...HEADS.slice(0, 3), `FLOPs per ${part.unit}`, ...(groups.length ? [`ms per ${part.unit}`] : [])];
  const table = element(
    "table",
    {},
    element("caption", {}, part.title),
    element("thead", {}, element("tr", {}, ...heads.map((head, i) => element("th", { scope: "col", class: i > 1 ? "right" : "" }, head)))),
    element("tbody", {}, ...rows.map(([, cells]) => element("tr", {}, ...cells)), ...placed),
    graphs.length ? element("tfoot", {}, sum("whole graph, without clocks", graphs[0].ms, heads.length)) : null,
  );
  return element(
    "div",
    {},
    element("div", { class: "table", role: "region", tabindex: 0, "aria-label": part.title }, table),
    once ? element("p", { class: "about" }, `Once for each window, the keys and values of the cross-attention take ${digits(once.ms)} ms.`) : null,
  );
}

function layerCells(part, layer, { flops }) {
  const path = layer.path.startsWith(`${part}.`) ? layer.path.slice(part.length + 1) : layer.path;
  return [
    element("th", { scope: "row" }, ...breakable(path), layer.copies > 1 ? element("small", {}, ` ×\u00a0${layer.copies}`) : null),
    element("td", {}, layer.output.join(" × ")),
    element("td", { class: "right" }, layer.parameters ? (layer.parameters * layer.copies).toLocaleString("en") : ""),
    element("td", { class: "right" }, short(layer[flops] * layer.copies)),
  ];
}

// Returns a path that may be broken after its dots, for narrow screens.
const breakable = (path) => path.split(/(?<=\.)/).flatMap((part) => [part, element("wbr")]);

// Puts the time of each group of layers beside its first layer, over as many rows as stand together.
// Returns the rows of groups that belong to no layer that is listed.
function placeTimes(rows, groups) {
  const largest = Math.max(...groups.map((group) => group.ms));
  const more = [];
  const taken = new Set();
  for (const group of groups) {
    const names = new Set(group.layers);
    const first = rows.findIndex(([layer]) => names.has(layer.path));
    if (first < 0) {
      more.push(element("tr", {}, element("th", { scope: "row" }, group.layers.join(" + ")), ...blank(3), timeCell(group.ms, largest, 1)));
      continue;
    }
    let length = 1;
    while (rows[first + length] && names.has(rows[first + length][0].path)) length++;
    rows[first][1].push(timeCell(group.ms, largest, length));
    for (let i = first; i < first + length; i++) taken.add(i);
  }
  rows.forEach(([, cells], i) => taken.has(i) || cells.push(element("td", {})));
  return more;
}

function timeCell(ms, largest, rows) {
  const bar = element("div", { class: "track", "aria-hidden": "true" }, element("div", { class: "fill", width: `${(100 * ms) / largest}%` }));
  const cell = element("div", { class: "timed" }, bar, element("span", {}, digits(ms)));
  return element("td", { class: "right measured", rowspan: rows }, cell);
}

const blank = (number) => Array.from({ length: number }, () => element("td", {}));

function sum(title, ms, columns) {
  return element("tr", {}, element("th", { scope: "row", colspan: columns - 1 }, title), element("td", { class: "right" }, digits(ms)));
}
