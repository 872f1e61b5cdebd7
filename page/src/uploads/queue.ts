/** Uploads to the library, a few at a time, which survive broken connections and reloads of the page. */

import { signal } from "@preact/signals";
import { ApiError, user } from "../api/client.ts";
import { newId } from "../api/ids.ts";
import { chosenOptions } from "../library/AddOptions.tsx";
import { showTrack } from "../library/state.ts";
import { fail } from "../parts/toasts.tsx";
import * as storedFiles from "./storedFiles.ts";
import * as tus from "./tus.ts";

// More would only share the same connection, and the server decodes each file completely.
const AT_A_TIME = 2;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
const SONG_NAME = /\.(mp3|flac|wav|m4a|aac|ogg|oga|opus|wma|aiff?|mp4|mkv|webm|mov|avi)$/i;

/** `later`: the connection is broken, or the server asks to wait; it is retried automatically. */
export type UploadState = "waiting" | "sending" | "checking" | "later" | "paused" | "failed";

export interface Upload {
  readonly id: string;
  readonly name: string;
  readonly size: number;
  state: UploadState;
  /** Bytes that are sent or being sent. */
  sent: number;
  /** Why it failed, or has to wait. */
  message: string;
}

interface Work {
  kept: storedFiles.Kept;
  stop: AbortController;
}

/** All unfinished uploads, in their order. */
export const uploads = signal<readonly Upload[]>([]);

const works = new Map<string, Work>();
const running = new Set<string>();

/** Sends files that may be songs; pictures and texts in a folder are skipped. */
export async function addFiles(files: File[]): Promise<void> {
  const songs = files.filter(({ type, name }) => /^(audio|video)\//.test(type) || SONG_NAME.test(name));
  if (files.length && !songs.length) fail("There is no song among these files.");
  const wanted = chosenOptions(songs.length > 1);
  const options = wanted ? JSON.stringify(wanted) : "";
  const createTime = Date.now();
  for (const file of songs) {
    const kept = { id: newId(), userId: user.value!.id, file, options, uploadId: "", createTime };
    enqueue(kept);
    // If the browser cannot store it, the upload only does not survive a reload.
    await storedFiles.keep(kept).catch(() => undefined);
  }
}

/** Continues uploads that earlier pages began; uploads of other users end. */
export async function resumeUploads(userId: string): Promise<void> {
  for (const { kept, stop } of works.values()) {
    if (kept.userId === userId) continue;
    stop.abort();
    forget(kept.id);
  }
  for (const { id } of await storedFiles.keptOf(userId).catch(() => [])) void takeOver(id);
}

/** Continues an upload once no other page sends it, unless it has ended by then. */
async function takeOver(id: string): Promise<void> {
  // After a reload, the old page may hold its locks for a moment.
  await navigator.locks?.request(lockOf(id), () => undefined);
  const kept = await storedFiles.find(id).catch(() => undefined);
  if (kept && !works.has(id)) enqueue(kept);
}

function enqueue(kept: storedFiles.Kept): void {
  works.set(kept.id, { kept, stop: new AbortController() });
  const { id, file } = kept;
  uploads.value = [...uploads.value, { id, name: file.name, size: file.size, state: "waiting", sent: 0, message: "" }];
  startNext();
}

export function pause(id: string): void {
  set(id, { state: "paused", message: "" });
  works.get(id)?.stop.abort();
}

/** Continues an upload that is paused, has failed, or waits for its next attempt. */
export function resume(id: string): void {
  const work = works.get(id);
  if (!work) return;
  work.stop.abort();
  work.stop = new AbortController();
  set(id, { state: "waiting", message: "" });
  startNext();
}

/** Cancels an upload; the bytes that have arrived are deleted. */
export function cancel(id: string): void {
  const work = works.get(id);
  work?.stop.abort();
  forget(id);
  // If the server is unreachable, the upload expires there by itself.
  if (work?.kept.uploadId) tus.end(work.kept.uploadId).catch(() => undefined);
}

function forget(id: string): void {
  works.delete(id);
  uploads.value = uploads.value.filter((upload) => upload.id !== id);
  storedFiles.drop(id).catch(() => undefined);
}

function set(id: string, change: Partial<Upload>): void {
  uploads.value = uploads.value.map((upload) => (upload.id === id ? { ...upload, ...change } : upload));
}

function startNext(): void {
  while (running.size < AT_A_TIME) {
    const next = uploads.value.find(({ id, state }) => state === "waiting" && !running.has(id));
    if (!next) return;
    running.add(next.id);
    void run(works.get(next.id)!).finally(() => {
      running.delete(next.id);
      startNext();
    });
  }
}

/** Holds the upload's name among all pages of this browser while it is sent. */
async function run(work: Work): Promise<void> {
  if (!navigator.locks) return sendThrough(work); // pages without https have none
  await navigator.locks.request(lockOf(work.kept.id), () => sendThrough(work));
}

const lockOf = (id: string) => `upload ${id}`;

async function sendThrough(work: Work): Promise<void> {
  const { kept, stop } = work;
  for (let wait = FIRST_WAIT_MS; !stop.signal.aborted; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    const before = sentOf(kept.id);
    try {
      const trackId = await send(kept, stop.signal);
      forget(kept.id);
      return void showTrack(trackId).catch(fail);
    } catch (error) {
      if (stop.signal.aborted) return;
      if (!isPassing(error)) return refuse(kept, error);
      set(kept.id, { state: "later", message: (error as Error).message });
      if (sentOf(kept.id) > before) wait = FIRST_WAIT_MS;
      await quietTime(Math.max(wait, 1000 * (error as ApiError).retrySeconds), stop.signal);
    }
  }
}

/** Sends the bytes that have not arrived yet; returns the track's id. */
async function send(kept: storedFiles.Kept, signal: AbortSignal): Promise<string> {
  set(kept.id, { state: "sending", message: "" });
  let arrived = kept.uploadId ? await look(kept) : undefined;
  if (!arrived) {
    const { file, options } = kept;
    kept.uploadId = await tus.create(file, { filename: file.name, ...(options && { options }) });
    if (signal.aborted) void tus.end(kept.uploadId).catch(() => undefined);
    signal.throwIfAborted();
    await storedFiles.keep(kept).catch(() => undefined);
    arrived = { bytes: 0, trackId: undefined };
  }
  set(kept.id, { sent: arrived.bytes });
  const progress = (sent: number) => set(kept.id, { sent, state: sent < kept.file.size ? "sending" : "checking" });
  arrived = arrived.trackId ? arrived : await tus.send(kept.uploadId, kept.file, arrived.bytes, progress, signal);
  return arrived.trackId!;
}

/** The bytes that have arrived; undefined if the server no longer knows the upload. */
async function look(kept: storedFiles.Kept): Promise<tus.Arrived | undefined> {
  try {
    return await tus.look(kept.uploadId);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}

/** The server refuses the file: it stays in the list with the reason, and a reload does not send it again. */
function refuse(kept: storedFiles.Kept, error: unknown): void {
  set(kept.id, { state: "failed", message: error instanceof Error ? error.message : String(error) });
  kept.uploadId = "";
  storedFiles.drop(kept.id).catch(() => undefined);
}

/** Whether a later attempt may succeed: no answer, no sign-in, another page is sending it, or too many uploads. */
function isPassing(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  const tooMany = error.status === 429 && error.reason.startsWith("TOO_MANY");
  return [0, 401, 409].includes(error.status) || error.status >= 499 || tooMany;
}

function sentOf(id: string): number {
  return uploads.value.find((upload) => upload.id === id)?.sent ?? 0;
}

/** Returns after a while, when the browser is connected again, or when it is aborted. */
function quietTime(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    window.addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}
