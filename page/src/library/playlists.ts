/** The user's playlists: songs in a chosen order. */

import { signal } from "@preact/signals";
import { ApiError, call } from "../api/client.ts";
import { MAX_PAGE } from "../api/contract.ts";
import type { Playlist, Track } from "../api/types.ts";
import { tell } from "../parts/toasts.tsx";
import { filters, narrow } from "./filters.ts";
import { load, tracks } from "./state.ts";

export const playlists = signal<Playlist[]>([]);

export async function loadPlaylists(): Promise<void> {
  playlists.value = (await call<{ playlists: Playlist[] }>("GET", `/playlists?pageSize=${MAX_PAGE}`)).playlists;
}

async function get(id: string): Promise<Playlist> {
  return (await call<{ playlist: Playlist }>("GET", `/playlists/${id}`)).playlist;
}

/** Creates a playlist; returns its id. */
export async function createPlaylist(name: string): Promise<string> {
  const { playlist } = await call<{ playlist: Playlist }>("POST", "/playlists", { name });
  await loadPlaylists();
  return playlist.id;
}

export async function renamePlaylist(playlist: Playlist, name: string): Promise<void> {
  await call("PATCH", `/playlists/${playlist.id}`, { name });
  await loadPlaylists();
}

export async function addToPlaylist(playlist: Playlist, track: Track): Promise<void> {
  await call("POST", `/playlists/${playlist.id}/tracks`, { trackIds: [track.id] });
  await loadPlaylists();
  tell(`“${track.title}” is in ${playlist.name}.`);
}

/** Deletes a playlist, but not its songs, and offers to create it again. */
export async function removePlaylist(playlist: Playlist): Promise<void> {
  const { name, notes, trackIds } = await get(playlist.id);
  await call("DELETE", `/playlists/${playlist.id}`);
  if (filters.value.playlistId === playlist.id) narrow({ playlistId: "" });
  await loadPlaylists();
  const undo = () => call("POST", "/playlists", { name, notes, trackIds }).then(loadPlaylists);
  tell(`The playlist ${name} is deleted; its songs are not.`, { label: "Undo", run: undo });
}

/** Removes a song from a playlist, and offers to undo that. */
export async function takeOut(playlistId: string, track: Track): Promise<void> {
  let before: string[] = [];
  await rearrange(playlistId, (ids) => {
    before = ids;
    return ids.filter((id) => id !== track.id);
  });
  const undo = () => rearrange(playlistId, () => before);
  tell(`“${track.title}” is no longer in this playlist.`, { label: "Undo", run: undo });
}

/** Moves a song of a playlist to the place of another one; the page shows it at once. */
export async function move(playlistId: string, id: string, to: string): Promise<void> {
  const shown = tracks.value ?? [];
  const order = moved(shown.map((track) => track.id), id, to);
  tracks.value = order.map((each) => shown.find((track) => track.id === each)!);
  await rearrange(playlistId, (ids) => moved(ids, id, to));
}

/** The ids after moving one to the place of another. */
export function moved(ids: string[], id: string, to: string): string[] {
  const [from, place] = [ids.indexOf(id), ids.indexOf(to)];
  if (from < 0 || place < 0) return ids;
  return ids.toSpliced(from, 1).toSpliced(place, 0, id);
}

let lastChange: Promise<unknown> = Promise.resolve();
let changesUnderWay = 0;

/** Changes the order of a playlist after earlier changes: each starts with the result of the previous one. */
function rearrange(playlistId: string, change: (trackIds: string[]) => string[]): Promise<void> {
  changesUnderWay += 1;
  const turn = lastChange.then(() => rearrangeNow(playlistId, change));
  lastChange = turn.catch(() => undefined);
  return turn;
}

async function rearrangeNow(playlistId: string, change: (trackIds: string[]) => string[]): Promise<void> {
  const { revision, trackIds } = await get(playlistId);
  try {
    await call("PATCH", `/playlists/${playlistId}`, { tracks: { trackIds: change(trackIds) }, revision });
  } catch (error) {
    if (!(error instanceof ApiError) || error.reason !== "REVISION_CHANGED") throw error;
    throw new Error("This playlist was changed elsewhere at the same time. It is now up to date; try again.");
  } finally {
    changesUnderWay -= 1;
    // Until the last change has ended, the server's order is older than the one on the page.
    await Promise.all([changesUnderWay ? undefined : load(), loadPlaylists()]);
  }
}
