/** Installs the service worker of this page, and announces new versions of the page. */

import { signal } from "@preact/signals";
import { ACTIVATE } from "./names.ts";

const LOOK_MS = 3_600_000;

/** A new version that is ready; undefined while this one is the newest. */
export const update = signal<ServiceWorker | undefined>(undefined);

/** Installs the service worker, where the browser has them: on https pages, and on those of this machine. */
export async function installWorker(): Promise<void> {
  if (!("serviceWorker" in navigator) || !import.meta.env.PROD) return;
  const registration = await navigator.serviceWorker.register("/sw.js");
  const isUpdate = () => navigator.serviceWorker.controller !== null;
  if (registration.waiting && isUpdate()) update.value = registration.waiting;
  registration.addEventListener("updatefound", () => {
    const worker = registration.installing!;
    worker.addEventListener("statechange", () => {
      if (worker.state === "installed" && isUpdate()) update.value = worker;
    });
  });
  // A page may stay open for days, on a music stand for instance.
  setInterval(() => void registration.update().catch(() => undefined), LOOK_MS);
}

/** Activates the new version, and reloads the page. */
export function takeUpdate(): void {
  navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
  update.value?.postMessage(ACTIVATE);
}
