/** Sources of a stem's sound, which can be read at any place. */

import { ApiError, fetchBytes } from "../api/client.ts";
import { findFrames, pieceOf, readStreamInfo, type StreamInfo } from "./flac.ts";

/** Left and right. */
export type Stereo = [Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>];

export interface Source {
  name: string;
  /**
   * Samples from `first` on; silence behind the end.
   *
   * @throws ApiError if they cannot be fetched.
   */
  read(first: number, count: number, signal: AbortSignal): Promise<Stereo>;
}

/** Decodes a whole file, at the sample rate given. */
async function decode(data: ArrayBuffer, sampleRateHz: number): Promise<Stereo> {
  const buffer = await new OfflineAudioContext(1, 1, sampleRateHz).decodeAudioData(data);
  const right = Math.min(1, buffer.numberOfChannels - 1);
  return [buffer.getChannelData(0).slice(), buffer.getChannelData(right).slice()];
}

function silence(count: number): Stereo {
  return [new Float32Array(count), new Float32Array(count)];
}

/** Copies the overlapping part of `sound`, which begins at sample `at` of the song, into a range from `first` on. */
function paste(sound: Stereo, at: number, target: Stereo, first: number): void {
  const from = Math.max(first - at, 0);
  const place = Math.max(at - first, 0);
  target.forEach((channel, index) => {
    const count = Math.min(sound[index]!.length - from, channel.length - place);
    if (count > 0) channel.set(sound[index]!.subarray(from, from + count), place);
  });
}

interface Anchor {
  sample: number;
  byte: number;
}

// The first request fetches metadata and some sound. The estimated place of a sample is this much earlier, because
// quiet passages take fewer bytes.
const HEAD_BYTES = 64 * 1024;
const GUESS_MARGIN_BYTES = 48 * 1024;
const SPARE = 1.2;

/** A FLAC file that is fetched in pieces by Range requests. */
export class FlacFile implements Source {
  readonly name: string;
  readonly #path: string;
  readonly #gain: number;
  #opening: Promise<StreamInfo> | undefined;
  #size = 0;
  #anchors: Anchor[] = [];

  /** @param gain applied to the stored samples; without it the stems add up to the mix. */
  constructor(name: string, path: string, gain: number) {
    this.name = name;
    this.#path = path;
    this.#gain = gain;
  }

  async read(first: number, count: number, signal: AbortSignal): Promise<Stereo> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    const info = await this.#opening;
    const last = Math.min(first + count, info.totalSamples);
    const target = silence(count);
    if (first >= last) return target;
    const { bytes, start } = await this.#frames(info, first, last, signal);
    const frames = findFrames(bytes, info);
    const wanted = frames.filter(({ sample, samples }) => sample < last && sample + samples > first);
    const head = wanted[0]!;
    const next = frames[frames.indexOf(wanted.at(-1)!) + 1];
    this.#remember({ sample: head.sample, byte: start + head.offset });
    if (next) this.#remember({ sample: next.sample, byte: start + next.offset });
    const samples = wanted.reduce((sum, frame) => sum + frame.samples, 0);
    const piece = pieceOf(info, bytes.subarray(head.offset, next?.offset), samples);
    paste(await decode(piece, info.sampleRateHz), head.sample, target, first);
    if (this.#gain !== 1) for (const channel of target) channel.forEach((value, at) => (channel[at] = value / this.#gain));
    return target;
  }

  async #open(): Promise<StreamInfo> {
    for (let length = HEAD_BYTES; ; length *= 8) {
      const response = await fetchBytes(this.#path, [0, length - 1]);
      this.#size = Number(response.headers.get("Content-Range")?.split("/")[1] ?? response.headers.get("Content-Length"));
      const info = readStreamInfo(new Uint8Array(await response.arrayBuffer()));
      if (!info) continue;
      this.#anchors = [
        { sample: 0, byte: info.audioStart },
        { sample: info.totalSamples, byte: this.#size },
      ];
      return info;
    }
  }

  /** Bytes that hold all frames from `first` to `last`, and one frame more unless the file ends. */
  async #frames(info: StreamInfo, first: number, last: number, signal: AbortSignal) {
    const rate = (this.#size - info.audioStart) / info.totalSamples;
    let start = this.#byteBefore(first);
    let end = Math.ceil(start + (last - first) * rate * SPARE + 2 * GUESS_MARGIN_BYTES);
    for (;;) {
      end = Math.min(end, this.#size);
      const response = await fetchBytes(this.#path, [start, end - 1], signal);
      const bytes = new Uint8Array(await response.arrayBuffer());
      const frames = findFrames(bytes, info);
      const isEarlyEnough = frames.length > 0 && frames[0]!.sample <= first;
      const isLateEnough = end === this.#size || (frames.length > 0 && frames.at(-1)!.sample >= last);
      if (isEarlyEnough && isLateEnough) return { bytes, start };
      if (!isEarlyEnough) start = Math.max(info.audioStart, start - 4 * GUESS_MARGIN_BYTES);
      if (!isLateEnough) end += Math.ceil((end - start) / 2);
    }
  }

  /** The byte at which to start reading for a sample: exact if the frame is known, else interpolated, rather too early. */
  #byteBefore(sample: number): number {
    const index = this.#anchors.findLastIndex((anchor) => anchor.sample <= sample);
    const before = this.#anchors[index]!;
    const after = this.#anchors[index + 1];
    if (!after || before.sample === sample) return before.byte;
    const share = (sample - before.sample) / (after.sample - before.sample);
    return Math.max(before.byte, Math.floor(before.byte + share * (after.byte - before.byte)) - GUESS_MARGIN_BYTES);
  }

  #remember(anchor: Anchor): void {
    const index = this.#anchors.findIndex(({ sample }) => sample >= anchor.sample);
    if (this.#anchors[index]?.sample !== anchor.sample) this.#anchors.splice(index, 0, anchor);
  }
}

const LIVE_WAIT_MS = 700;

/** A stem that is still being made: a growing playlist of short files that join without a gap. */
export class LiveStem implements Source {
  readonly name: string;
  readonly #playlist: string;
  readonly #sampleRateHz: number;
  #files: string[] = [];
  /** Samples of each file but the song's last. */
  #samples = 0;
  #readySamples = 0;

  constructor(name: string, playlist: string, sampleRateHz: number) {
    this.name = name;
    this.#playlist = playlist;
    this.#sampleRateHz = sampleRateHz;
  }

  async read(first: number, count: number, signal: AbortSignal): Promise<Stereo> {
    try {
      return await this.#read(first, count, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      // The stem is complete: the reader will soon switch to it.
      return pause(Infinity, signal) as Promise<never>;
    }
  }

  async #read(first: number, count: number, signal: AbortSignal): Promise<Stereo> {
    while (this.#readySamples < first + count) {
      await this.#renew(signal);
      if (this.#readySamples < first + count) await pause(LIVE_WAIT_MS, signal);
    }
    const target = silence(count);
    for (let number = Math.floor(first / this.#samples); number * this.#samples < first + count; number++) {
      const response = await fetchBytes(this.#files[number]!, undefined, signal);
      const sound = await decode(await response.arrayBuffer(), this.#sampleRateHz);
      paste(sound, number * this.#samples, target, first);
    }
    return target;
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const text = await (await fetchBytes(this.#playlist, undefined, signal)).text();
    const folder = this.#playlist.slice(0, this.#playlist.lastIndexOf("/") + 1);
    this.#files = text.split("\n").filter((line) => line && !line.startsWith("#")).map((name) => folder + name);
    this.#samples = Math.round(parseFloat(/#EXTINF:([\d.]+)/.exec(text)?.[1] ?? "0") * this.#sampleRateHz);
    this.#readySamples = this.#files.length * this.#samples;
  }
}

/** A file in any format that the browser supports, decoded as a whole: the mix, while there are no stems. */
export class WholeFile implements Source {
  readonly name: string;
  readonly #path: string;
  readonly #sampleRateHz: number;
  #sound: Promise<Stereo> | undefined;

  constructor(name: string, path: string, sampleRateHz: number) {
    this.name = name;
    this.#path = path;
    this.#sampleRateHz = sampleRateHz;
  }

  async read(first: number, count: number): Promise<Stereo> {
    this.#sound ??= fetchBytes(this.#path)
      .then((response) => response.arrayBuffer())
      .then((data) => decode(data, this.#sampleRateHz));
    const target = silence(count);
    paste(await this.#sound, 0, target, first);
    return target;
  }
}

/** Waits, forever if `ms` is infinite, until it is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
