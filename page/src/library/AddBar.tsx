import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { call, query } from "../api/client.ts";
import type { Song } from "../api/types.ts";
import { fail } from "../parts/toasts.tsx";
import { addFiles } from "../uploads/queue.ts";
import { AddOptions, chosenOptions } from "./AddOptions.tsx";
import { SongChoice } from "./SongChoice.tsx";
import { addLink } from "./state.ts";

/** Adds songs: a link, words to look for on the web, files or a folder. */
export function AddBar() {
  const text = useSignal("");
  const busy = useSignal(false);
  const found = useSignal<{ title: string; songs: Song[] } | null>(null);
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);

  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const wanted = text.value.trim();
    if (!wanted) return;
    busy.value = true;
    try {
      if (/^https?:\/\//i.test(wanted)) {
        const list = await songsBehind(wanted);
        if (list.length) found.value = { title: "Which songs of this list?", songs: list };
        else await addLink(wanted, chosenOptions());
      } else {
        const { songs } = await call<{ songs: Song[] }>("GET", "/songs" + query({ query: wanted, count: 20 }));
        found.value = { title: `Songs found for “${wanted}”`, songs };
      }
      text.value = "";
    } catch (error) {
      fail(error);
    } finally {
      busy.value = false;
    }
  }

  function take(input: HTMLInputElement) {
    addFiles(Array.from(input.files ?? [])).catch(fail);
    input.value = "";
  }

  return (
    <section aria-label="Add songs" class="add">
      <form onSubmit={submit}>
        <input
          aria-label="A link, or words to search for"
          placeholder="Paste a link, or search for a song"
          value={text}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
        <button class="primary" disabled={busy}>
          {busy.value ? "Looking …" : "Add"}
        </button>
        <button type="button" onClick={() => files.current?.click()}>
          Files
        </button>
        <button type="button" onClick={() => folder.current?.click()}>
          Folder
        </button>
        <input
          ref={files}
          class="hidden"
          type="file"
          multiple
          accept="audio/*,video/*"
          aria-label="Song files"
          tabIndex={-1}
          onChange={(event) => take(event.currentTarget)}
        />
        <input
          ref={folder}
          class="hidden"
          type="file"
          {...{ webkitdirectory: true }}
          aria-label="Folder of songs"
          tabIndex={-1}
          onChange={(event) => take(event.currentTarget)}
        />
      </form>
      <AddOptions />
      {found.value && <SongChoice {...found.value} onClose={() => (found.value = null)} />}
    </section>
  );
}

/** The songs of the list behind a link; none if the link leads to a song, or the site does not answer. */
async function songsBehind(url: string): Promise<Song[]> {
  try {
    return (await call<{ entries: Song[] }>("GET", "/links" + query({ url }))).entries;
  } catch {
    return []; // adding the link reports the error
  }
}
