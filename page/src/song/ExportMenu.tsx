import type { Track } from "../api/types.ts";
import { words } from "../parts/format.ts";

const FORMATS = ["flac", "wav", "mp3", "opus"];

/** Everything that can be saved of a song. */
export function ExportMenu({ track }: { track: Track }) {
  return (
    <details class="menu">
      <summary>Save</summary>
      <ul>
        <li>
          <a href={`${track.audio}?download=1`} download>
            The song as it came
          </a>
        </li>
        {track.stems.map(({ name, model, audio }) => (
          <li key={audio}>
            {words(name)} <span class="faint">({model})</span>{" "}
            {FORMATS.map((format) => (
              <a key={format} href={`${audio}?format=${format}&download=1`} download>
                {format}
              </a>
            ))}
          </li>
        ))}
      </ul>
    </details>
  );
}
