import { useEffect } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import { visits } from "../router.ts";
import { Drop } from "../uploads/Drop.tsx";
import { UploadList } from "../uploads/UploadList.tsx";
import { AddBar } from "./AddBar.tsx";
import { FilterBar } from "./FilterBar.tsx";
import { filters, isUnfiltered, isWholePlaylist, narrow, NO_FILTERS, readFilters } from "./filters.ts";
import { PlaylistBar } from "./PlaylistBar.tsx";
import { loadPlaylists } from "./playlists.ts";
import { load, loadMore, nextPage, offline, tracks } from "./state.ts";
import { TrackCard } from "./TrackCard.tsx";

const TYPING_MS = 200;

/** All songs of the user: adding and finding them, and their progress. */
export function LibraryView() {
  const wanted = filters.value;
  useEffect(() => {
    document.title = "StemTube";
    loadPlaylists().catch(fail);
  }, []);
  useEffect(readFilters, [visits.value]);
  useEffect(() => {
    const timer = setTimeout(() => load().catch(fail), tracks.value ? TYPING_MS : 0);
    return () => clearTimeout(timer);
  }, [wanted]);
  return (
    <>
      <h1 class="hidden">Library</h1>
      <AddBar />
      <UploadList />
      <FilterBar />
      <PlaylistBar />
      <Drop />
      <List />
    </>
  );
}

function List() {
  const list = tracks.value;
  if (!list) return <p class="empty">Loading …</p>;
  const isPlaylist = isWholePlaylist();
  return (
    <>
      {offline.value && <p class="notice">StemTube does not answer. These songs are kept on this device and play without it.</p>}
      {!list.length && <Empty isPlaylist={isPlaylist} />}
      <ul class="cards" aria-label="Songs">
        {list.map((track, index) => (
          <TrackCard
            key={track.id}
            track={track}
            {...(isPlaylist && { place: { before: list[index - 1]?.id, after: list[index + 1]?.id } })}
          />
        ))}
      </ul>
      {nextPage.value && (
        <p class="empty">
          <button onClick={() => loadMore().catch(fail)}>More songs</button>
        </p>
      )}
    </>
  );
}

function Empty({ isPlaylist }: { isPlaylist: boolean }) {
  if (isUnfiltered()) return <p class="empty">No songs yet. Paste a link above, or drop files here.</p>;
  if (isPlaylist) return <p class="empty">This playlist is empty. Use ✎ beside a song to add it.</p>;
  return (
    <p class="empty">
      No song matches. <button onClick={() => narrow(NO_FILTERS)}>Show all songs</button>
    </p>
  );
}
