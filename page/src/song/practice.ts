/** A song as somebody practises with it: the track, its sound, and how both are shown. */

import { batch, computed, effect, signal } from "@preact/signals";
import { call } from "../api/client.ts";
import type { Track } from "../api/types.ts";
import { NoSoundError, Player } from "../audio/player.ts";
import { jobs, trackChanges } from "../library/state.ts";
import type { ChordView } from "../music/harte.ts";
import { nearest, spanAt } from "../music/find.ts";
import { usesFlats } from "../music/keys.ts";
import { fail } from "../parts/toasts.tsx";
import { readAddress, writeAddress } from "./address.ts";
import { modelsOf, soundOf, type Sound } from "./sound.ts";

// A loop's ends go to the nearest beat, unless the beats are further apart than a slow bar.
const SNAP_SECONDS = 2;
const RELOAD_MS = 200;

export class Practice {
  readonly id: string;
  readonly track = signal<Track | undefined>(undefined);
  readonly player = signal<Player | undefined>(undefined);
  readonly sound = signal<Sound | undefined>(undefined);
  /** Why there is no sound; empty if there is. */
  readonly notice = signal("");
  /** Seconds of the song that are heard now, renewed with every picture. */
  readonly position = signal(0);
  readonly capo = signal(0);
  readonly simple = signal(false);
  readonly instrument = signal<"guitar" | "piano">("guitar");
  readonly model = signal("");

  readonly chordView = computed<ChordView>(() => {
    const semitones = this.player.value?.semitones.value ?? 0;
    const flats = usesFlats(this.track.value?.key, semitones - this.capo.value);
    return { semitones, capo: this.capo.value, simple: this.simple.value, flats };
  });
  readonly chord = computed(() => spanAt(this.track.value?.chords ?? [], this.position.value));
  readonly section = computed(() => spanAt(this.track.value?.sections ?? [], this.position.value));

  #isOver = false;
  #picture = 0;
  #reloading: number | undefined;
  #opening: Promise<void> = Promise.resolve();

  constructor(id: string) {
    this.id = id;
  }

  /** Loads the song and follows what becomes of it, until the function that it gives is called. */
  start(): () => void {
    const onChange = (trackId: string) => {
      if (trackId === this.id) this.#reloading ??= window.setTimeout(() => this.#reload(), RELOAD_MS);
    };
    trackChanges.add(onChange);
    readAddress(this);
    this.load().catch(fail);
    const stopChoosing = effect(() => {
      const track = this.track.value;
      if (!track?.durationSeconds) return;
      const job = jobs.value.get(this.id);
      const sound = soundOf(track, job, this.model.value);
      const now = this.sound.peek();
      // Live stems are gone a moment before the track tells its complete ones.
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

  /** Seconds of the beat that is nearest to a time. */
  snap(seconds: number): number {
    return nearest(this.track.value?.beats.map(({ time }) => time) ?? [], seconds, SNAP_SECONDS);
  }

  /** Models that have made stems of this song. */
  get models(): string[] {
    return modelsOf(this.track.value);
  }

  /** Opens a sound in place of the one that there is, one change after the other. */
  #open(sound: Sound, duration: number): void {
    const before = this.sound.peek();
    this.sound.value = sound;
    this.#opening = this.#opening.then(async () => {
      const old = this.player.peek();
      const sameStems = before?.sources.map(({ name }) => name).join() === sound.sources.map(({ name }) => name).join();
      if (old && sameStems && before?.sampleRateHz === sound.sampleRateHz) {
        await old.use(sound.sources);
        return;
      }
      try {
        const player = await Player.open(sound.sources, duration, sound.sampleRateHz);
        if (this.#isOver) player.close();
        else this.#takeOver(old, player);
      } catch (error) {
        if (error instanceof NoSoundError) this.notice.value = error.message;
        else fail(error);
      }
    });
  }

  /** Has a new player do what the old one does. */
  #takeOver(old: Player | undefined, player: Player): void {
    player.onError = fail;
    const isPlaying = old?.playing.value;
    batch(() => {
      if (old) {
        player.setRate(old.rate.value);
        player.setSemitones(old.semitones.value);
        player.setLoop(old.loop.value);
        player.countIn.value = old.countIn.value;
        player.trainer.value = old.trainer.value;
        player.clicks.on.value = old.clicks.on.value;
        player.clicks.pace.value = old.clicks.pace.value;
      } else readAddress(this, player);
      this.player.value = player;
    });
    const place = old?.position();
    old?.close();
    if (place) player.seek(place).catch(fail);
    if (isPlaying) player.play().catch(fail);
  }
}
