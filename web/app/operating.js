/**
 * The operating point: what a threshold does on the validation pictures that it was chosen on. The manifest holds how
 * many safe and unsafe ones have at least each score that occurs, from the highest down.
 */

/**
 * @param {{scores: number[], safe: number[], unsafe: number[]}} curve
 * @param {number} threshold
 * @returns {{recall: number, fpr: number, precision: number|null, flaggedSafe: number, flaggedUnsafe: number}}
 */
export function at(curve, threshold) {
  const place = lastAtLeast(curve.scores, threshold);
  const [flaggedSafe, flaggedUnsafe] = place < 0 ? [0, 0] : [curve.safe[place], curve.unsafe[place]];
  return {
    flaggedSafe,
    flaggedUnsafe,
    recall: flaggedUnsafe / curve.n_unsafe,
    fpr: flaggedSafe / curve.n_safe,
    precision: flaggedSafe + flaggedUnsafe ? flaggedUnsafe / (flaggedSafe + flaggedUnsafe) : null,
  };
}

/** How many safe and unsafe pictures have a score in each of `bins` equal parts of [0, 1]. */
export function histogram(curve, bins) {
  const counts = { safe: new Array(bins).fill(0), unsafe: new Array(bins).fill(0) };
  curve.scores.forEach((score, place) => {
    const bin = Math.min(bins - 1, Math.floor(score * bins));
    for (const side of ["safe", "unsafe"]) counts[side][bin] += curve[side][place] - (curve[side][place - 1] ?? 0);
  });
  return counts;
}

/** The last index of scores, highest first, that is at least `threshold`; -1 when none is. */
function lastAtLeast(scores, threshold) {
  let [low, high] = [0, scores.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] >= threshold) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
