// Runs beside the page, where sound comes in small blocks: makes 16-bit samples of them, a tenth of a second at once.
// Any message ends it: it sends the samples that are left, and then null.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.ended = false;
    this.port.onmessage = () => {
      this.ended = true;
      this.send();
      this.port.postMessage(null);
    };
  }

  send() {
    if (this.filled) this.port.postMessage(this.samples.slice(0, this.filled).buffer);
    this.filled = 0;
  }

  process([input]) {
    if (this.ended) return false;
    for (const sample of input[0] ?? []) {
      this.samples[this.filled++] = Math.round(32767 * Math.max(-1, Math.min(1, sample)));
      if (this.filled === this.samples.length) this.send();
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
