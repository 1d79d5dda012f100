// Ranges of axes.

/** A range with some room at both ends. */
export function padded(low, high) {
  const more = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
  return [low - more, high + more];
}

/** The points, and of their intervals no more than leaves the points apart. */
export function around(low, high, ends) {
  const more = high - low || Math.abs(high) * 0.05 || 1;
  return padded(
    Math.max(low - more, Math.min(low, ...ends)),
    Math.min(high + more, Math.max(high, ...ends)),
  );
}
