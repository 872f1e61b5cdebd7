/** Finds positions in a song. */

interface Span {
  start: number;
  end: number;
}

/** Index of the last item that begins at or before a time; -1 if there is none. Items are in the order of their starts. */
export function lastBefore<Item>(items: readonly Item[], time: number, start: (item: Item) => number): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (start(items[middle]!) <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Index of the span that a time lies in; -1 for none. */
export function spanAt(spans: readonly Span[], time: number): number {
  const index = lastBefore(spans, time, ({ start }) => start);
  return index >= 0 && time < spans[index]!.end ? index : -1;
}

/** The nearest of some times, unless it is further away than `within` seconds. */
export function nearest(times: readonly number[], time: number, within = Infinity): number {
  const index = lastBefore(times, time, (value) => value);
  const candidates = [times[index], times[index + 1]].filter((value) => value !== undefined);
  const best = candidates.toSorted((one, other) => Math.abs(one - time) - Math.abs(other - time))[0];
  return best !== undefined && Math.abs(best - time) <= within ? best : time;
}
