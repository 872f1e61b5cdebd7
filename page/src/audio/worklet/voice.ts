/** A reader of the song, sample by sample, that fades in or out. */
export class Voice {
  /** The sample that comes next. */
  place: number;
  #gain: number;
  #step: number;

  /** @param fadeSamples how long it takes to fade in. */
  constructor(place: number, fadeSamples: number) {
    this.place = place;
    this.#gain = 0;
    this.#step = 1 / fadeSamples;
  }

  fadeOut(fadeSamples: number): void {
    this.#step = -1 / fadeSamples;
  }

  get isFadingOut(): boolean {
    return this.#step < 0;
  }

  get isOver(): boolean {
    return this.isFadingOut && this.#gain <= 0;
  }

  /**
   * Adds its next samples to `output`, one array per channel.
   *
   * @param pieces of the song, in order, each with one array per channel.
   * @param first the sample at which the first piece begins.
   */
  addTo(output: Float32Array[], pieces: Float32Array[][], first: number): void {
    const length = output[0]!.length;
    const gains = this.#gains(length);
    let begin = first;
    for (const piece of pieces) {
      const end = begin + piece[0]!.length;
      const from = Math.max(this.place, begin);
      const to = Math.min(this.place + length, end);
      for (let channel = 0; from < to && channel < output.length; channel++) {
        const source = piece[channel]!;
        const target = output[channel]!;
        for (let sample = from; sample < to; sample++) {
          const at = sample - this.place;
          target[at] = target[at]! + source[sample - begin]! * gains[at]!;
        }
      }
      begin = end;
    }
    this.place += length;
  }

  #gains(length: number): Float32Array {
    const gains = new Float32Array(length);
    for (let at = 0; at < length; at++) {
      this.#gain = Math.min(Math.max(this.#gain + this.#step, 0), 1);
      gains[at] = this.#gain;
    }
    return gains;
  }
}
