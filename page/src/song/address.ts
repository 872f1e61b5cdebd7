/** The practice settings of a song, kept in the page's address: it can be shared, and survives a reload. */

import { effect, type Signal } from "@preact/signals";
import type { Player } from "../audio/player.ts";
import type { Strip } from "../audio/strip.ts";
import { SNAPS } from "../music/snap.ts";
import { parameters, remember } from "../router.ts";
import type { Practice } from "./practice.ts";

/** Applies the settings in the address to the page, and to the player if there is one. */
export function readAddress(practice: Practice, player?: Player): void {
  const wanted = parameters();
  practice.capo.value = Number(wanted.get("capo") ?? 0) || 0;
  practice.simple.value = wanted.has("simple");
  practice.instrument.value = wanted.get("diagrams") === "piano" ? "piano" : "guitar";
  practice.model.value = wanted.get("model") ?? "";
  practice.words.value = wanted.get("words") === "book" ? "book" : "karaoke";
  practice.snapTo.value = SNAPS.find((snap) => snap === wanted.get("snap")) ?? "beat";
  practice.stand.value = wanted.has("stand");
  if (!player) return;
  player.setRate((Number(wanted.get("tempo")) || 100) / 100);
  player.setSemitones(Number(wanted.get("pitch")) || 0);
  player.countIn.value = Math.min(Math.max(Math.round(Number(wanted.get("count"))) || 0, 0), 2);
  const pace = Number(wanted.get("clicks"));
  player.clicks.on.value = pace > 0;
  if (pace > 0) player.clicks.pace.value = pace;
  const [start, end] = (wanted.get("loop") ?? "").split("-").map(Number);
  if (start !== undefined && end !== undefined && end <= player.duration) player.setLoop({ start, end });
  const names = (parameter: string) => new Set(wanted.get(parameter)?.split(","));
  for (const strip of player.strips) {
    strip.muted.value = names("mute").has(strip.name);
    strip.solo.value = names("solo").has(strip.name);
    readNumber(wanted.get("volume"), strip, strip.volume, 0, 1.5);
    readNumber(wanted.get("pan"), strip, strip.pan, -1, 1);
  }
  void player.seek(Number(wanted.get("t")) || player.position());
}

/** Reads a strip's number from a list such as "vocals:0.5,drums:1.2". */
function readNumber(list: string | null, strip: Strip, target: Signal<number>, lowest: number, highest: number): void {
  const number = list?.split(",").find((item) => item.startsWith(`${strip.name}:`))?.slice(strip.name.length + 1);
  const value = Number(number || NaN);
  if (!Number.isNaN(value)) target.value = Math.min(Math.max(value, lowest), highest);
}

// Browsers refuse an address that changes with every step of a slider (Safari: 100 times in 30 s).
const WRITE_MS = 300;

/** Keeps the address up to date until the returned function is called. */
export function writeAddress(practice: Practice): () => void {
  let timer = 0;
  const stop = effect(() => {
    const values = valuesOf(practice);
    clearTimeout(timer);
    if (values) timer = window.setTimeout(() => remember(values), WRITE_MS);
  });
  return () => {
    stop();
    clearTimeout(timer);
  };
}

function valuesOf(practice: Practice): Record<string, string | undefined> | undefined {
  const player = practice.player.value;
  if (!player) return undefined;
  const loop = player.loop.value;
  const names = (chosen: "muted" | "solo") =>
    player.strips.filter((strip) => strip[chosen].value).map(({ name }) => name).join(",");
  const numbers = (set: "volume" | "pan", usual: number) =>
    player.strips
      .filter((strip) => strip[set].value !== usual)
      .map((strip) => `${strip.name}:${Number(strip[set].value.toFixed(2))}`)
      .join(",");
  return {
    capo: practice.capo.value ? String(practice.capo.value) : undefined,
    simple: practice.simple.value ? "1" : undefined,
    diagrams: practice.instrument.value === "piano" ? "piano" : undefined,
    model: practice.model.value || undefined,
    words: practice.words.value === "book" ? "book" : undefined,
    snap: practice.snapTo.value === "beat" ? undefined : practice.snapTo.value,
    stand: practice.stand.value ? "1" : undefined,
    tempo: player.rate.value === 1 ? undefined : String(Math.round(player.rate.value * 100)),
    pitch: player.semitones.value ? String(player.semitones.value) : undefined,
    count: player.countIn.value ? String(player.countIn.value) : undefined,
    clicks: player.clicks.on.value ? String(player.clicks.pace.value) : undefined,
    loop: loop ? `${loop.start.toFixed(3)}-${loop.end.toFixed(3)}` : undefined,
    mute: names("muted"),
    solo: names("solo"),
    volume: numbers("volume", 1),
    pan: numbers("pan", 0),
    t: player.playing.value || practice.position.value === 0 ? undefined : practice.position.value.toFixed(1),
  };
}
