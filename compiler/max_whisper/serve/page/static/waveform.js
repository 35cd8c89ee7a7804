// Decodes a recording in the browser to the peaks of its waveform.

const MAX_BYTES = 64e6;
const MAX_SECONDS = 3600; // decoded, an hour takes 230 MB for each channel
const RATE = 16000;
export const PEAKS_PER_SECOND = 50;

// Returns { peaks, reason }: a Float32Array with values from 0 to 1, or null and a sentence that says why not.
export async function readPeaks(file, seconds) {
  if (file.size > MAX_BYTES || seconds > MAX_SECONDS) {
    return { peaks: null, reason: "The recording is too large to draw its waveform in the browser; the lines show where segments are." };
  }
  let sound;
  try {
    sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    return { peaks: null, reason: "This browser cannot decode the recording, so there is no waveform; the lines show where segments are." };
  }
  if (sound.duration > MAX_SECONDS) return { peaks: null, reason: "The recording is too long to draw its waveform in the browser." };
  return { peaks: peaksOf(sound), reason: "" };
}

function peaksOf(sound) {
  const width = RATE / PEAKS_PER_SECOND;
  const peaks = new Float32Array(Math.ceil(sound.length / width));
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let i = 0; i < samples.length; i++) {
      const size = Math.abs(samples[i]);
      const place = Math.floor(i / width);
      if (size > peaks[place]) peaks[place] = size;
    }
  }
  const largest = peaks.reduce((one, other) => Math.max(one, other), 0);
  return largest > 0 ? peaks.map((peak) => peak / largest) : peaks;
}
