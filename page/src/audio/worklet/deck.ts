/**
 * Plays all stems of a song together: stretched where tempo or pitch differ from the song's, and sample for sample where
 * they do not. A worklet module; the node has two channels per stem.
 *
 * signalsmith-stretch at rate 1 is not transparent (it leaves a residual of -16 dB against its input), and costs 6 % of a
 * core for four stems, so it does not run while it is not needed.
 */

import { register, taken, type Segment } from "./stretch.ts";
import "signalsmith-stretch";
import { Voice } from "./voice.ts";

const { name, Stretch } = taken();

// A sudden jump is heard as a click; at a change between the two ways to play, stretched sound needs a block to rise.
const JUMP_SAMPLES = 128;
const CHANGE_SAMPLES = 2048;
// After its input ends, the stretcher sounds for its latency and a block.
const TAIL_SECONDS = 0.4;

class Deck extends Stretch {
  #voices: Voice[] = [];
  /** Samples that were read ahead, as the stretcher needs them: played with the stretcher's delay. */
  #delay: Float32Array[] = [];
  #written = 0;
  /** The samples that the stretcher reads next, per channel. */
  #needed: Float32Array[] = [];
  #stretchUntil = 0;

  override process(inputs: Float32Array[][], outputs: Float32Array[][], parameters: Record<string, Float32Array>): boolean {
    const output = outputs[0];
    if (!this.wasmReady || !output?.length) return super.process(inputs, outputs, parameters);
    const segment = this.#segment();
    const isPlain = segment.active && segment.rate === 1 && segment.semitones === 0;
    const isStretched = segment.active && !isPlain;
    if (isStretched) this.#stretchUntil = currentTime + TAIL_SECONDS;
    if (currentTime < this.#stretchUntil) {
      this.#stretch(segment, isStretched, () => super.process(inputs, outputs, parameters));
    }
    this.#follow(isPlain ? Math.round(this.#input(segment) * sampleRate) : undefined, isStretched);
    this.#addDelayed(output);
    return true;
  }

  /** The part of the schedule to compute now, chosen as in the stretcher. */
  #segment(): Segment {
    const time = currentTime + this.outputLatencySeconds;
    while (this.timeMap.length > 1 && this.timeMap[1]!.output <= time) this.timeMap.shift();
    return this.timeMap[0]!;
  }

  /** The seconds of the song to compute now; at its end the loop starts again. */
  #input(segment: Segment): number {
    const loop = segment.loopEnd - segment.loopStart;
    const time = (currentTime + this.outputLatencySeconds - segment.output) * segment.rate;
    if (loop > 0 && segment.input + time >= segment.loopEnd) segment.input -= loop;
    return segment.input + time;
  }

  /** Runs the stretcher, or lets it decay, with one piece that has exactly its input: it misreads across pieces. */
  #stretch(segment: Segment, isStretched: boolean, run: () => void): void {
    const { audioBuffers, audioBuffersStart } = this;
    const isActive = segment.active;
    segment.active = isStretched;
    if (isStretched && audioBuffers.length) {
      const end = Math.round((this.#input(segment) + this.inputLatencySeconds) * sampleRate);
      this.#readAround(end - this.bufferLength);
      this.audioBuffers = [this.#needed];
      this.audioBuffersStart = end - this.bufferLength;
    }
    run();
    this.audioBuffers = audioBuffers;
    this.audioBuffersStart = audioBuffersStart;
    segment.active = isActive;
  }

  #readAround(first: number): void {
    const length = this.bufferLength;
    const channels = this.audioBuffers[0]!.length;
    if (this.#needed.length !== channels || this.#needed[0]?.length !== length) {
      this.#needed = Array.from({ length: channels }, () => new Float32Array(length));
    }
    for (const channel of this.#needed) channel.fill(0);
    let begin = this.audioBuffersStart;
    for (const piece of this.audioBuffers) {
      const from = Math.max(first, begin);
      const to = Math.min(first + length, begin + piece[0]!.length);
      if (from < to) {
        this.#needed.forEach((channel, index) => channel.set(piece[index]!.subarray(from - begin, to - begin), from - first));
      }
      begin += piece[0]!.length;
    }
  }

  /** Makes the voices follow the position at which the song is read; undefined for none. */
  #follow(place: number | undefined, isStretched: boolean): void {
    const current = this.#voices.find((voice) => !voice.isFadingOut);
    // Positions are rounded; a difference of one sample is not a jump.
    if (current?.place === place || (current && place !== undefined && Math.abs(current.place - place) <= 1)) return;
    const fade = isStretched || this.#isStretching ? CHANGE_SAMPLES : JUMP_SAMPLES;
    current?.fadeOut(fade);
    if (place !== undefined) this.#voices.push(new Voice(place, fade));
  }

  get #isStretching(): boolean {
    return currentTime < this.#stretchUntil;
  }

  #addDelayed(output: Float32Array[]): void {
    const length = output[0]!.length;
    const latency = Math.round(this.outputLatencySeconds * sampleRate);
    // This changes when the stretcher is configured.
    if (this.#delay[0]?.length !== latency + length) {
      this.#delay = output.map(() => new Float32Array(latency + length));
      this.#written = 0;
    }
    const now = output.map(() => new Float32Array(length));
    for (const voice of this.#voices) voice.addTo(now, this.audioBuffers, this.audioBuffersStart);
    this.#voices = this.#voices.filter((voice) => !voice.isOver);
    output.forEach((channel, index) => {
      const line = this.#delay[index]!;
      for (let at = 0; at < length; at++) {
        line[(this.#written + at) % line.length] = now[index]![at]!;
        channel[at] = channel[at]! + line[(this.#written + at + line.length - latency) % line.length]!;
      }
    });
    this.#written = (this.#written + length) % this.#delay[0]!.length;
  }
}

register(name, Deck);
