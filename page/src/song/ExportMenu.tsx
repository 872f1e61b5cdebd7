import { useSignal, type Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { Dialog } from "../parts/Dialog.tsx";
import { words } from "../parts/format.ts";
import { saveFile } from "../parts/saving.ts";
import { fail } from "../parts/toasts.tsx";
import { offer, presentMix, type Format, type Offer, type Option } from "./exports.ts";
import type { Practice } from "./practice.ts";

const MIXDOWN = "mixdown";

/** All files of a song that can be saved. */
export function ExportMenu({ practice }: { practice: Practice }) {
  const offered = useSignal<Offer | undefined>(undefined);
  const isOpen = useSignal(false);
  async function open() {
    offered.value ??= await offer();
    isOpen.value = true;
  }
  return (
    <>
      <button aria-haspopup="dialog" onClick={() => open().catch(fail)}>
        Save
      </button>
      {isOpen.value && offered.value && (
        <SaveDialog practice={practice} offered={offered.value} onClose={() => (isOpen.value = false)} />
      )}
    </>
  );
}

function SaveDialog({ practice, offered, onClose }: { practice: Practice; offered: Offer; onClose: () => void }) {
  const track = practice.track.value!;
  const encoding = useSignal(offered.encodings[0] ?? "");
  const stems = track.stems.filter(({ silent }) => !silent);
  const path = (format: string, values: Record<string, string>) =>
    `/api/v1/tracks/${track.id}/exports/${format}?${new URLSearchParams(values)}`;
  const mix = presentMix(practice.player.value);
  const model = practice.sound.value?.model ?? "";
  return (
    <Dialog title="Save" onClose={onClose}>
      <label class="inline">
        Sound as
        <select value={encoding} onChange={(event) => (encoding.value = event.currentTarget.value)}>
          {offered.encodings.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      </label>
      <ul class="files" aria-label="Sound">
        <Saved name="The original song" path={`${track.audio}?download=1`} />
        {offered.formats.some(({ name }) => name === MIXDOWN) && stems.length > 0 && mix && (
          <Saved name="The mix with these settings" path={path(MIXDOWN, { stems: mix, model, encoding: encoding.value })} />
        )}
        {stems.map(({ name, model, audio }) => (
          <Saved key={audio} name={words(name)} detail={model} path={`${audio}?format=${encoding.value}&download=1`} />
        ))}
      </ul>
      <h3>For other programs</h3>
      <ul class="files" aria-label="For other programs">
        {offered.formats
          .filter(({ name }) => name !== MIXDOWN)
          .map((format) => (
            <ExportFile
              key={format.name}
              format={format}
              known={{ model, encoding: encoding.value }}
              pathOf={(values) => path(format.name, values)}
            />
          ))}
      </ul>
    </Dialog>
  );
}

/** @param known values of options that are set elsewhere. */
function ExportFile(properties: {
  format: Format;
  known: Record<string, string>;
  pathOf: (values: Record<string, string>) => string;
}) {
  const { format, known, pathOf } = properties;
  const chosen = useSignal<Record<string, string>>({});
  const values = Object.fromEntries(
    format.options
      .map(({ name }) => [name, known[name] ?? chosen.value[name] ?? ""] as const)
      .filter(([, value]) => value !== ""),
  );
  return (
    <Saved name={format.summary.replace(/\.$/, "")} detail={format.name} path={pathOf(values)}>
      {format.options
        .filter(({ name, choices }) => !(name in known) && choices.length > 0)
        .map((option) => (
          <Choice key={option.name} option={option} chosen={chosen} />
        ))}
    </Saved>
  );
}

function Choice({ option, chosen }: { option: Option; chosen: Signal<Record<string, string>> }) {
  const { name, choices, description } = option;
  const set = (value: string) => (chosen.value = { ...chosen.value, [name]: value });
  const isSwitch = choices.join() === "0,1";
  return (
    <label class="inline faint">
      {isSwitch ? (
        <input type="checkbox" onChange={(event) => set(event.currentTarget.checked ? "1" : "0")} />
      ) : (
        <select onChange={(event) => set(event.currentTarget.value)}>
          {choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      )}
      {(isSwitch ? description.replace(/^1: /, "") : description).replace(/\.$/, "")}
    </label>
  );
}

/** A file to save, with the progress while it is made and fetched. */
function Saved(properties: { name: string; detail?: string; path: string; children?: ComponentChildren }) {
  const { name, detail, path, children } = properties;
  /** The fraction that has arrived; null if nothing is being saved. */
  const share = useSignal<number | null>(null);
  const stop = useRef<AbortController | undefined>(undefined);
  async function save() {
    if (stop.current) return stop.current.abort();
    stop.current = new AbortController();
    share.value = 0;
    try {
      await saveFile(path, (arrived) => (share.value = arrived), stop.current.signal);
    } catch (error) {
      fail(error);
    } finally {
      stop.current = undefined;
      share.value = null;
    }
  }
  return (
    <li>
      <span class="what">
        {name} {detail && <span class="faint">({detail})</span>}
      </span>
      {children}
      {share.value !== null && (
        // Without a value the bar is indeterminate: until the first byte, the server works for an unknown time.
        <progress aria-label={`${name}: on its way`} {...(share.value > 0 && { value: share.value })} />
      )}
      <button aria-label={share.value === null ? `Save ${name}` : `Stop saving ${name}`} onClick={save}>
        {share.value === null ? "Save" : "Stop"}
      </button>
    </li>
  );
}
