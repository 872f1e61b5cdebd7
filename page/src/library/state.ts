/** The displayed library: a list that the server filters and sorts, and the jobs of its songs. */

import { batch, signal } from "@preact/signals";
import { call, isOffline, query } from "../api/client.ts";
import { MAX_PAGE } from "../api/contract.ts";
import type { Listener } from "../api/events.ts";
import { newId } from "../api/ids.ts";
import type { ProcessingOptions, Track, TrackJob } from "../api/types.ts";
import { keep, kept, keptTracks, renewKept } from "../offline/kept.ts";
import { fail, tell } from "../parts/toasts.tsx";
import { filters } from "./filters.ts";

const PAGE_SIZE = 100;
const CHANGE_MS = 150;

export const tracks = signal<Track[] | undefined>(undefined);
export const nextPage = signal("");
/** The newest job of each track, by the track's id. */
export const jobs = signal<ReadonlyMap<string, TrackJob>>(new Map());
/** Whether the list has the songs of this device because the server does not answer. */
export const offline = signal(false);
/** Called with the id of a track that has a new part, and the part. */
export const trackChanges = new Set<(trackId: string, part: string) => void>();

let asked = 0;

/** Requests the list from its beginning. */
export async function load(): Promise<void> {
  const turn = ++asked;
  const answer = await page("").catch(keptInstead);
  if (turn !== asked) return;
  batch(() => {
    tracks.value = answer.tracks;
    nextPage.value = answer.nextPageToken;
    offline.value = "offline" in answer;
  });
}

/** Shows the songs on this device while the server does not answer. */
async function keptInstead(error: unknown) {
  if (!isOffline(error)) throw error;
  const songs = await keptTracks();
  if (!songs.length) throw error;
  const words = filters.value.query.toLowerCase();
  const fitting = songs.filter(({ title, artist }) => `${title} ${artist}`.toLowerCase().includes(words));
  return { tracks: fitting, nextPageToken: "", offline: true };
}

/** Forgets everything, because another user may sign in. */
export function clear(): void {
  asked += 1;
  batch(() => {
    tracks.value = undefined;
    jobs.value = new Map();
  });
}

/** Adds the next page to the list. */
export async function loadMore(): Promise<void> {
  const turn = asked;
  const answer = await page(nextPage.value);
  if (turn !== asked) return;
  const known = new Set(tracks.value?.map(({ id }) => id));
  batch(() => {
    tracks.value = [...(tracks.value ?? []), ...answer.tracks.filter(({ id }) => !known.has(id))];
    nextPage.value = answer.nextPageToken;
  });
}

function page(pageToken: string): Promise<{ tracks: Track[]; nextPageToken: string }> {
  return call("GET", "/tracks" + query({ ...filters.value, pageSize: PAGE_SIZE, pageToken }));
}

/** Keeps the newest job of a track, by time of creation. */
function keepJob(job: TrackJob): void {
  const known = jobs.value.get(job.trackId);
  if (known && known.job.id !== job.job.id && (known.job.createTime ?? "") > (job.job.createTime ?? "")) return;
  jobs.value = new Map(jobs.value).set(job.trackId, job);
}

const changed = new Set<string>();
let reloading: number | undefined;

/** Fetches changes, several at a time: a song in progress has many within a second. */
function reloadSoon(id: string): void {
  changed.add(id);
  reloading ??= window.setTimeout(() => {
    reloading = undefined;
    for (const id of changed) reloadTrack(id).catch(fail);
    changed.clear();
  }, CHANGE_MS);
}

async function reloadTrack(id: string): Promise<void> {
  if (tracks.value?.some((track) => track.id === id)) {
    replace((await call<{ track: Track }>("GET", `/tracks/${id}`)).track);
  }
  if (kept.value.has(id)) await keep(id);
}

function replace(track: Track): void {
  tracks.value = tracks.value?.map((other) => (other.id === track.id ? track : other));
}

export const listener: Listener = {
  job: keepJob,
  changed(trackId, part) {
    reloadSoon(trackId);
    for (const tellChange of trackChanges) tellChange(trackId, part);
  },
  caughtUp() {
    load().catch(fail);
    findFailed().catch(fail);
    renewKept().catch(fail);
    for (const { id } of tracks.value ?? []) for (const tellChange of trackChanges) tellChange(id, "");
  },
};

/** The stream has no ended jobs, but failed ones are shown until they are retried. */
async function findFailed(): Promise<void> {
  const answer = await call<{ jobs: TrackJob[] }>("GET", `/jobs?pageSize=${MAX_PAGE}`);
  batch(() => answer.jobs.toReversed().forEach(keepJob));
}

/** Shows a track that was just added, at the head of the list. */
function added({ track, job }: { track: Track; job?: TrackJob }): void {
  batch(() => {
    tracks.value = [track, ...(tracks.value ?? []).filter(({ id }) => id !== track.id)];
    if (job) keepJob(job);
  });
}

export async function addLink(url: string, options?: ProcessingOptions): Promise<void> {
  added(await call("POST", "/tracks", { url, requestId: newId(), ...(options && { options }) }));
}

/** Shows a track that was added in another way, for instance by an upload. */
export async function showTrack(id: string): Promise<void> {
  const { track } = await call<{ track: Track }>("GET", `/tracks/${id}`);
  added({ track });
  const { offeredTitle: title, offeredArtist: artist } = track;
  if (title) {
    tell(`“${track.title}” is here already. The file calls it “${title}”${artist && ` by ${artist}`}.`, {
      label: "Use these names",
      run: () => update(track, { title, artist }),
    });
  }
}

export function cancel(job: TrackJob): Promise<unknown> {
  return call("POST", `/jobs/${job.job.id}/cancel`);
}

/** Retries a job's failed parts with the same options; a link that could not be fetched is fetched again. */
export async function retry(track: Track, failed: TrackJob): Promise<void> {
  const { job } = await call<{ job: TrackJob }>("POST", `/jobs/${failed.job.id}/retry`, { requestId: newId() });
  keepJob(job);
  if (job.trackId === track.id) return;
  // A link that was never fetched has no track, so this is a new one.
  tracks.value = tracks.value?.filter(({ id }) => id !== track.id);
  await showTrack(job.trackId);
}

/** Makes a track's stems again with the best model that is available now; its other parts stay. */
export async function separateAgain(track: Track): Promise<void> {
  const body = { requestId: newId(), options: { separations: [{}] } };
  keepJob((await call<{ job: TrackJob }>("POST", `/tracks/${track.id}/process`, body)).job);
}

export async function update(track: Track, change: Partial<Pick<Track, "title" | "artist" | "favourite" | "notes">>): Promise<void> {
  const answer = await call<{ track: Track }>("PATCH", `/tracks/${track.id}`, change);
  replace(answer.track);
}

/** Deletes a track and offers to undo that. */
export async function remove(track: Track): Promise<void> {
  await call("DELETE", `/tracks/${track.id}`);
  tracks.value = tracks.value?.filter(({ id }) => id !== track.id);
  const hasAudio = track.durationSeconds > 0;
  tell(`“${track.title}” is deleted.`, hasAudio ? { label: "Undo", run: () => restore(track) } : undefined);
}

export async function restore(track: Track): Promise<void> {
  await call("POST", `/tracks/${track.id}/restore`);
  await load();
}
