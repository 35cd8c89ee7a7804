// Writes numbers for people.

// Returns seconds as 1:02:03 or 2:03, with tenths where asked for.
export function clock(seconds, tenths = false) {
  const rounded = tenths ? Math.floor(seconds * 10 + 1e-6) / 10 : Math.floor(seconds + 1e-6);
  const hours = Math.floor(rounded / 3600);
  const minutes = Math.floor((rounded % 3600) / 60);
  const rest = tenths ? (rounded % 60).toFixed(1).padStart(4, "0") : String(Math.floor(rounded % 60)).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

// Returns a duration with three digits: 0.412 s, 8.31 s, 2 min 5 s.
export function duration(seconds) {
  if (seconds < 60) return `${digits(seconds)} s`;
  const whole = Math.round(seconds);
  return whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// Returns a number with about three digits, and never as 1e-7.
export function digits(number) {
  if (number >= 100 || number === 0) return Math.round(number).toLocaleString("en");
  return number.toFixed(number >= 10 ? 1 : number >= 1 ? 2 : 3);
}

// Returns 12345678 as "12.3 M"; nothing for 0.
export function short(number) {
  for (const [limit, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= limit) return `${Number((number / limit).toPrecision(3))} ${unit}`;
  }
  return number ? String(number) : "";
}

export const megabytes = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${digits(bytes / 1e6)} MB`);
export const percent = (share) => `${Math.round(share * 100)} %`;
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const count = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
