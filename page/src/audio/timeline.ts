/** Converts times of the audio context to positions in the song, and back. */

export interface Loop {
  start: number;
  end: number;
}

export interface Leg {
  /** The context's time at which `input`, seconds of the song, is heard. */
  output: number;
  input: number;
  rate: number;
  loop: Loop | null;
}

/** Seconds of the song that are heard at a time of the context. */
export function placeAt(leg: Leg, time: number): number {
  const place = leg.input + Math.max(time - leg.output, 0) * leg.rate;
  if (!leg.loop || place < leg.loop.end) return place;
  return leg.loop.start + ((place - leg.loop.start) % (leg.loop.end - leg.loop.start));
}

/** The number of rounds of the loop that have ended by a time of the context. */
export function roundsAt(leg: Leg, time: number): number {
  if (!leg.loop) return 0;
  const place = leg.input + Math.max(time - leg.output, 0) * leg.rate;
  return Math.max(Math.floor((place - leg.loop.start) / (leg.loop.end - leg.loop.start)), 0);
}

/** The context's time at which the loop begins its nth repetition. */
export function timeOfRound(leg: Leg, round: number): number {
  const { start, end } = leg.loop!;
  return leg.output + (start + round * (end - start) - leg.input) / leg.rate;
}

/**
 * Times of the context, from `from` to `to`, at which positions of the song are heard; `places` are in order.
 *
 * @returns pairs of a place's index and its time.
 */
export function timesOf(leg: Leg, places: readonly number[], from: number, to: number): [number, number][] {
  const found: [number, number][] = [];
  const rounds = roundsAt(leg, to);
  for (let round = roundsAt(leg, from); round <= rounds; round++) {
    const shift = leg.loop ? round * (leg.loop.end - leg.loop.start) : 0;
    places.forEach((place, index) => {
      const isInLoop = !leg.loop || (place < leg.loop.end && (round === 0 || place >= leg.loop.start));
      const time = leg.output + (place + shift - leg.input) / leg.rate;
      if (isInLoop && place + shift >= leg.input && time >= from && time < to) found.push([index, time]);
    });
  }
  return found;
}
