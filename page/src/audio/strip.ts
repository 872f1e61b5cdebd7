/** One channel of the mixer: volume, pan, mute, solo and a meter for one stem. */

import { signal } from "@preact/signals";

const GLIDE_SECONDS = 0.012; // short enough to feel immediate, long enough not to click

export class Strip {
  readonly name: string;
  /** From 0 to 1.5; 1 is the level of the song. */
  readonly volume = signal(1);
  /** From -1 (left) to 1 (right). */
  readonly pan = signal(0);
  readonly muted = signal(false);
  readonly solo = signal(false);
  #gain: GainNode | undefined;
  #panner: StereoPannerNode | undefined;
  #meter: AnalyserNode | undefined;
  #samples = new Float32Array(1024);

  constructor(name: string) {
    this.name = name;
  }

  /** Puts the strip between two channels of `splitter` and `target`. */
  connect(splitter: ChannelSplitterNode, index: number, target: AudioNode): void {
    const { context } = splitter;
    const merger = new ChannelMergerNode(context, { numberOfInputs: 2 });
    splitter.connect(merger, 2 * index, 0);
    splitter.connect(merger, 2 * index + 1, 1);
    this.#gain = new GainNode(context, { gain: 0 });
    this.#panner = new StereoPannerNode(context, { pan: this.pan.value });
    this.#meter = new AnalyserNode(context, { fftSize: this.#samples.length });
    merger.connect(this.#gain).connect(this.#panner).connect(this.#meter).connect(target);
  }

  /** @param anySolo another strip may be soloed, which silences this one. */
  apply(anySolo: boolean): void {
    const context = this.#gain?.context;
    if (!context) return;
    const isHeard = !this.muted.value && (!anySolo || this.solo.value);
    this.#gain!.gain.setTargetAtTime(isHeard ? this.volume.value : 0, context.currentTime, GLIDE_SECONDS);
    this.#panner!.pan.setTargetAtTime(this.pan.value, context.currentTime, GLIDE_SECONDS);
  }

  /** Copies the settings of another strip of the same stem. */
  copy(other: Strip): void {
    this.volume.value = other.volume.value;
    this.pan.value = other.pan.value;
    this.muted.value = other.muted.value;
    this.solo.value = other.solo.value;
  }

  /** The greatest level within the last 23 ms, full scale at 1. */
  level(): number {
    if (!this.#meter) return 0;
    this.#meter.getFloatTimeDomainData(this.#samples);
    return this.#samples.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0);
  }
}
