import { useSignal } from "@preact/signals";
import type { Song } from "../api/types.ts";
import { Dialog } from "../parts/Dialog.tsx";
import { clock } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import { chosenOptions } from "./AddOptions.tsx";
import { addLink } from "./state.ts";

/** Songs on the web to choose from. */
export function SongChoice({ title, songs, onClose }: { title: string; songs: Song[]; onClose: () => void }) {
  const chosen = useSignal<ReadonlySet<string>>(new Set());

  function toggle(url: string) {
    const next = new Set(chosen.value);
    if (!next.delete(url)) next.add(url);
    chosen.value = next;
  }

  async function add() {
    const options = chosenOptions(chosen.value.size > 1);
    onClose();
    for (const url of chosen.value) await addLink(url, options).catch(fail);
  }

  return (
    <Dialog title={title} onClose={onClose}>
      {songs.length === 0 && <p>Nothing was found.</p>}
      <ul class="choice">
        {songs.map((song) => (
          <li key={song.url}>
            <label>
              <input type="checkbox" checked={chosen.value.has(song.url)} onChange={() => toggle(song.url)} />
              <span>
                {song.title}
                <span class="faint">
                  {[song.artist, song.source].filter(Boolean).join(" · ")}
                  {song.durationSeconds > 0 && ` · ${clock(song.durationSeconds)}`}
                </span>
              </span>
            </label>
          </li>
        ))}
      </ul>
      <button class="primary" disabled={!chosen.value.size} onClick={add}>
        Add {chosen.value.size || ""}
      </button>
    </Dialog>
  );
}
