import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import { addFiles, droppedFiles, sending } from "./adding.ts";

/** Takes files that are dropped anywhere on the page, and tells which are on their way. */
export function Drop() {
  const over = useSignal(false);
  useEffect(() => {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files");
    const enter = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      over.value = true;
    };
    const leave = (event: DragEvent) => event.relatedTarget === null && (over.value = false);
    const drop = (event: DragEvent) => {
      over.value = false;
      if (!hasFiles(event)) return;
      event.preventDefault();
      droppedFiles(event.dataTransfer!).then(addFiles).catch(fail);
    };
    document.addEventListener("dragover", enter);
    document.addEventListener("dragleave", leave);
    document.addEventListener("drop", drop);
    return () => {
      document.removeEventListener("dragover", enter);
      document.removeEventListener("dragleave", leave);
      document.removeEventListener("drop", drop);
    };
  }, []);
  return (
    <>
      {over.value && <div class="drop">Drop songs or folders</div>}
      <p class="faint" role="status">
        {sending.value.length > 0 && `Sending ${sending.value[0]}${more(sending.value.length - 1)} …`}
      </p>
    </>
  );
}

function more(count: number): string {
  return count > 0 ? ` and ${count} more` : "";
}
