/**
 * Cuts FLAC into pieces: browsers can decode any sequence of whole frames after a header.
 *
 * Format: RFC 9639. Only the files that StemTube makes are read: one block size, a STREAMINFO block first.
 */

const STREAM_INFO_END = 42; // "fLaC", a block header of 4 bytes, STREAMINFO of 34
const SHORTEST_HEADER = 6;
const LONGEST_HEADER = 16;

export interface StreamInfo {
  sampleRateHz: number;
  channels: number;
  totalSamples: number;
  /** Samples of every frame but the last. */
  blockSize: number;
  /** Where the first frame begins, in bytes. */
  audioStart: number;
  /** "fLaC" and STREAMINFO as they are in the file. */
  header: Uint8Array;
}

export interface Frame {
  /** In bytes, from the beginning of the searched bytes. */
  offset: number;
  /** Its first sample, counted from the song's beginning. */
  sample: number;
  samples: number;
}

/**
 * Reads the header of a file.
 *
 * @returns undefined if the metadata are longer than `bytes`.
 * @throws Error if it is not such a file.
 */
export function readStreamInfo(bytes: Uint8Array): StreamInfo | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < STREAM_INFO_END || view.getUint32(0) !== 0x664c6143 || (bytes[4]! & 0x7f) !== 0) {
    throw new Error("not a FLAC file");
  }
  let audioStart = 4;
  for (let isLast = false; !isLast; ) {
    if (audioStart + 4 > bytes.length) return undefined;
    const head = view.getUint32(audioStart);
    isLast = head >>> 31 === 1;
    audioStart += 4 + (head & 0xffffff);
  }
  const packed = view.getUint32(18);
  return {
    sampleRateHz: packed >>> 12,
    channels: ((packed >>> 9) & 7) + 1,
    totalSamples: (bytes[21]! & 0x0f) * 2 ** 32 + view.getUint32(22),
    blockSize: view.getUint16(10),
    audioStart,
    header: bytes.slice(0, STREAM_INFO_END),
  };
}

/**
 * The frames in a piece of a file, in order and without gaps, from the first that is followed directly by another one.
 *
 * The last one may be cut off at its end, unless the file ends there.
 */
export function findFrames(bytes: Uint8Array, info: StreamInfo): Frame[] {
  const candidates: Frame[] = [];
  for (let at = bytes.indexOf(0xff); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
    const frame = readFrameHeader(bytes, at, info);
    if (frame) candidates.push(frame);
  }
  for (let first = 0; first < candidates.length; first++) {
    const frames = chain(candidates, first);
    const reachesEnd = frames.at(-1)!.sample + frames.at(-1)!.samples === info.totalSamples;
    if (frames.length > 1 || reachesEnd) return frames;
  }
  return [];
}

/** The frames that follow a candidate without a gap: bytes that look like a frame by chance do not fit in. */
function chain(candidates: Frame[], first: number): Frame[] {
  const frames = [candidates[first]!];
  for (const candidate of candidates.slice(first + 1)) {
    const last = frames.at(-1)!;
    if (candidate.sample === last.sample + last.samples) frames.push(candidate);
  }
  return frames;
}

function readFrameHeader(bytes: Uint8Array, at: number, info: StreamInfo): Frame | undefined {
  if (at + SHORTEST_HEADER > bytes.length || bytes[at + 1] !== 0xf8 || (bytes[at + 3]! & 1) === 1) return undefined;
  const sizeCode = bytes[at + 2]! >>> 4;
  const rateCode = bytes[at + 2]! & 0x0f;
  const channelCode = bytes[at + 3]! >>> 4;
  const channels = channelCode < 8 ? channelCode + 1 : 2;
  if (sizeCode === 0 || rateCode === 15 || channelCode > 10 || channels !== info.channels) return undefined;

  const number = readNumber(bytes, at + 4);
  if (!number) return undefined;
  let end = number.end;
  let samples = sizeCode === 1 ? 192 : sizeCode < 6 ? 576 << (sizeCode - 2) : 256 << (sizeCode - 8);
  if (sizeCode === 6) samples = bytes[end++]! + 1;
  if (sizeCode === 7) samples = (bytes[end++]! << 8) + bytes[end++]! + 1;
  end += rateCode === 12 ? 1 : rateCode >= 13 ? 2 : 0;
  if (end >= bytes.length || end - at > LONGEST_HEADER || crc8(bytes, at, end) !== bytes[end]) return undefined;
  return { offset: at, sample: number.value * info.blockSize, samples };
}

/** A number in the variable-length coding of UTF-8. */
function readNumber(bytes: Uint8Array, at: number): { value: number; end: number } | undefined {
  const first = bytes[at]!;
  const ones = Math.clz32(~(first << 24));
  if (ones === 1 || ones > 6 || at + Math.max(ones, 1) > bytes.length) return undefined;
  let value = ones === 0 ? first : first & (0x7f >>> ones);
  for (let index = 1; index < ones; index++) {
    const byte = bytes[at + index]!;
    if (byte >>> 6 !== 2) return undefined;
    value = value * 64 + (byte & 0x3f);
  }
  return { value, end: at + Math.max(ones, 1) };
}

function crc8(bytes: Uint8Array, start: number, end: number): number {
  let crc = 0;
  for (let at = start; at < end; at++) {
    crc ^= bytes[at]!;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

/** A file with only these frames. */
export function pieceOf(info: StreamInfo, frames: Uint8Array, samples: number): ArrayBuffer {
  const piece = new Uint8Array(STREAM_INFO_END + frames.length);
  piece.set(info.header);
  piece[4] = 0x80; // the only block of metadata
  const view = new DataView(piece.buffer);
  view.setUint8(21, (piece[21]! & 0xf0) | Math.floor(samples / 2 ** 32));
  view.setUint32(22, samples >>> 0);
  piece.fill(0, 26, STREAM_INFO_END); // no checksum of the samples
  piece.set(frames, STREAM_INFO_END);
  return piece.buffer;
}
