/** Saves files that the page fetches itself, so that it can show progress and errors. */

import { fetchBytes } from "../api/client.ts";

// Long enough for a browser that asks where to put the file.
const KEPT_MS = 120_000;

/**
 * Fetches a file and makes the browser save it.
 *
 * @param onProgress called repeatedly with the fraction of the file that has arrived.
 * @throws ApiError it cannot be fetched.
 */
export async function saveFile(path: string, onProgress: (share: number) => void, signal: AbortSignal): Promise<void> {
  const response = await fetchBytes(path, undefined, signal);
  const total = Number(response.headers.get("Content-Length"));
  let received = 0;
  const counter = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(piece, controller) {
      received += piece.length;
      if (total) onProgress(received / total);
      controller.enqueue(piece);
    },
  });
  const type = { headers: { "Content-Type": response.headers.get("Content-Type") ?? "" } };
  const file = await new Response(response.body!.pipeThrough(counter), type).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = fileName(response.headers.get("Content-Disposition") ?? "") || "song";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
}

/** The name in a Content-Disposition (RFC 5987); empty if there is none. */
export function fileName(disposition: string): string {
  const encoded = /filename\*=UTF-8''([^;]*)/.exec(disposition)?.[1];
  return encoded ? decodeURIComponent(encoded) : (/filename="([^"]*)"/.exec(disposition)?.[1] ?? "");
}
