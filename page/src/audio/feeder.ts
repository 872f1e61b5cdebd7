/** Keeps the deck supplied with sound around the playhead, within a limit of memory. */

import type { StretchNode } from "signalsmith-stretch";
import type { Source } from "./sources.ts";

// The first pieces are short, so that the sound starts at once; later ones need fewer requests.
const FIRST_SECONDS = 1.5;
const PIECE_SECONDS = 6;
// Limit of the sound in memory: four stereo stems of eight minutes are 680 MB as 32-bit samples.
const MAX_BYTES = 700e6;
// Seconds kept behind the playhead for small steps back, and wanted ahead of it when there is no room for more.
const BEHIND_SECONDS = 15;
const AHEAD_SECONDS = 45;

export class Feeder {
  readonly #deck: StretchNode;
  readonly #sampleRateHz: number;
  readonly #totalSamples: number;
  #sources: Source[];
  #run: AbortController | undefined;
  /** The sample of the song at which the deck's buffers start, and the loaded range. */
  #origin = 0;
  #start = 0;
  #end = 0;
  /** The end of the loaded sound after the next piece arrives. */
  #soon = 0;
  /** The playhead in seconds, and the position to which it may soon return. */
  position: () => number = () => 0;
  keepFrom: () => number = () => Infinity;
  /** Called whenever there is more sound, and with errors. */
  onProgress: () => void = () => {};
  onError: (error: unknown) => void = () => {};

  constructor(deck: StretchNode, sources: Source[], sampleRateHz: number, totalSamples: number) {
    this.#deck = deck;
    this.#sources = sources;
    this.#sampleRateHz = sampleRateHz;
    this.#totalSamples = totalSamples;
  }

  /** Seconds of the song that the deck's time 0 stands for. */
  get origin(): number {
    return this.#origin / this.#sampleRateHz;
  }

  /** Seconds up to which there is sound. */
  get end(): number {
    return this.#end / this.#sampleRateHz;
  }

  get isComplete(): boolean {
    return this.#end >= this.#totalSamples;
  }

  /** Whether the song can be played from here without a wait. */
  has(seconds: number): boolean {
    const sample = seconds * this.#sampleRateHz;
    return sample >= this.#start && (sample < this.#end || this.isComplete);
  }

  /**
   * Starts to fetch at a position. Drops the loaded sound unless it contains that position or ends shortly before it.
   *
   * @param from where to start instead, not after the position: the start of a loop around it.
   */
  async begin(seconds: number, from = seconds): Promise<void> {
    const sample = Math.floor(seconds * this.#sampleRateHz);
    const isNear = sample >= this.#start && sample <= Math.max(this.#end + FIRST_SECONDS * this.#sampleRateHz, this.#soon);
    if (this.#run && isNear) return;
    this.stop();
    const run = new AbortController();
    this.#run = run;
    this.#origin = this.#start = this.#end = Math.floor(from * this.#sampleRateHz);
    const firstSeconds = seconds - from + FIRST_SECONDS;
    this.#soon = this.#end + firstSeconds * this.#sampleRateHz;
    await this.#deck.dropBuffers();
    this.#follow(run.signal, firstSeconds);
  }

  #follow(signal: AbortSignal, firstSeconds: number): void {
    if (!signal.aborted) this.#feed(signal, firstSeconds).catch((error) => signal.aborted || this.#fail(error));
  }

  stop(): void {
    this.#run?.abort();
    this.#run = undefined;
  }

  /** Continues with other sources of the same stems: complete ones in place of those in progress. */
  use(sources: Source[]): void {
    this.#sources = sources;
    if (!this.#run) return;
    this.stop();
    this.#run = new AbortController();
    this.#follow(this.#run.signal, FIRST_SECONDS);
  }

  #fail(error: unknown): void {
    this.#run = undefined;
    this.onError(error);
  }

  async #feed(signal: AbortSignal, firstSeconds: number): Promise<void> {
    let seconds = firstSeconds;
    while (this.#end < this.#totalSamples) {
      await this.#makeRoom(signal);
      const count = Math.min(Math.round(seconds * this.#sampleRateHz), this.#totalSamples - this.#end);
      const sounds = await Promise.all(this.#sources.map((source) => source.read(this.#end, count, signal)));
      signal.throwIfAborted();
      const channels = sounds.flat();
      const added = this.#deck.addBuffers(channels, channels.map(({ buffer }) => buffer));
      // Counted at once, so that a change to other sources does not add it again.
      this.#end += count;
      await added;
      signal.throwIfAborted();
      this.onProgress();
      seconds = PIECE_SECONDS;
    }
  }

  /** Drops sound behind the playhead if there is too much; waits while there is enough ahead. */
  async #makeRoom(signal: AbortSignal): Promise<void> {
    const bytesPerSample = this.#sources.length * 2 * 4;
    while ((this.#end - this.#start) * bytesPerSample > MAX_BYTES) {
      const keep = Math.min(this.position() - BEHIND_SECONDS, this.keepFrom());
      const { start } = await this.#deck.dropBuffers(keep - this.origin);
      this.#start = this.#origin + Math.round(start * this.#sampleRateHz);
      if (this.end - this.position() < AHEAD_SECONDS) return;
      await new Promise((resolve) => setTimeout(resolve, 500));
      signal.throwIfAborted();
    }
  }
}
