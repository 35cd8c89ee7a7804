// Opens the microphone.

const REASONS = {
  NotAllowedError: "This page may not use the microphone: allow it in the browser's settings of the page.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone cannot be used: another program may have it.",
};

const LOST = "The microphone brings no more sound: it was unplugged, or the browser has taken it away.";
const FLUSH_SECONDS = 1; // a browser that has stopped the sound may never answer

// Calls onSound with an ArrayBuffer of 16-bit samples, ten times a second, until close() of what this returns, or until
// the promise of its finish() is fulfilled, when all that was heard was given. Calls onLost with a sentence where the
// microphone goes away. Throws an error whose message is a sentence where there is no microphone to be had.
export async function openMicrophone(onSound, onLost) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the microphone to pages of https and of localhost only: this one has another address.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
  const context = new AudioContext();
  let recorder;
  let flushed;
  const close = () => {
    context.onstatechange = null;
    for (const track of stream.getTracks()) track.stop();
    if (context.state !== "closed") context.close();
  };
  const finish = async () => {
    const all = new Promise((resolve) => (flushed = resolve));
    recorder.port.postMessage(null);
    const timer = setTimeout(flushed, 1000 * FLUSH_SECONDS);
    await all;
    clearTimeout(timer);
    close();
  };
  for (const track of stream.getTracks()) track.onended = () => onLost(LOST);
  try {
    await context.audioWorklet.addModule("/page/recorder.js");
    recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    recorder.port.onmessage = ({ data }) => (data ? onSound(data) : flushed());
    context.createMediaStreamSource(stream).connect(recorder);
    await context.resume();
    context.onstatechange = () => context.state !== "running" && onLost(LOST);
  } catch (error) {
    close();
    throw error;
  }
  return { rate: context.sampleRate, finish, close };
}
