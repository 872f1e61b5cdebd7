/** The filters and the order of the list of songs, which are kept in the page's address. */

import { signal } from "@preact/signals";
import { parameters, remember } from "../router.ts";

export interface Filters {
  query: string;
  keyTonic: string;
  keyMode: string;
  minBpm: number;
  maxBpm: number;
  favourites: boolean;
  deleted: boolean;
  playlistId: string;
  order: string;
}

export const NO_FILTERS: Filters = {
  query: "",
  keyTonic: "",
  keyMode: "",
  minBpm: 0,
  maxBpm: 0,
  favourites: false,
  deleted: false,
  playlistId: "",
  order: "",
};

/** Their names in the address. */
const NAMES: Record<keyof Filters, string> = {
  query: "find",
  keyTonic: "key",
  keyMode: "mode",
  minBpm: "from",
  maxBpm: "to",
  favourites: "favourites",
  deleted: "deleted",
  playlistId: "playlist",
  order: "by",
};
const ORDER = "TRACK_ORDER_";

export const filters = signal<Filters>(NO_FILTERS);

/** Changes some of the filters, and the address with them. */
export function narrow(change: Partial<Filters>): void {
  filters.value = { ...filters.value, ...change };
  const { favourites, deleted, order, ...texts } = filters.value;
  remember({
    ...Object.fromEntries(Object.entries(texts).map(([name, value]) => [NAMES[name as keyof Filters], String(value || "")])),
    [NAMES.favourites]: favourites ? "1" : "",
    [NAMES.deleted]: deleted ? "1" : "",
    [NAMES.order]: order.slice(ORDER.length).toLowerCase(),
  });
}

/** Reads the filters from the address. */
export function readFilters(): void {
  const given = parameters();
  const text = (name: keyof Filters) => given.get(NAMES[name]) ?? "";
  const bpm = (name: keyof Filters) => Math.max(Number(text(name)) || 0, 0);
  filters.value = {
    query: text("query"),
    keyTonic: text("keyTonic"),
    keyMode: text("keyMode"),
    minBpm: bpm("minBpm"),
    maxBpm: bpm("maxBpm"),
    favourites: text("favourites") !== "",
    deleted: text("deleted") !== "",
    playlistId: text("playlistId"),
    order: text("order") && ORDER + text("order").toUpperCase(),
  };
}

/** Whether only a playlist, in its own order, is chosen: then the list can be rearranged. */
export function isWholePlaylist(): boolean {
  return Object.entries(filters.value).every(([name, value]) => (name === "playlistId" ? value : !value));
}

/** Whether all songs are shown. */
export function isUnfiltered(): boolean {
  return Object.entries(filters.value).every(([name, value]) => name === "order" || !value);
}
