import { useSignal } from "@preact/signals";
import { MAX_PLAYLIST_NAME } from "../api/contract.ts";
import { fail } from "../parts/toasts.tsx";
import { filters, isWholePlaylist } from "./filters.ts";
import { playlists, removePlaylist, renamePlaylist } from "./playlists.ts";

/** The chosen playlist: its name, and actions for all of it. */
export function PlaylistBar() {
  const naming = useSignal(false);
  const playlist = playlists.value.find(({ id }) => id === filters.value.playlistId);
  if (!playlist) return null;
  function rename(event: SubmitEvent) {
    event.preventDefault();
    const name = String(new FormData(event.target as HTMLFormElement).get("name")).trim();
    naming.value = false;
    if (name && name !== playlist!.name) renamePlaylist(playlist!, name).catch(fail);
  }
  if (naming.value) {
    return (
      <form class="row playlist" onSubmit={rename}>
        <input name="name" aria-label="Name of the playlist" defaultValue={playlist.name} maxLength={MAX_PLAYLIST_NAME} required autoFocus />
        <button class="primary">Rename</button>
        <button type="button" onClick={() => (naming.value = false)}>
          Cancel
        </button>
      </form>
    );
  }
  return (
    <div class="row playlist">
      <h2>{playlist.name}</h2>
      <span class="faint">
        {playlist.trackCount} {playlist.trackCount === 1 ? "song" : "songs"}
        {!isWholePlaylist() && "; without other filters and orders you can rearrange them"}
      </span>
      <button onClick={() => (naming.value = true)}>Rename</button>
      <button onClick={() => removePlaylist(playlist).catch(fail)}>Delete playlist</button>
    </div>
  );
}
