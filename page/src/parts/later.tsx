import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { fail } from "./toasts.tsx";

/** A view whose code is fetched when it is first shown. */
export function later<Properties extends object>(fetchView: () => Promise<ComponentType<Properties>>): ComponentType<Properties> {
  const view = signal<ComponentType<Properties> | undefined>(undefined);
  return function Later(properties: Properties) {
    useEffect(() => {
      if (!view.value) fetchView().then((found) => (view.value = found), fail);
    }, []);
    const View = view.value;
    return View ? <View {...properties} /> : <p class="empty">Loading …</p>;
  };
}
