/** A song during practice: the track, its sound, and the display of both. */

import { computed, effect, signal } from "@preact/signals";
import { call } from "../api/client.ts";
import type { Chord, Track } from "../api/types.ts";
import { Player } from "../audio/player.ts";
import { jobs, trackChanges } from "../library/state.ts";
import { shownChord, shownName, type ChordView, type ParsedChord } from "../music/harte.ts";
import { lastBefore, spanAt } from "../music/find.ts";
import { keyAt, usesFlats } from "../music/keys.ts";
import { snapped, type Snap } from "../music/snap.ts";
import { fail } from "../parts/toasts.tsx";
import { readAddress, writeAddress } from "./address.ts";
import { modelsOf, soundOf, type Sound } from "./sound.ts";

// A word is highlighted a little early, so that one can read it before it is sung.
export const EARLY_SECONDS = 0.06;
// Stems may load more slowly than the song plays: the current sound plays until this much of them is loaded.
const LIVE_SECONDS = 10;
const RELOAD_MS = 200;

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export class Practice {
  readonly id: string;
  readonly track = signal<Track | undefined>(undefined);
  readonly player = signal<Player | undefined>(undefined);
  readonly sound = signal<Sound | undefined>(undefined);
  /** The reason why there is no song or no sound; otherwise empty. */
  readonly notice = signal("");
  /** The audible position in seconds, updated in every frame. */
  readonly position = signal(0);
  readonly capo = signal(0);
  readonly simple = signal(false);
  readonly instrument = signal<"guitar" | "piano">("guitar");
  readonly model = signal("");
  readonly snapTo = signal<Snap>("beat");
  /** Only chords and words are shown. */
  readonly stand = signal(false);
  readonly words = signal<"karaoke" | "book">("karaoke");

  /** The audible beats per minute; 0 without a pulse. */
  readonly bpm = computed(() => {
    const { bpm = 0, curve = [] } = this.track.value?.tempo ?? {};
    const point = curve[lastBefore(curve, this.position.value, ({ time }) => time)];
    return Math.round((point?.bpm ?? bpm) * (this.player.value?.rate.value ?? 1));
  });
  readonly key = computed(() => keyAt(this.track.value?.key, this.position.value));
  readonly chord = computed(() => spanAt(this.track.value?.chords ?? [], this.position.value));
  /** The line that is sung, or was sung last; -1 before the first. */
  readonly line = computed(() => {
    const lines = this.track.value?.lyrics?.lines ?? [];
    return lastBefore(lines, this.position.value + EARLY_SECONDS, ({ start }) => start);
  });
  readonly section = computed(() => spanAt(this.track.value?.sections ?? [], this.position.value));

  #isOver = false;
  #picture = 0;
  #reloading: number | undefined;
  #opening: Promise<void> = Promise.resolve();
  /** The sound in the player: `sound`, unless that is still being opened. */
  #heard: Sound | undefined;

  constructor(id: string) {
    this.id = id;
  }

  /** Loads the song and follows its changes, until the returned function is called. */
  start(): () => void {
    const onChange = (trackId: string) => {
      if (trackId === this.id) this.#reloading ??= window.setTimeout(() => this.#reload(), RELOAD_MS);
    };
    trackChanges.add(onChange);
    readAddress(this);
    this.load().catch((error: unknown) => (this.notice.value = messageOf(error)));
    const stopChoosing = effect(() => {
      const track = this.track.value;
      if (!track?.durationSeconds) return;
      const job = jobs.value.get(this.id);
      const sound = soundOf(track, job, this.model.value);
      const now = this.sound.peek();
      // Live stems are deleted a moment before the track has its complete ones.
      const isBetween = now?.kind === "live" && sound.kind === "mix" && job?.job.state === "JOB_STATE_RUNNING";
      if (sound.key !== now?.key && !isBetween) this.#open(sound, track.durationSeconds);
    });
    const stopWriting = writeAddress(this);
    const stopBeats = effect(() => {
      if (this.player.value) this.player.value.clicks.beats = this.track.value?.beats ?? [];
    });
    const draw = () => {
      this.position.value = this.player.peek()?.position() ?? 0;
      this.#picture = requestAnimationFrame(draw);
    };
    draw();
    return () => {
      this.#isOver = true;
      trackChanges.delete(onChange);
      clearTimeout(this.#reloading);
      cancelAnimationFrame(this.#picture);
      for (const stop of [stopChoosing, stopWriting, stopBeats]) stop();
      this.player.peek()?.close();
    };
  }

  async load(): Promise<void> {
    this.track.value = (await call<{ track: Track }>("GET", `/tracks/${this.id}`)).track;
    document.title = `${this.track.value.title} – StemTube`;
  }

  #reload(): void {
    this.#reloading = undefined;
    this.load().catch(fail);
  }

  /** Seconds of the beat that is heard now. */
  get beatHere(): number {
    return snapped(this.track.value!, this.position.value, "beat");
  }

  /** The name and the tones of a chord to play, spelt for the key at its time. */
  nameOf(chord: Chord): string {
    return shownName(chord, this.#viewAt(chord.start));
  }

  tonesOf(chord: Chord): ParsedChord | undefined {
    return shownChord(chord, this.#viewAt(chord.start));
  }

  #viewAt(time: number): ChordView {
    const semitones = this.player.value?.semitones.value ?? 0;
    const capo = this.capo.value;
    const flats = usesFlats(keyAt(this.track.value?.key, time), semitones - capo);
    return { semitones, capo, simple: this.simple.value, flats };
  }

  /** The models that made stems of this song. */
  get models(): string[] {
    return modelsOf(this.track.value);
  }

  /** Opens a sound in place of the current one. Changes run one after another; outdated ones are skipped. */
  #open(sound: Sound, duration: number): void {
    this.sound.value = sound;
    this.#opening = this.#opening.then(async () => {
      if (!this.#isWanted(sound)) return;
      const old = this.player.peek();
      if (old && this.#heard && haveSameStems(this.#heard, sound)) {
        old.use(sound.sources);
        this.#heard = sound;
        return;
      }
      try {
        const player = await Player.open(sound.sources, duration, sound.sampleRateHz);
        await this.#takeOver(old, player, sound);
      } catch (error) {
        if (!this.#isOver) this.notice.value = messageOf(error);
      }
    });
  }

  /** Whether the song is still shown, and no better sound has become available. */
  #isWanted(sound: Sound): boolean {
    return !this.#isOver && this.sound.peek() === sound;
  }

  /** Makes a new player continue what the old one does, without a gap if it is playing. */
  async #takeOver(old: Player | undefined, player: Player, sound: Sound): Promise<void> {
    player.onError = fail;
    try {
      const ahead = sound.kind === "live" ? LIVE_SECONDS : 0;
      if (old) await player.catchUp(old, ahead, () => this.#isWanted(sound));
    } catch (error) {
      player.close();
      throw error;
    }
    if (!this.#isWanted(sound)) {
      player.close();
      return;
    }
    if (!old) readAddress(this, player);
    else player.copy(old);
    this.#heard = sound;
    this.player.value = player;
    if (old) await player.relieve(old);
  }
}

function haveSameStems(one: Sound, other: Sound): boolean {
  const names = ({ sources }: Sound) => sources.map(({ name }) => name).join();
  return names(one) === names(other) && one.sampleRateHz === other.sampleRateHz;
}
