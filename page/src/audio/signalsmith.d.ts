declare module "signalsmith-stretch" {
  export interface Change {
    /** When, in the context's time. */
    output?: number;
    active?: boolean;
    /** Place in the buffers, in seconds. */
    input?: number;
    rate?: number;
    semitones?: number;
    loopStart?: number;
    loopEnd?: number;
  }

  export interface StretchNode extends AudioWorkletNode {
    schedule(change: Change): Promise<Change>;
    addBuffers(channels: Float32Array[], transfer?: Transferable[]): Promise<number>;
    dropBuffers(toSeconds?: number): Promise<{ start: number; end: number }>;
    configure(options: { blockMs?: number; intervalMs?: number; splitComputation?: boolean; preset?: string }): Promise<void>;
    latency(): Promise<number>;
  }

  const create: {
    (context: BaseAudioContext, options?: AudioWorkletNodeOptions): Promise<StretchNode>;
    moduleUrl?: string;
  };
  export default create;
}
