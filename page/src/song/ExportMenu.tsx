import { useSignal } from "@preact/signals";
import { call } from "../api/client.ts";
import { words } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import type { Practice } from "./practice.ts";

const ENCODINGS = ["flac", "wav", "mp3", "opus"];
const EXPORTS = "/api/v1/tracks/{track_id}/exports/{format}";
const MIXDOWN = "mixdown";

interface Description {
  paths: Record<string, { get?: { parameters?: { name: string; schema?: { enum?: string[] } }[] } }>;
}

/** The files for other programs that this server makes, from its own description. */
async function exportFormats(): Promise<string[]> {
  const { paths } = await call<Description>("GET", "/openapi.json");
  return paths[EXPORTS]?.get?.parameters?.find(({ name }) => name === "format")?.schema?.enum ?? [];
}

/** Everything that can be saved of a song. */
export function ExportMenu({ practice }: { practice: Practice }) {
  const formats = useSignal<string[] | undefined>(undefined);
  const track = practice.track.value!;
  const path = (format: string) => `/api/v1/tracks/${track.id}/exports/${format}`;
  async function open() {
    if (!formats.value) formats.value = await exportFormats();
  }
  return (
    <details class="menu" onToggle={() => open().catch(fail)}>
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
            {ENCODINGS.map((encoding) => (
              <a key={encoding} href={`${audio}?format=${encoding}&download=1`} download>
                {encoding}
              </a>
            ))}
          </li>
        ))}
        {formats.value?.includes(MIXDOWN) && track.stems.length > 0 && (
          <li>
            The mix as it is set:{" "}
            {["wav", "mp3"].map((encoding) => (
              <a key={encoding} href={`${path(MIXDOWN)}?${presentMix(practice)}&encoding=${encoding}`} download>
                {encoding}
              </a>
            ))}
          </li>
        )}
        {formats.value
          ?.filter((format) => format !== MIXDOWN)
          .map((format) => (
            <li key={format}>
              <a href={path(format)} download>
                {format}
              </a>
            </li>
          ))}
      </ul>
    </details>
  );
}

/** The stems that are heard now with their gains in dB, as the mixdown's query. */
function presentMix(practice: Practice): string {
  const strips = practice.player.value?.strips ?? [];
  const anySolo = strips.some(({ solo }) => solo.value);
  const heard = strips.filter(({ muted, solo, volume }) => !muted.value && (!anySolo || solo.value) && volume.value > 0);
  const stems = heard.map(({ name, volume }) => `${name}:${(20 * Math.log10(volume.value)).toFixed(1)}`).join();
  return new URLSearchParams({ stems, ...(practice.model.value && { model: practice.model.value }) }).toString();
}
