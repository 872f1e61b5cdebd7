/** Waveform peaks in the binary format of BBC audiowaveform (version 2, 8 bit, one channel), and how they are drawn. */

import { fetchBytes } from "../api/client.ts";

const HEADER_BYTES = 24;

export interface Peaks {
  /** Minimum and maximum of each pixel in turn, full scale at 127. */
  pairs: Int8Array;
  pixelsPerSecond: number;
}

/** @throws Error if it is not such a file. */
export function readPeaks(data: ArrayBuffer): Peaks {
  const view = new DataView(data);
  if (data.byteLength < HEADER_BYTES || view.getInt32(0, true) !== 2 || view.getUint32(4, true) !== 1) {
    throw new Error("not a file of waveform peaks");
  }
  const pixelsPerSecond = view.getInt32(8, true) / view.getInt32(12, true);
  return { pairs: new Int8Array(data, HEADER_BYTES, 2 * view.getUint32(16, true)), pixelsPerSecond };
}

export async function fetchPeaks(path: string, signal: AbortSignal): Promise<Peaks> {
  return readPeaks(await (await fetchBytes(path, undefined, signal)).arrayBuffer());
}

/** The peak in each of `columns` equal intervals of a song, from 0 to 1. */
export function envelope(peaks: Peaks, duration: number, columns: number): Float32Array {
  const heights = new Float32Array(columns);
  const pixels = duration * peaks.pixelsPerSecond;
  for (let column = 0; column < columns; column++) {
    const from = Math.floor((column / columns) * pixels);
    const to = Math.max(Math.ceil(((column + 1) / columns) * pixels), from + 1);
    for (let at = 2 * from; at < Math.min(2 * to, peaks.pairs.length); at++) {
      heights[column] = Math.max(heights[column]!, Math.abs(peaks.pairs[at]!) / 127);
    }
  }
  return heights;
}

/** Draws a waveform over a whole canvas in the text colour of its style. */
export function drawWave(canvas: HTMLCanvasElement, peaks: Peaks, duration: number): void {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(Math.round(canvas.clientWidth * scale), 1);
  canvas.height = Math.max(Math.round(canvas.clientHeight * scale), 1);
  const context = canvas.getContext("2d")!;
  context.fillStyle = getComputedStyle(canvas).color;
  const middle = canvas.height / 2;
  envelope(peaks, duration, canvas.width).forEach((height, x) => {
    const half = Math.max(height * middle, scale / 2);
    context.fillRect(x, middle - half, 1, 2 * half);
  });
}
