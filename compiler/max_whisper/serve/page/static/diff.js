// Compares the words of two texts: the shortest list of missing and added words (Myers, 1986).

const MOST_EDITS = 1500; // beyond this, time and memory grow too much, and marks say nothing any more

// Returns a word without what is not compared: capitals and punctuation.
export function plain(word) {
  const text = word.normalize("NFKC").toLowerCase().trim();
  return text.replace(/[\p{P}\p{S}]+/gu, "") || text;
}

// Returns chunks { kind, before, after } with kind "equal", "other", "missing" or "added" and the indices of words of
// each text; null where the texts have too little in common.
export function compareWords(before, after) {
  const [a, b] = [before.map(plain), after.map(plain)];
  const edits = shortestEdits(a, b);
  return edits && joined(edits);
}

// Returns the path of edits as [kind, index] steps.
function shortestEdits(a, b) {
  const most = Math.min(a.length + b.length, MOST_EDITS);
  const trace = [];
  let furthest = new Int32Array(2 * most + 3);
  const middle = most + 1;
  for (let d = 0; d <= most; d++) {
    trace.push(furthest.slice(middle - d - 1, middle + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && furthest[middle + k - 1] < furthest[middle + k + 1]);
      let x = down ? furthest[middle + k + 1] : furthest[middle + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      furthest[middle + k] = x;
      if (x >= a.length && x - k >= b.length) return walkedBack(trace, a.length, b.length);
    }
  }
  return null;
}

function walkedBack(trace, x, y) {
  const steps = [];
  for (let d = trace.length - 1; d > 0; d--) {
    const furthest = trace[d];
    const at = (k) => furthest[k + d + 1];
    const k = x - y;
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const from = down ? at(k + 1) : at(k - 1);
    const fromY = from - (down ? k + 1 : k - 1);
    while (x > from + (down ? 0 : 1) && y > fromY + (down ? 1 : 0)) steps.push(["equal", --x, --y]);
    if (down) steps.push(["added", x, --y]);
    else steps.push(["missing", --x, y]);
  }
  while (x > 0 && y > 0) steps.push(["equal", --x, --y]);
  return steps.reverse();
}

// Joins missing words with added ones beside them: another word stands in their place.
function joined(steps) {
  const chunks = [];
  let [missing, added] = [[], []];
  const flush = () => {
    const pairs = Math.min(missing.length, added.length);
    if (pairs) chunks.push({ kind: "other", before: missing.slice(0, pairs), after: added.slice(0, pairs) });
    if (missing.length > pairs) chunks.push({ kind: "missing", before: missing.slice(pairs), after: [] });
    if (added.length > pairs) chunks.push({ kind: "added", before: [], after: added.slice(pairs) });
    [missing, added] = [[], []];
  };
  for (const [kind, x, y] of steps) {
    if (kind === "missing") missing.push(x);
    else if (kind === "added") added.push(y);
    else {
      flush();
      const last = chunks.at(-1);
      if (last?.kind === "equal") {
        last.before.push(x);
        last.after.push(y);
      } else chunks.push({ kind: "equal", before: [x], after: [y] });
    }
  }
  flush();
  return chunks;
}
