// Opens the microphone.

const REASONS = {
  NotAllowedError: "This page may not use the microphone: allow it in the browser's settings of the page.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone cannot be used: another program may have it.",
};

// Calls onSound with an ArrayBuffer of 16-bit samples, ten times a second, until close() of what this returns.
// Throws an error whose message is a sentence where there is no microphone to be had.
export async function openMicrophone(onSound) {
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
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    if (context.state !== "closed") context.close();
  };
  try {
    await context.audioWorklet.addModule("/page/recorder.js");
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    recorder.port.onmessage = (event) => onSound(event.data);
    context.createMediaStreamSource(stream).connect(recorder);
    await context.resume();
  } catch (error) {
    close();
    throw error;
  }
  return { rate: context.sampleRate, close };
}
