import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** A modal dialog, open while it is rendered; Escape and a click beside it close it. */
export function Dialog(properties: { title: string; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      aria-label={properties.title}
      onClose={properties.onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div class="dialog">
        <header>
          <h2>{properties.title}</h2>
          <button aria-label="Close" onClick={() => dialog.current?.close()}>
            ×
          </button>
        </header>
        {properties.children}
      </div>
    </dialog>
  );
}
