/** The address chooses the view, so that it can be bookmarked, shared and returned to. */

import { batch, computed, signal } from "@preact/signals";

const address = signal(location.pathname + location.search);

/** Counts navigations, also those to the current view. */
export const visits = signal(0);

function arrive(): void {
  batch(() => {
    address.value = location.pathname + location.search;
    visits.value += 1;
  });
}

/** The path's first two words: ["songs", id], ["account"], ["admin"], or none for the library. */
export const route = computed(() => new URL(address.value, location.origin).pathname.split("/").filter(Boolean));

/** The address's query. */
export function parameters(): URLSearchParams {
  return new URLSearchParams(location.search);
}

/** Goes to another view. */
export function go(path: string): void {
  history.pushState(null, "", path);
  arrive();
  window.scrollTo(0, 0);
}

/** Writes the state of a view into its address, without a new entry in the history. */
export function remember(values: Record<string, string | undefined>): void {
  const wanted = parameters();
  for (const [name, value] of Object.entries(values)) {
    if (value) wanted.set(name, value);
    else wanted.delete(name);
  }
  const text = wanted.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  history.replaceState(null, "", location.pathname + (text && `?${text}`));
}

/** Makes links of this page change the view without a reload. */
export function followLinks(): void {
  window.addEventListener("popstate", arrive);
  document.addEventListener("click", (event) => {
    const link = (event.target as Element).closest?.("a");
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    if (!link || !plain || link.target || link.hasAttribute("download") || event.defaultPrevented) return;
    if (link.origin !== location.origin || link.pathname.startsWith("/api")) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
