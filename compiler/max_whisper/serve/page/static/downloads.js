// Offers a transcription as files, which the server wrote with the writers of `max-whisper transcribe`.

import { element } from "./dom.js";

const TYPES = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt", tsv: "text/tab-separated-values", json: "application/json" };
let addresses = [];

// Shows a link for each file. name: that of the recording, whose ending is replaced.
export function showDownloads(box, files, name) {
  addresses.forEach((address) => URL.revokeObjectURL(address));
  addresses = [];
  for (const link of box.querySelectorAll("a")) link.remove();
  const stem = name.replace(/\.[^.]+$/, "") || name;
  // The common formats first, and then those that others have added to max-whisper.
  for (const format of new Set([...Object.keys(TYPES), ...Object.keys(files)])) {
    if (!(format in files)) continue;
    const content = files[format];
    const address = URL.createObjectURL(new Blob([content], { type: `${TYPES[format] ?? "text/plain"};charset=utf-8` }));
    addresses.push(address);
    const download = `${stem}.${format}`;
    box.append(element("a", { class: "download", href: address, download, "aria-label": `Download ${download}` }, format));
  }
  box.hidden = addresses.length === 0;
}
