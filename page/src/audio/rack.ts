/** The signal path of the stems: one deck that plays them all, a mixer strip for each, and the output. */

import { effect } from "@preact/signals";
import createStretch, { type StretchNode } from "signalsmith-stretch";
import { Strip } from "./strip.ts";
import deckUrl from "./worklet/deck.ts?worker&url";

// Block sizes that signalsmith-stretch chooses for music. The work is spread over an interval; otherwise the Fourier
// transforms of all stems would be computed in one quantum of 3 ms.
const STRETCHING = { blockMs: 120, intervalMs: 30, splitComputation: true };
const MOST_STEMS = 16;
const FADE_SECONDS = 0.01;

export class Rack {
  readonly context: AudioContext;
  readonly deck: StretchNode;
  readonly strips: Strip[];
  /** Seconds until a change of the deck can be heard. */
  readonly lead: number;
  readonly #master: GainNode;
  readonly #stopMixing: () => void;

  /**
   * @param names of the stems; those beyond the 16th are left out.
   * @throws Error the browser offers no AudioWorklet here.
   */
  static async open(names: string[], sampleRateHz: number): Promise<Rack> {
    if (!globalThis.AudioWorkletNode || !window.isSecureContext) {
      throw new Error(
        "Browsers play this page's sound only over https, or on the machine where StemTube runs. Open it over https to play.",
      );
    }
    const heard = names.slice(0, MOST_STEMS);
    const context = new AudioContext({ sampleRate: sampleRateHz, latencyHint: "interactive" });
    createStretch.moduleUrl = deckUrl;
    const deck = await createStretch(context, {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      outputChannelCount: [2 * heard.length],
    });
    await deck.configure(STRETCHING);
    return new Rack(context, deck, heard, await deck.latency());
  }

  private constructor(context: AudioContext, deck: StretchNode, names: string[], lead: number) {
    this.context = context;
    this.deck = deck;
    this.lead = lead;
    this.#master = new GainNode(context, { gain: 0 });
    this.#master.connect(context.destination);
    const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 * names.length });
    deck.connect(splitter);
    this.strips = names.map((name) => new Strip(name));
    this.strips.forEach((strip, index) => strip.connect(splitter, index, this.#master));
    this.#stopMixing = effect(() => {
      const anySolo = this.strips.some((strip) => strip.solo.value);
      for (const strip of this.strips) strip.apply(anySolo);
    });
  }

  /** The context's time, in seconds. */
  get now(): number {
    return this.context.currentTime;
  }

  /** Seconds until the context's output is heard. */
  get latency(): number {
    return this.context.outputLatency || 0;
  }

  /** Fades in or out, without a click. */
  fade(isHeard: boolean): void {
    this.#master.gain.setTargetAtTime(isHeard ? 1 : 0, this.now, FADE_SECONDS);
  }

  close(): void {
    this.#stopMixing();
    void this.context.close();
  }
}
