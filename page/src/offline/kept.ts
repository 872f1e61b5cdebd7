/**
 * Songs that are kept on this device, in the browser's Cache Storage: the track, its stems or its audio, peaks and
 * picture, each under its own address, where the service worker finds them. They belong to one user and are deleted at
 * the sign-out. Only https pages (and those of this machine) can keep anything.
 */

import { signal } from "@preact/signals";
import { ApiError, request } from "../api/client.ts";
import type { Track } from "../api/types.ts";
import { tell } from "../parts/toasts.tsx";
import { SONGS } from "./names.ts";

export interface KeptSong {
  id: string;
  title: string;
  bytes: number;
}

/** Whether this page can keep songs. */
export const canKeep = "serviceWorker" in navigator && "caches" in window;
/** The songs that are stored completely, by their ids. */
export const kept = signal<ReadonlyMap<string, KeptSong>>(new Map());
/** The songs that are being fetched: the fraction that has arrived. */
export const fetching = signal<ReadonlyMap<string, number>>(new Map());

// The list of kept songs lies among them, under an address that the server does not have.
const INDEX = "/kept.json";
const ME = "/api/v1/me";
const running = new Map<string, { controller: AbortController; end: Promise<void> }>();
// Songs that have changed while they were being fetched.
const outdated = new Set<string>();

interface Index {
  userId: string;
  songs: KeptSong[];
}

const address = (id: string) => `/api/v1/tracks/${id}`;

function set<Value>(map: ReadonlyMap<string, Value>, id: string, value: Value | undefined): Map<string, Value> {
  const next = new Map(map);
  if (value === undefined) next.delete(id);
  else next.set(id, value);
  return next;
}

let owner = "";
let finding: Promise<void> = Promise.resolve();

/** Finds the kept songs of a user; those of another user are deleted. */
export function findKept(userId: string): Promise<void> {
  owner = userId;
  finding = canKeep ? find(userId) : finding;
  return finding;
}

async function find(userId: string): Promise<void> {
  const index = (await (await caches.match(INDEX, { cacheName: SONGS }))?.json()) as Index | undefined;
  if (index && index.userId !== userId) await dropAll();
  else kept.value = new Map((index?.songs ?? []).map((song) => [song.id, song]));
}

/** Removes all songs from this device. */
export async function dropAll(): Promise<void> {
  if (!canKeep) return;
  await Promise.all([...running.keys()].map(stop));
  await caches.delete(SONGS);
  kept.value = new Map();
}

/**
 * Keeps a song, or updates a kept one.
 *
 * @throws ApiError it cannot be fetched.
 * @throws DOMException it was dropped meanwhile.
 * @throws Error there is no room on this device.
 */
export async function keep(id: string): Promise<void> {
  if (running.has(id)) {
    outdated.add(id);
    return;
  }
  const controller = new AbortController();
  const end = fetchSong(id, controller.signal);
  running.set(id, { controller, end });
  try {
    await end;
  } finally {
    running.delete(id);
  }
  if (outdated.delete(id)) await keep(id);
}

/** Removes a song from this device, or stops fetching it. */
export async function drop(id: string): Promise<void> {
  // First, so that no update starts meanwhile.
  kept.value = set(kept.value, id, undefined);
  await stop(id);
  await remove(id);
}

/** Stops fetching a song, if it is being fetched. */
async function stop(id: string): Promise<void> {
  outdated.delete(id);
  running.get(id)?.controller.abort();
  await running.get(id)?.end.catch(() => undefined);
}

async function remove(id: string): Promise<void> {
  kept.value = set(kept.value, id, undefined);
  const cache = await caches.open(SONGS);
  const own = (await cache.keys()).filter(({ url }) => `${new URL(url).pathname}/`.startsWith(`${address(id)}/`));
  await Promise.all(own.map((each) => cache.delete(each)));
  await writeIndex(cache);
}

/** Updates all kept songs; deletes those that the library no longer has. */
export async function renewKept(): Promise<void> {
  for (const { id, title } of kept.value.values()) {
    if (!kept.value.has(id)) continue;
    try {
      await keep(id);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      await drop(id);
      tell(`“${title}” is no longer in the library, and no longer kept on this device.`);
    }
  }
}

/** The kept songs as the library has them. */
export async function keptTracks(): Promise<Track[]> {
  await finding;
  const answers = [...kept.value.keys()].map(async (id) => {
    const answer = await caches.match(address(id), { cacheName: SONGS });
    return answer && ((await answer.json()) as { track: Track }).track;
  });
  return (await Promise.all(answers)).filter((track) => track !== undefined);
}

async function writeIndex(cache: Cache): Promise<void> {
  const index: Index = { userId: owner, songs: [...kept.value.values()] };
  await cache.put(INDEX, Response.json(index));
}

async function fetchSong(id: string, signal: AbortSignal): Promise<void> {
  fetching.value = set(fetching.value, id, 0);
  try {
    // Once this is granted, the browser does not delete the songs when the disk is full.
    await navigator.storage.persist();
    const cache = await caches.open(SONGS);
    const song = await fetchAll(cache, id, signal);
    kept.value = set(kept.value, id, song);
    await writeIndex(cache);
  } catch (error) {
    if (!kept.value.has(id)) await remove(id);
    if (error instanceof DOMException && error.name === "QuotaExceededError") {
      throw new Error("There is no room on this device for this song. Remove another one, then try again.");
    }
    throw error;
  } finally {
    fetching.value = set(fetching.value, id, undefined);
  }
}

async function fetchAll(cache: Cache, id: string, signal: AbortSignal): Promise<KeptSong> {
  await renew(cache, ME, signal);
  await renew(cache, address(id), signal);
  const { track } = (await (await cache.match(address(id)))!.json()) as { track: Track };
  const media = mediaOf(track);
  let bytes = 0;
  for (const [done, path] of media.entries()) {
    fetching.value = set(fetching.value, id, done / media.length);
    bytes += await renew(cache, path, signal);
  }
  const own = (await cache.keys()).filter(({ url }) => new URL(url).pathname.startsWith(`${address(id)}/`));
  await Promise.all(own.filter(({ url }) => !media.includes(new URL(url).pathname)).map((each) => cache.delete(each)));
  return { id, title: track.title, bytes };
}

/** The files to play and show a song: its stems, or the mix as long as there are none. */
function mediaOf(track: Track): string[] {
  const sound = track.stems.length ? track.stems : [track];
  return [...new Set([track.peaks, track.cover, ...sound.flatMap(({ audio, peaks }) => [audio, peaks])])].filter(Boolean);
}

/** Keeps the newest version of a path; returns its size in bytes. */
async function renew(cache: Cache, path: string, signal: AbortSignal): Promise<number> {
  const known = await cache.match(path, { ignoreVary: true });
  const tag = known?.headers.get("ETag");
  const headers: Record<string, string> = tag ? { "If-None-Match": tag } : {};
  const answer = await request("GET", path.slice("/api/v1".length), { headers, cache: "no-store", signal });
  if (answer.status !== 304) await cache.put(path, answer.clone());
  return Number((answer.status === 304 ? known! : answer).headers.get("Content-Length"));
}
