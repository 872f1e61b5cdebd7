/**
 * The processor class of signalsmith-stretch, before it is registered.
 *
 * The package registers its class when it is loaded in a worklet and exports nothing there; this module must be loaded
 * before it, and takes the class. It declares the members that `Deck` uses, for the version in package.json.
 */

export interface Segment {
  active: boolean;
  /** Seconds in the buffers, and the context's time at which they are heard. */
  input: number;
  output: number;
  rate: number;
  semitones: number;
  loopStart: number;
  loopEnd: number;
}

export interface Stretch extends AudioWorkletProcessor {
  wasmReady: boolean;
  timeMap: Segment[];
  /** Pieces in order, each with one array per channel. */
  audioBuffers: Float32Array[][];
  /** Sample at which the first piece begins. */
  audioBuffersStart: number;
  inputLatencySeconds: number;
  outputLatencySeconds: number;
  /** The number of samples before the read position that it needs. */
  bufferLength: number;
  process(inputs: Float32Array[][], outputs: Float32Array[][], parameters: Record<string, Float32Array>): boolean;
}

export interface AudioWorkletProcessor {
  readonly port: MessagePort;
}

export type StretchClass = new (options: unknown) => Stretch;

declare global {
  var registerProcessor: (name: string, processor: StretchClass) => void;
  var currentTime: number;
  var sampleRate: number;
}

export const register = globalThis.registerProcessor;

let name = "";
let Taken: StretchClass | undefined;

globalThis.registerProcessor = (wanted, processor) => {
  name = wanted;
  Taken = processor;
};

/** The class and the name that the package wanted for it. */
export function taken(): { name: string; Stretch: StretchClass } {
  globalThis.registerProcessor = register;
  if (!Taken) throw new Error("signalsmith-stretch did not register its processor");
  return { name, Stretch: Taken };
}
