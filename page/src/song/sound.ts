/** The sound of a song that can be played now. */

import type { Track, TrackJob } from "../api/types.ts";
import { FlacFile, LiveStem, WholeFile, type Source } from "../audio/sources.ts";

// The rate of all stems that StemTube makes, also of those in progress.
const STEM_RATE_HZ = 44_100;

export interface Sound {
  /** Equal for equal sounds. */
  key: string;
  kind: "stems" | "live" | "mix";
  /** The model that made the stems; empty while they are incomplete. */
  model: string;
  /** Why another model than the preferred one made the stems, and what to do; empty if none did. */
  substitution: string;
  sources: Source[];
  /** Paths of the waveforms, one per source; empty where one is missing. */
  peaks: string[];
  sampleRateHz: number;
}

/** The models that made stems of a song, the one with most stems first. */
export function modelsOf(track: Track | undefined): string[] {
  const counts = new Map<string, number>();
  for (const { model } of track?.stems ?? []) counts.set(model, (counts.get(model) ?? 0) + 1);
  return [...counts].toSorted(([, one], [, other]) => other - one).map(([model]) => model);
}

/** The best available sound: complete stems, else stems in progress, else the mix. */
export function soundOf(track: Track, job: TrackJob | undefined, model: string): Sound {
  const models = modelsOf(track);
  const chosen = models.includes(model) ? model : models[0];
  const stems = track.stems.filter((stem) => stem.model === chosen && !stem.silent);
  if (stems.length) {
    return {
      key: `stems ${stems.map(({ audio }) => audio).join()}`,
      kind: "stems",
      model: stems[0]!.model,
      substitution: stems[0]!.madeBy?.substitution ?? "",
      sources: stems.map(({ name, audio, gain }) => new FlacFile(name, audio, gain || 1)),
      peaks: stems.map(({ peaks }) => peaks),
      sampleRateHz: stems[0]!.sampleRateHz,
    };
  }
  const live = job?.parts.find((part) => part.live?.stems.length)?.live;
  if (live) {
    return {
      key: `live ${live.stems.map(({ playlist }) => playlist).join()}`,
      kind: "live",
      model: "",
      substitution: "",
      sources: live.stems.map(({ name, playlist }) => new LiveStem(name, playlist, STEM_RATE_HZ)),
      peaks: live.stems.map(() => ""),
      sampleRateHz: STEM_RATE_HZ,
    };
  }
  return {
    key: `mix ${track.audio}`,
    kind: "mix",
    model: "",
    substitution: "",
    sources: [new WholeFile("mix", track.audio, track.sampleRateHz)],
    peaks: [track.peaks],
    sampleRateHz: track.sampleRateHz,
  };
}
