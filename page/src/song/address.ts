/** How a song is practised, kept in the page's address: it can be shared, and is there again after a reload. */

import { effect } from "@preact/signals";
import type { Player } from "../audio/player.ts";
import { parameters, remember } from "../router.ts";
import type { Practice } from "./practice.ts";

/** Takes over what the address says of the page, and of the player once there is one. */
export function readAddress(practice: Practice, player?: Player): void {
  const wanted = parameters();
  practice.capo.value = Number(wanted.get("capo") ?? 0) || 0;
  practice.simple.value = wanted.has("simple");
  practice.instrument.value = wanted.get("diagrams") === "piano" ? "piano" : "guitar";
  practice.model.value = wanted.get("model") ?? "";
  if (!player) return;
  player.setRate((Number(wanted.get("tempo")) || 100) / 100);
  player.setSemitones(Number(wanted.get("pitch")) || 0);
  const [start, end] = (wanted.get("loop") ?? "").split("-").map(Number);
  if (start !== undefined && end !== undefined && end <= player.duration) player.setLoop({ start, end });
  const names = (parameter: string) => new Set(wanted.get(parameter)?.split(","));
  for (const strip of player.strips) {
    strip.muted.value = names("mute").has(strip.name);
    strip.solo.value = names("solo").has(strip.name);
  }
  const place = Number(wanted.get("t"));
  if (place > 0) void player.seek(place);
}

/** Keeps the address up to date until the function that it gives is called. */
export function writeAddress(practice: Practice): () => void {
  return effect(() => {
    const player = practice.player.value;
    if (!player) return;
    const loop = player.loop.value;
    const names = (chosen: "muted" | "solo") =>
      player.strips.filter((strip) => strip[chosen].value).map(({ name }) => name).join(",");
    remember({
      capo: practice.capo.value ? String(practice.capo.value) : undefined,
      simple: practice.simple.value ? "1" : undefined,
      diagrams: practice.instrument.value === "piano" ? "piano" : undefined,
      model: practice.model.value || undefined,
      tempo: player.rate.value === 1 ? undefined : String(Math.round(player.rate.value * 100)),
      pitch: player.semitones.value ? String(player.semitones.value) : undefined,
      loop: loop ? `${loop.start.toFixed(3)}-${loop.end.toFixed(3)}` : undefined,
      mute: names("muted"),
      solo: names("solo"),
      t: player.playing.value ? undefined : place(player),
    });
  });
}

function place(player: Player): string | undefined {
  const seconds = player.position();
  return seconds > 0 ? seconds.toFixed(1) : undefined;
}
