// Plays the recording, which stays in the browser, and tells everybody where it is.

export class Player {
  #audio = new Audio();
  #address = "";
  #position = 0;
  #listeners = [];
  seconds = 0;
  playable = false;

  constructor() {
    this.#audio.preload = "metadata";
    this.#audio.addEventListener("loadedmetadata", () => {
      this.playable = true;
      if (Number.isFinite(this.#audio.duration)) this.seconds = this.#audio.duration;
      this.#tell();
    });
    this.#audio.addEventListener("error", () => {
      this.playable = false;
      this.#tell();
    });
    for (const name of ["play", "pause", "ended", "seeked", "timeupdate"]) this.#audio.addEventListener(name, () => this.#tell());
    this.#audio.addEventListener("play", () => this.#follow());
  }

  // Takes another recording. Resolves when it is known whether the browser can play it.
  load(file) {
    this.#audio.pause();
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = URL.createObjectURL(file);
    this.#position = this.seconds = 0;
    this.playable = false;
    const known = new Promise((resolve) => {
      for (const name of ["loadedmetadata", "error"]) this.#audio.addEventListener(name, resolve, { once: true });
    });
    this.#audio.src = this.#address;
    return known;
  }

  get time() {
    return this.playable ? this.#audio.currentTime : this.#position;
  }

  get playing() {
    return this.playable && !this.#audio.paused && !this.#audio.ended;
  }

  onChange(listener) {
    this.#listeners.push(listener);
  }

  seek(time) {
    this.#position = Math.min(Math.max(0, time), this.seconds || time);
    if (this.playable) this.#audio.currentTime = this.#position;
    this.#tell();
  }

  play() {
    if (this.playable) this.#audio.play().catch(() => this.#tell());
  }

  toggle() {
    if (this.playing) this.#audio.pause();
    else this.play();
  }

  // "timeupdate" comes four times a second, which is too seldom for words.
  #follow() {
    this.#tell();
    if (this.playing) requestAnimationFrame(() => this.#follow());
  }

  #tell() {
    for (const listener of this.#listeners) listener(this);
  }
}
