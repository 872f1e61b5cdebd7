/** The metronome: clicks on the song's beats, and those that count in. */

import { signal } from "@preact/signals";
import type { Beat } from "../api/types.ts";
import { timesOf, type Leg } from "./timeline.ts";

// Clicks are scheduled this long before they sound: longer than a tick of the player, short enough to follow changes.
const AHEAD_SECONDS = 0.25;
const ACCENT_HZ = 1760;
const BEAT_HZ = 1175;
const CLICK_SECONDS = 0.05;
const USUAL_SECONDS_PER_BEAT = 0.5;
const USUAL_BEATS_PER_BAR = 4;

export interface Click {
  time: number;
  isAccent: boolean;
}

/** Beats at half, the same or double pace; half pace keeps the downbeats. */
export function clicksOf(beats: readonly Beat[], pace: number): Click[] {
  const clicks = beats.map(({ time, position }) => ({ time, isAccent: position === 1 }));
  if (pace === 0.5) {
    let count = 0;
    return clicks.filter((click) => {
      if (click.isAccent) count = 0;
      return count++ % 2 === 0;
    });
  }
  if (pace === 2) {
    return clicks.flatMap((click, index) => {
      const next = clicks[index + 1];
      return next ? [click, { time: (click.time + next.time) / 2, isAccent: false }] : [click];
    });
  }
  return clicks;
}

/**
 * Clicks of a count-in, on the song's beats continued backwards, so that one can start in time.
 *
 * @param bars number of bars to count; from between two beats, the count leads to the next beat.
 * @returns times in the song, which may lie before its start.
 */
export function countInTo(beats: readonly Beat[], place: number, bars: number): Click[] {
  const perBar = Math.max(...beats.map(({ position }) => position), 0) || USUAL_BEATS_PER_BAR;
  const index = beats.findIndex(({ time }) => time >= place - 0.01);
  const [one, other] = index < 0 ? beats.slice(-2) : beats.slice(Math.max(Math.min(index, beats.length - 2), 0));
  const seconds = one && other ? other.time - one.time : USUAL_SECONDS_PER_BEAT;
  const next = beats[index];
  // Without a beat nearby, for instance before the band starts, the position itself is the first beat.
  const isNear = next !== undefined && next.time - place < seconds;
  const end = isNear ? next.time : place;
  const first = isNear && next.position > 0 ? next.position : 1;
  return Array.from({ length: bars * perBar }, (_, count) => ({
    time: end - (bars * perBar - count) * seconds,
    isAccent: (first - 1 + count) % perBar === 0,
  }));
}

export class Clicks {
  readonly on = signal(false);
  /** 0.5, 1 or 2 clicks per beat. */
  readonly pace = signal(1);
  readonly volume = signal(0.6);
  readonly #context: AudioContext;
  #beats: readonly Beat[] = [];
  #set = new Set<OscillatorNode>();
  #until = 0;

  constructor(context: AudioContext) {
    this.#context = context;
  }

  set beats(beats: readonly Beat[]) {
    this.#beats = beats;
  }

  /** Schedules the next clicks. */
  schedule(leg: Leg, next: Leg | undefined): void {
    const now = this.#context.currentTime;
    const from = Math.max(this.#until, now, leg.output);
    const to = now + AHEAD_SECONDS;
    if (!this.on.value || from >= to) return;
    const clicks = clicksOf(this.#beats, this.pace.value);
    const places = clicks.map(({ time }) => time);
    const change = next?.output ?? Infinity;
    const times = timesOf(leg, places, from, Math.min(to, change));
    if (next) times.push(...timesOf(next, places, Math.max(from, change), to));
    for (const [index, time] of times) this.#click(time, clicks[index]!.isAccent);
    this.#until = to;
  }

  /** The clicks of a count-in to a position. */
  countIn(place: number, bars: number): Click[] {
    return countInTo(this.#beats, place, bars);
  }

  /** Schedules the clicks of a count-in to the beginning of a leg. */
  lead(clicks: Click[], { output, input, rate }: Leg): void {
    for (const { time, isAccent } of clicks) this.#click(output + (time - input) / rate, isAccent);
  }

  /** Copies the settings of another metronome. */
  copy(other: Clicks): void {
    this.on.value = other.on.value;
    this.pace.value = other.pace.value;
    this.volume.value = other.volume.value;
  }

  /** Cancels the clicks that have not sounded yet. */
  cancel(): void {
    for (const click of this.#set) click.stop();
    this.#set.clear();
    this.#until = 0;
  }

  #click(time: number, isAccent: boolean): void {
    const tone = new OscillatorNode(this.#context, { frequency: isAccent ? ACCENT_HZ : BEAT_HZ });
    const gain = new GainNode(this.#context, { gain: 0 });
    gain.gain.setValueAtTime(this.volume.value, time);
    gain.gain.exponentialRampToValueAtTime(0.001, time + CLICK_SECONDS);
    tone.connect(gain).connect(this.#context.destination);
    tone.start(time);
    tone.stop(time + CLICK_SECONDS);
    this.#set.add(tone);
    tone.onended = () => this.#set.delete(tone);
  }
}
