import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { fail } from "../parts/toasts.tsx";
import { droppedFiles } from "./dropped.ts";
import { addFiles } from "./queue.ts";

/** Takes files that are dropped anywhere on the page. */
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
  return over.value ? <div class="drop">Drop songs or folders</div> : null;
}
