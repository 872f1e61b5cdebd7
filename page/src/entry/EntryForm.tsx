import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { ApiError } from "../api/client.ts";
import { MIN_PASSWORD } from "../api/contract.ts";

interface Properties {
  title: string;
  action: string;
  /** Submits the form's values; its errors are shown. */
  onSubmit: (fields: Record<string, string>) => Promise<unknown>;
  children: ComponentChildren;
  below?: ComponentChildren;
}

/** A form in the middle of an otherwise empty page. If the server asks to wait, its button counts down. */
export function EntryForm({ title, action, onSubmit, children, below }: Properties) {
  const error = useSignal("");
  const busy = useSignal(false);
  const pause = useSignal(0);
  useEffect(() => {
    if (pause.value <= 0) return undefined;
    const timer = setTimeout(() => (pause.value -= 1), 1000);
    return () => clearTimeout(timer);
  }, [pause.value]);

  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(event.target as HTMLFormElement)) as Record<string, string>;
    busy.value = true;
    error.value = "";
    try {
      await onSubmit(fields);
    } catch (caught) {
      error.value = caught instanceof Error ? caught.message : String(caught);
      if (caught instanceof ApiError) pause.value = caught.retrySeconds;
    } finally {
      busy.value = false;
    }
  }

  return (
    <main class="entry">
      <form onSubmit={submit}>
        <h1>
          <img src="/icon.svg" alt="" width="40" height="40" /> {title}
        </h1>
        {children}
        <p class="error" role="alert">
          {error}
        </p>
        <button class="primary" disabled={busy.value || pause.value > 0}>
          {pause.value > 0 ? `${action} in ${pause.value} s` : action}
        </button>
        {below}
      </form>
    </main>
  );
}

/** Two fields for a new password; `wantedPassword` reads them. */
export function NewPassword() {
  return (
    <>
      <label>
        New password
        <input name="new" type="password" autocomplete="new-password" minLength={MIN_PASSWORD} required />
        <span class="faint">At least {MIN_PASSWORD} characters; several words are easiest to remember.</span>
      </label>
      <label>
        Repeat the password
        <input name="again" type="password" autocomplete="new-password" required />
      </label>
    </>
  );
}

/** @throws Error the two differ. */
export function wantedPassword(fields: Record<string, string>): string {
  if (fields.new !== fields.again) throw new Error("The two passwords differ. Type the same one twice.");
  return fields.new!;
}
