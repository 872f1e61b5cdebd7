/** The exports of a song, from this server's OpenAPI document. */

import { call } from "../api/client.ts";
import type { Player } from "../audio/player.ts";

const TRACK = "/api/v1/tracks/{track_id}";
const EXPORTS = `${TRACK}/exports/{format}`;
const STEM = `${TRACK}/stems/{model}/{stem}`;

export interface Option {
  name: string;
  description: string;
  /** The possible values, the default first; none: any text. */
  choices: string[];
}

export interface Format {
  name: string;
  summary: string;
  options: Option[];
}

interface Operation {
  parameters?: { name: string; schema?: { enum?: string[] } }[];
  "x-formats"?: Format[];
}

interface Description {
  paths: Record<string, { get?: Operation }>;
}

export interface Offer {
  /** Of stems. */
  encodings: string[];
  /** Files for other programs. */
  formats: Format[];
}

/** Fetches the server's exports. */
export async function offer(): Promise<Offer> {
  const { paths } = await call<Description>("GET", "/openapi.json");
  const encodings = paths[STEM]?.get?.parameters?.find(({ name }) => name === "format")?.schema?.enum ?? [];
  return { encodings, formats: paths[EXPORTS]?.get?.["x-formats"] ?? [] };
}

/** The audible stems, each with its gain in dB and its pan, as options of a mixdown. */
export function presentMix(player: Player | undefined): string {
  const strips = player?.strips ?? [];
  const anySolo = strips.some(({ solo }) => solo.value);
  const heard = strips.filter(({ muted, solo, volume }) => !muted.value && (!anySolo || solo.value) && volume.value > 0);
  return heard.map(({ name, volume, pan }) => `${name}:${decibels(volume.value)}:${Number(pan.value.toFixed(2))}`).join();
}

// The lowest gain of a mixdown.
const LOWEST_DB = -60;

function decibels(volume: number): number {
  return Number(Math.max(20 * Math.log10(volume), LOWEST_DB).toFixed(1));
}
