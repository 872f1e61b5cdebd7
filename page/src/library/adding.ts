/** Files on their way to the library, a few at a time. */

import { signal } from "@preact/signals";
import { ApiError } from "../api/client.ts";
import { fail } from "../parts/toasts.tsx";
import { chosenOptions } from "./AddOptions.tsx";
import { addFile } from "./state.ts";

// More would only share the same line, and the server decodes each one whole.
const AT_A_TIME = 2;
const SONG_NAME = /\.(mp3|flac|wav|m4a|aac|ogg|oga|opus|wma|aiff?|mp4|mkv|webm|mov|avi)$/i;

/** Names of files that wait or are being sent. */
export const sending = signal<string[]>([]);

const waiting: { file: File; many: boolean }[] = [];
let busy = 0;

/** Sends files that may be songs; of a folder, its pictures and texts are left out. */
export function addFiles(files: File[]): void {
  const songs = files.filter(({ type, name }) => /^(audio|video)\//.test(type) || SONG_NAME.test(name));
  if (files.length && !songs.length) fail("There is no song among these files.");
  waiting.push(...songs.map((file) => ({ file, many: songs.length > 1 })));
  sending.value = [...sending.value, ...songs.map(({ name }) => name)];
  while (busy < AT_A_TIME && waiting.length) void sendNext();
}

async function sendNext(): Promise<void> {
  busy += 1;
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const { file, many } = next;
    try {
      await addFile(file, chosenOptions(many));
    } catch (error) {
      fail(error instanceof ApiError ? `${file.name}: ${error.message}` : error);
    }
    const index = sending.value.indexOf(file.name);
    sending.value = sending.value.toSpliced(index, 1);
  }
  busy -= 1;
}

/** The files that were dropped, those in dropped folders included. */
export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  return (await Promise.all(entries.map(filesOf))).flat();
}

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const files: File[] = [];
  // A reader gives up to a hundred entries at a time.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return files;
    files.push(...(await Promise.all(entries.map(filesOf))).flat());
  }
}
