/** Uploads by tus 1.0 (https://tus.io/protocols/resumable-upload): no byte that has arrived is sent again. */

import { errorOf, noAnswer, renew, request } from "../api/client.ts";

const PATH = "/uploads";
const VERSION = { "Tus-Resumable": "1.0.0" };
const UNAUTHENTICATED = 401;
// A proxy may forward a request only after it has all of it, so a broken connection loses at most one piece.
const PIECE_BYTES = 4 * 1024 * 1024;

/** The bytes of an upload that the server has; with the last byte, its track. */
export interface Arrived {
  bytes: number;
  trackId: string | undefined;
}

/**
 * Creates an upload.
 *
 * @param metadata stored by the server.
 * @returns the upload's id.
 * @throws ApiError what it is refused with, a quota for instance.
 */
export async function create(file: File, metadata: Record<string, string>): Promise<string> {
  const pairs = Object.entries(metadata).map(([name, value]) => `${name} ${base64(value)}`);
  const headers = { ...VERSION, "Upload-Length": String(file.size), "Upload-Metadata": pairs.join(",") };
  const response = await request("POST", PATH, { headers });
  return response.headers.get("Location")!.split("/").at(-1)!;
}

/** The bytes that have arrived. @throws ApiError no such upload (status 404): it has expired, or was refused. */
export async function look(id: string): Promise<Arrived> {
  const { headers } = await request("HEAD", `${PATH}/${id}`, { headers: VERSION });
  return arrived((name) => headers.get(name));
}

/** Ends an upload; the bytes that have arrived are deleted. */
export async function end(id: string): Promise<void> {
  await request("DELETE", `${PATH}/${id}`, { headers: VERSION });
}

/**
 * Sends a file in pieces, from a byte to its end.
 *
 * @param progress called with the number of bytes that are sent or being sent.
 * @throws ApiError what it is refused with; status 0 if the connection breaks.
 * @throws DOMException it was aborted.
 */
export async function send(
  id: string,
  file: File,
  offset: number,
  progress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<Arrived> {
  let now: Arrived = { bytes: offset, trackId: undefined };
  while (!now.trackId) {
    const start = now.bytes;
    const piece = file.slice(start, start + PIECE_BYTES);
    const sendPiece = () => patch(id, piece, start, (sent) => progress(start + sent), signal);
    let answer = await sendPiece();
    if (answer.status === UNAUTHENTICATED && (await renew())) answer = await sendPiece();
    if (answer.status >= 300) throw errorOf(answer.status, answer.getResponseHeader("Retry-After"), answer.responseText);
    now = arrived((name) => answer.getResponseHeader(name));
  }
  return now;
}

/** One request; XMLHttpRequest, because fetch reports no progress of what it sends. */
function patch(id: string, piece: Blob, offset: number, progress: (sent: number) => void, signal: AbortSignal) {
  return new Promise<XMLHttpRequest>((resolve, reject) => {
    signal.throwIfAborted();
    const call = new XMLHttpRequest();
    call.open("PATCH", `/api/v1${PATH}/${id}`);
    const headers = { ...VERSION, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
    for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value);
    const abort = () => call.abort();
    signal.addEventListener("abort", abort);
    call.upload.onprogress = ({ loaded }) => progress(loaded);
    call.onload = () => resolve(call);
    call.onerror = () => reject(noAnswer());
    call.onabort = () => reject(signal.reason);
    call.onloadend = () => signal.removeEventListener("abort", abort);
    call.send(piece);
  });
}

function arrived(header: (name: string) => string | null): Arrived {
  return { bytes: Number(header("Upload-Offset")), trackId: header("Stemtube-Track-Id") ?? undefined };
}

/** UTF-8 in Base64. */
function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
