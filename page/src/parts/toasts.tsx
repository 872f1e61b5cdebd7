/** Short messages at the page's edge: errors, and actions that can be undone. */

import { signal } from "@preact/signals";

const SECONDS = 8;

interface Toast {
  id: number;
  text: string;
  isError: boolean;
  action?: { label: string; run: () => unknown };
}

const toasts = signal<Toast[]>([]);
let last = 0;

function show(toast: Omit<Toast, "id">): void {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-3), { ...toast, id }];
  setTimeout(() => remove(id), SECONDS * 1000);
}

function remove(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

/** Shows a message with a button. */
export function tell(text: string, action?: Toast["action"]): void {
  show({ text, isError: false, ...(action && { action }) });
}

/** Shows an error, unless it comes from an abort. */
export function fail(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  show({ text: error instanceof Error ? error.message : String(error), isError: true });
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map(({ id, text, isError, action }) => (
        <div key={id} class={isError ? "toast error" : "toast"}>
          <span>{text}</span>
          {action && (
            <button
              onClick={() => {
                remove(id);
                Promise.resolve(action.run()).catch(fail);
              }}
            >
              {action.label}
            </button>
          )}
          <button aria-label="Close this message" onClick={() => remove(id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
