import { canKeep, drop, dropAll, kept } from "../offline/kept.ts";
import { Panel } from "../parts/Panel.tsx";
import { bytes } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";

/** The songs that are kept on this device, with their sizes. */
export function KeptSongs() {
  const songs = [...kept.value.values()];
  const total = songs.reduce((sum, song) => sum + song.bytes, 0);
  return (
    <Panel title="On this device">
      {!canKeep && <p>Open StemTube by https to keep songs on this device and play them without a connection.</p>}
      {canKeep && !songs.length && <p>Use ⤓ beside a song in the library to keep it here and play it without a connection.</p>}
      {songs.length > 0 && (
        <>
          <ul class="choice">
            {songs.map((song) => (
              <li key={song.id} class="row">
                <span>
                  {song.title} <span class="faint">{bytes(song.bytes)}</span>
                </span>
                <button aria-label={`Remove ${song.title} from this device`} onClick={() => drop(song.id).catch(fail)}>
                  Remove
                </button>
              </li>
            ))}
          </ul>
          <p>
            {bytes(total)} in all. <button onClick={() => dropAll().catch(fail)}>Remove all</button>
          </p>
        </>
      )}
    </Panel>
  );
}
