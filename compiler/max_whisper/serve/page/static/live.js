// Writes what is said into the microphone while it is said: words that are sure, and lighter those that may follow.

import { socketOf } from "./api.js";
import { byId, element, say } from "./dom.js";
import { openMicrophone } from "./microphone.js";
import { chosenLanguage, chosenModels } from "./settings.js";

const TRANSCRIPTION = "conversation.item.input_audio_transcription";
const END_SECONDS = 60; // for the text of what was said last

const MOST_UNSENT = 4e6; // bytes of messages: half a minute
const MOST_WAITING = 3e7; // bytes of sound that is said while the model is loaded: five minutes
const SLOW = "The server hears more slowly than you speak: try again when it has less to do.";

let current = null; // the session that runs

function status(text) {
  byId("live-status").textContent = text;
}

function encoded(buffer) {
  let text = "";
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}

// A session: the microphone, the connection, and the paragraphs of what is said.
class Session {
  constructor() {
    this.items = new Map();
    this.ready = false;
    this.ending = false; // whether nobody speaks any more
    this.heard = false; // whether the microphone has brought all
    this.waiting = []; // sound that is said while the model is loaded
    this.waitingBytes = 0;
    this.backlog = 0; // bytes of messages that were sent at once when the model was there
  }

  async start() {
    const [model] = chosenModels();
    if (!model) throw new Error("No model is ticked: tick one.");
    this.microphone = await openMicrophone((sound) => this.hear(sound), (sentence) => this.lose(sentence));
    if (this.ending) return this.microphone.close();
    this.socket = socketOf("/v1/realtime?intent=transcription");
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data), model);
    this.socket.onclose = () => this.end(this.ending ? "" : "The server has closed the connection.");
  }

  send(event) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(event));
  }

  hear(sound) {
    if (this.heard) return;
    if (!this.ready) {
      this.waiting.push(sound);
      this.waitingBytes += sound.byteLength;
      if (this.waitingBytes > MOST_WAITING) this.end("The model is loaded for too long: try again when the server has less to do.");
    } else if (this.socket.bufferedAmount > MOST_UNSENT + this.backlog) this.end(SLOW);
    else this.append(sound);
  }

  append(sound) {
    this.send({ type: "input_audio_buffer.append", audio: encoded(sound) });
  }

  take(event, model) {
    if (event.type === "session.created") {
      status("The model gets ready.");
      const transcription = { model, language: chosenLanguage() || null };
      const format = { type: "audio/pcm", rate: this.microphone.rate };
      const session = { type: "transcription", audio: { input: { format, transcription } }, include: ["max_whisper.hypothesis"] };
      this.send({ type: "session.update", session });
    } else if (event.type === "session.updated") {
      if (this.ready) return this.end(""); // it stands behind the commit, and so behind the last text
      this.ready = true;
      for (const sound of this.waiting.splice(0)) this.append(sound);
      this.backlog = this.socket.bufferedAmount;
      if (this.heard) return this.commit();
      if (!this.ending) status("Listening. Words that may still change are lighter.");
    } else if (event.type === `${TRANSCRIPTION}.delta`) {
      const { sure, unsure } = this.item(event.item_id);
      sure.textContent += event.delta;
      unsure.textContent = "";
    } else if (event.type === "max_whisper.hypothesis") this.item(event.item_id).unsure.textContent = event.text;
    else if (event.type === `${TRANSCRIPTION}.completed`) this.complete(event.item_id, event.transcript);
    else if (event.type === `${TRANSCRIPTION}.failed` || event.type === "error") this.fail(event.error);
    byId("captions").scrollTop = byId("captions").scrollHeight;
  }

  item(id) {
    if (!this.items.has(id)) {
      const [sure, unsure] = [element("span"), element("span", { class: "unsure" })];
      const paragraph = element("p", {}, sure, unsure);
      byId("captions").append(paragraph);
      byId("captions").hidden = false;
      byId("captions").scrollIntoView({ block: "nearest" }); // on a telephone, the newest lines would be below the screen
      this.items.set(id, { paragraph, sure, unsure });
    }
    return this.items.get(id);
  }

  complete(id, text) {
    if (text || this.items.has(id)) {
      const { paragraph, sure, unsure } = this.item(id);
      sure.textContent = text;
      unsure.textContent = "";
      if (!text) paragraph.remove();
    }
  }

  fail(error) {
    if (error.code === "input_audio_buffer_commit_empty") this.end("");
    else this.end(error.message);
  }

  // What was said before the microphone went away gets its text.
  lose(sentence) {
    if (this.ending) return;
    say(byId("error"), sentence);
    this.stop();
  }

  // Hears no more, and waits for the text of what was said last; also for the model, where it is still loaded.
  async stop() {
    this.ending = true;
    status("The last words are written.");
    await this.microphone?.finish();
    if (current !== this) return; // it has ended meanwhile
    this.heard = true;
    if (!this.socket || (!this.ready && !this.waiting.length)) return this.end("");
    if (this.ready) this.commit();
  }

  // Events are answered in their order: behind the answer to an update that changes nothing, no text will come.
  commit() {
    this.send({ type: "input_audio_buffer.commit" });
    this.send({ type: "session.update", session: { type: "transcription" } });
    this.timer = setTimeout(() => this.end(""), 1000 * END_SECONDS);
  }

  end(sentence) {
    this.ending = this.heard = true;
    clearTimeout(this.timer);
    this.microphone?.close();
    this.socket?.close();
    if (current !== this) return;
    current = null;
    byId("speak").textContent = "Speak";
    byId("speak").classList.remove("on");
    status("");
    if (sentence) say(byId("error"), sentence);
  }
}

async function begin() {
  say(byId("error"), "");
  byId("captions").replaceChildren();
  byId("captions").hidden = true;
  byId("speak").textContent = "Stop";
  byId("speak").classList.add("on");
  status("The microphone is opened.");
  const session = new Session();
  current = session;
  try {
    await session.start();
  } catch (error) {
    session.end(error.message);
  }
}

byId("speak").addEventListener("click", () => {
  if (!current) begin();
  else if (!current.ending) current.stop();
});
