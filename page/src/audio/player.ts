/** Plays the stems of a song together, with tempo, pitch, loops, count-in and the speed trainer. */

import { batch, signal } from "@preact/signals";
import { Clicks } from "./clicks.ts";
import { Feeder } from "./feeder.ts";
import { Rack } from "./rack.ts";
import type { Source } from "./sources.ts";
import type { Strip } from "./strip.ts";
import { placeAt, timeOfRound, type Leg, type Loop } from "./timeline.ts";

const TICK_MS = 40;
// Sound that must be loaded to start, and to go on.
const READY_SECONDS = 0.5;
// A loop is loaded from its beginning, unless that would take too long.
const LOOP_SECONDS = 40;

/** After each `rounds` repetitions of the loop, the tempo rises by a step, up to the last. */
export interface Trainer {
  rounds: number;
  step: number;
  last: number;
}

export class Player {
  readonly duration: number;
  readonly clicks: Clicks;
  readonly playing = signal(false);
  /** Whether play was pressed, but the sound is not loaded yet. */
  readonly waiting = signal(false);
  /** 1 is the song's own tempo. */
  readonly rate = signal(1);
  readonly semitones = signal(0);
  readonly loop = signal<Loop | null>(null);
  readonly trainer = signal<Trainer | null>(null);
  /** Bars that are counted before the song begins. */
  readonly countIn = signal(0);
  readonly bufferedUntil = signal(0);
  onError: (error: unknown) => void = () => {};

  #error: unknown;
  readonly #rack: Rack;
  readonly #feeder: Feeder;
  /** The position while the song does not play. */
  #place = 0;
  #leg: Leg | undefined;
  #next: Leg | undefined;
  #barsToCount = 0;
  #timer = 0;

  /**
   * Loads nothing before it has a position, from `seek` or another player.
   *
   * @param sources stems of one length and rate, mixed as they are numbered.
   * @param duration seconds.
   * @throws Error the browser offers no AudioWorklet here.
   */
  static async open(sources: Source[], duration: number, sampleRateHz: number): Promise<Player> {
    const rack = await Rack.open(sources.map(({ name }) => name), sampleRateHz);
    return new Player(rack, sources.slice(0, rack.strips.length), duration);
  }

  private constructor(rack: Rack, sources: Source[], duration: number) {
    this.duration = duration;
    this.#rack = rack;
    this.clicks = new Clicks(rack.context);
    const { sampleRate } = rack.context;
    this.#feeder = new Feeder(rack.deck, sources, sampleRate, Math.round(duration * sampleRate));
    this.#feeder.position = () => this.position();
    this.#feeder.keepFrom = () => this.loop.value?.start ?? Infinity;
    this.#feeder.onProgress = () => this.#onSound();
    this.#feeder.onError = (error) => {
      this.#error = error;
      this.pause();
      this.onError(error);
    };
  }

  get strips(): Strip[] {
    return this.#rack.strips;
  }

  close(): void {
    clearInterval(this.#timer);
    this.playing.value = false;
    this.#feeder.stop();
    this.#rack.close();
  }

  /** Seconds of the song that are heard now, or `ahead` seconds from now. */
  position(ahead = 0): number {
    if (!this.#leg) return this.#place;
    const time = this.#rack.now - this.#rack.latency + ahead;
    const leg = this.#next && time >= this.#next.output ? this.#next : this.#leg;
    return Math.min(placeAt(leg, time), this.duration);
  }

  /** Continues with other sources of the same stems. */
  use(sources: Source[]): void {
    this.#feeder.use(sources);
  }

  /** Copies the settings of another player, and those of strips with the same names. */
  copy(other: Player): void {
    batch(() => {
      this.rate.value = other.rate.value;
      this.semitones.value = other.semitones.value;
      this.loop.value = other.loop.value;
      this.countIn.value = other.countIn.value;
      this.trainer.value = other.trainer.value;
      this.clicks.copy(other.clicks);
      for (const strip of this.strips) {
        const same = other.strips.find(({ name }) => name === strip.name);
        if (same) strip.copy(same);
      }
    });
  }

  /**
   * Loads sound at another player's position, until there is enough to continue, or the other player stops.
   *
   * @param ahead seconds of sound that are enough, if the loop does not end before.
   * @param isWanted called repeatedly; waiting stops when it returns false.
   * @throws ApiError it cannot be fetched.
   */
  async catchUp(other: Player, ahead: number, isWanted: () => boolean): Promise<void> {
    if (other.playing.value) await this.#rack.context.resume();
    while (isWanted()) {
      this.loop.value = other.loop.value;
      await this.#load(other.position());
      if (this.#error) throw this.#error;
      const place = other.position(this.#rack.lead);
      const end = Math.min(place + Math.max(ahead, READY_SECONDS), this.loop.value?.end ?? Infinity, this.duration);
      if (!other.playing.value || this.#feeder.has(end - 0.01)) return;
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  }

  /** Continues at another player's position, playing or paused; the other one ends when this one is heard. */
  async relieve(other: Player): Promise<void> {
    if (!other.playing.value) {
      await this.seek(other.position());
      other.close();
      return;
    }
    this.playing.value = true;
    await this.#run(other.position(this.#rack.lead + this.#rack.latency));
    this.#timer = window.setInterval(() => this.#tick(), TICK_MS);
    setTimeout(() => other.close(), this.#rack.lead * 1000);
  }

  async play(): Promise<void> {
    if (this.playing.value) return;
    this.playing.value = true;
    await this.#rack.context.resume();
    if (this.#place >= this.duration - 0.05) this.#place = this.loop.value?.start ?? 0;
    this.#barsToCount = this.countIn.value;
    await this.#run(this.#place);
    this.#timer = window.setInterval(() => this.#tick(), TICK_MS);
  }

  pause(): void {
    if (!this.playing.value) return;
    const place = this.position();
    clearInterval(this.#timer);
    this.#halt();
    batch(() => {
      this.playing.value = this.waiting.value = false;
      this.#place = place;
    });
  }

  async toggle(): Promise<void> {
    if (this.playing.value) this.pause();
    else await this.play();
  }

  async seek(seconds: number): Promise<void> {
    const place = Math.min(Math.max(seconds, 0), this.duration);
    const loop = this.loop.value;
    if (loop && place >= loop.end) this.loop.value = null;
    if (this.playing.value) await this.#run(place);
    else {
      this.#place = place;
      await this.#load(place);
      this.#onSound();
    }
  }

  setRate(rate: number): void {
    this.rate.value = Math.min(Math.max(Math.round(rate * 100) / 100, 0.5), 2);
    this.#change();
  }

  setSemitones(semitones: number): void {
    this.semitones.value = Math.min(Math.max(Math.round(semitones), -12), 12);
    this.#change();
  }

  /** @param loop at least a tenth of a second long, or null for none. */
  setLoop(loop: Loop | null): void {
    this.loop.value = loop && loop.end - loop.start >= 0.1 ? loop : null;
    const place = this.position();
    if (this.loop.value && (place < this.loop.value.start - 4 || place >= this.loop.value.end)) {
      void this.seek(this.loop.value.start);
    } else this.#change();
  }

  /** The song continues from its position with the new settings. */
  #change(): void {
    if (!this.#leg) return;
    // Nothing shortens a count-in.
    const output = Math.max(this.#rack.now + this.#rack.lead, this.#leg.output);
    const leg = this.#next && output >= this.#next.output ? this.#next : this.#leg;
    this.#schedule({ output, input: placeAt(leg, output), rate: this.rate.value, loop: this.loop.value });
  }

  async #run(place: number): Promise<void> {
    this.#place = place;
    if (this.#leg && !this.#feeder.has(place)) this.#halt();
    await this.#load(place);
    if (!this.playing.value) return;
    if (!this.#hasSoundAt(place)) {
      this.waiting.value = true;
      return;
    }
    this.waiting.value = false;
    const clicks = this.clicks.countIn(place, this.#barsToCount);
    this.#barsToCount = 0;
    const wait = (place - (clicks[0]?.time ?? place)) / this.rate.value;
    const output = this.#rack.now + this.#rack.lead + wait;
    const leg = { output, input: place, rate: this.rate.value, loop: this.loop.value };
    this.#rack.fade(true);
    this.#schedule(leg);
    this.clicks.lead(clicks, leg);
  }

  async #load(place: number): Promise<void> {
    const start = this.loop.value?.start ?? place;
    await this.#feeder.begin(place, start < place && place - start < LOOP_SECONDS ? start : place);
  }

  #hasSoundAt(place: number): boolean {
    return this.#feeder.has(Math.min(place + READY_SECONDS, this.duration - 0.01));
  }

  #halt(): void {
    this.#leg = this.#next = undefined;
    this.clicks.cancel();
    this.#rack.fade(false);
    void this.#rack.deck.schedule({ active: false, output: this.#rack.now });
  }

  #schedule(leg: Leg): void {
    const isFirst = !this.#leg;
    const isLater = leg.output > this.#rack.now + this.#rack.lead + 0.001;
    if (isFirst || !isLater) {
      this.#leg = leg;
      this.#next = undefined;
      this.clicks.cancel();
    } else this.#next = leg;
    const { origin } = this.#feeder;
    void this.#rack.deck.schedule({
      active: true,
      output: leg.output,
      input: leg.input - origin,
      rate: leg.rate,
      semitones: this.semitones.value,
      loopStart: leg.loop ? leg.loop.start - origin : 0,
      loopEnd: leg.loop ? leg.loop.end - origin : 0,
    });
  }

  #onSound(): void {
    this.bufferedUntil.value = this.#feeder.end;
    if (this.playing.value && this.waiting.value && this.#hasSoundAt(this.#place)) void this.#run(this.#place);
  }

  #tick(): void {
    if (!this.#leg) return;
    const now = this.#rack.now;
    if (this.#next && now >= this.#next.output) {
      this.#leg = this.#next;
      this.#next = undefined;
    }
    const place = this.position();
    if (place >= this.duration - 0.02) {
      this.pause();
      return;
    }
    // The song has reached the end of the loaded sound, or a loop has returned to sound that is not loaded.
    if (!this.#feeder.has(Math.min(place + READY_SECONDS / 2, this.duration - 0.01))) {
      this.#halt();
      void this.#run(place);
      return;
    }
    this.#train(now);
    this.clicks.schedule(this.#leg, this.#next);
  }

  /** Raises the tempo after enough repetitions of the loop. */
  #train(now: number): void {
    const trainer = this.trainer.value;
    const leg = this.#leg!;
    if (!trainer || !leg.loop || this.#next || leg.rate >= trainer.last) return;
    // A leg that began within the loop's first round counts that one too.
    const output = timeOfRound(leg, trainer.rounds);
    if (output - now > this.#rack.lead + 0.15) return;
    this.rate.value = Math.min(Math.round((leg.rate + trainer.step) * 100) / 100, trainer.last, 2);
    this.#schedule({ output, input: leg.loop.start, rate: this.rate.value, loop: leg.loop });
  }
}
