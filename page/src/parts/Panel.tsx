import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ApiError, call } from "../api/client.ts";
import { fail } from "./toasts.tsx";

/**
 * The answer of a path of the API, and a function that fetches it again; undefined until there is an answer.
 *
 * The answer also stays undefined if this server does not have the path, so that panels for it are hidden.
 */
export function useAnswer<Answer>(path: string): [Answer | undefined, () => void] {
  const [answer, setAnswer] = useState<Answer>();
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    call<Answer>("GET", path, undefined, stop.signal)
      .then(setAnswer)
      .catch((error: unknown) => (error instanceof ApiError && error.status === 404) || fail(error));
    return () => stop.abort();
  }, [path, turn]);
  return [answer, () => setTurn((before) => before + 1)];
}

export function Panel({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="panel" aria-label={title} tabIndex={0}>
      <h2>{title}</h2>
      {children}
    </section>
  );
}

/** A time as the browser's language writes it. */
export function when(time: string | undefined): string {
  return time ? new Date(time).toLocaleString() : "never";
}

/** Runs an action, shows its errors, and then fetches the answer again. */
export function then(work: Promise<unknown>, again: () => void): void {
  work.then(again).catch(fail);
}
