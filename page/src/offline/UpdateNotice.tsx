import { update, takeUpdate } from "./updates.ts";

/** Says that there is a new version of the page, and activates it when the user agrees. */
export function UpdateNotice() {
  return (
    <div class="update" role="status">
      {update.value && (
        <>
          <span>A new version of StemTube is ready.</span>
          <button class="primary" onClick={takeUpdate}>
            Reload
          </button>
        </>
      )}
    </div>
  );
}
