import { useEffect } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import { AddBar } from "./AddBar.tsx";
import { Drop } from "./Drop.tsx";
import { FilterBar } from "./FilterBar.tsx";
import { filters, load, loadMore, loadPlaylists, nextPage, NO_FILTERS, tracks } from "./state.ts";
import { TrackCard } from "./TrackCard.tsx";

const TYPING_MS = 200;

/** All songs of the user: adding, finding, and what becomes of them. */
export function LibraryView() {
  const wanted = filters.value;
  useEffect(() => {
    document.title = "StemTube";
    loadPlaylists().catch(fail);
  }, []);
  useEffect(() => {
    const timer = setTimeout(() => load().catch(fail), tracks.value ? TYPING_MS : 0);
    return () => clearTimeout(timer);
  }, [wanted]);
  return (
    <>
      <h1 class="hidden">Library</h1>
      <AddBar />
      <FilterBar />
      <Drop />
      <List />
    </>
  );
}

function List() {
  const list = tracks.value;
  if (!list) return <p class="empty">Loading …</p>;
  if (!list.length) {
    return filters.value === NO_FILTERS ? (
      <p class="empty">No songs yet. Paste a link above, or drop files here.</p>
    ) : (
      <p class="empty">
        No song fits. <button onClick={() => (filters.value = NO_FILTERS)}>Show all songs</button>
      </p>
    );
  }
  return (
    <>
      <ul class="cards" aria-label="Songs">
        {list.map((track) => (
          <TrackCard key={track.id} track={track} />
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
