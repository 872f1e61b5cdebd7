import { bytes } from "../parts/format.ts";
import { cancel, pause, resume, uploads, type Upload } from "./queue.ts";

/** Unfinished uploads, each with its progress and its actions; nothing while there are none. */
export function UploadList() {
  const list = uploads.value;
  if (!list.length) return null;
  const failed = list.filter(({ state }) => state === "failed").length;
  return (
    <section class="uploads" aria-label="Uploads">
      <h2>
        {list.length} {list.length === 1 ? "file" : "files"} on the way{failed > 0 && `, ${failed} refused`}
      </h2>
      <ul>
        {list.map((upload) => (
          <Row key={upload.id} upload={upload} />
        ))}
      </ul>
    </section>
  );
}

function Row({ upload }: { upload: Upload }) {
  const { id, name, size, state, sent } = upload;
  return (
    <li>
      <span class="name">{name}</span>
      {state !== "failed" && <progress aria-label={`Upload of ${name}`} max={size} value={sent} />}
      <span class={state === "failed" ? "error" : "faint"} role={state === "failed" ? "alert" : undefined}>
        {told(upload)}
      </span>
      {(state === "sending" || state === "waiting") && (
        <button aria-label={`Pause ${name}`} onClick={() => pause(id)}>
          Pause
        </button>
      )}
      {(state === "paused" || state === "later") && (
        <button aria-label={`Resume ${name}`} onClick={() => resume(id)}>
          Resume
        </button>
      )}
      {state === "failed" && (
        <button aria-label={`Send ${name} again`} onClick={() => resume(id)}>
          Send again
        </button>
      )}
      <button aria-label={`Cancel the upload of ${name}`} onClick={() => cancel(id)}>
        ✕
      </button>
    </li>
  );
}

function told({ size, state, sent, message }: Upload): string {
  if (state === "sending") return `${bytes(sent)} of ${bytes(size)}`;
  if (state === "checking") return "sent; the server checks it";
  if (state === "paused") return `paused at ${Math.floor((100 * sent) / size)} %`;
  if (state === "later") return `${message} It will continue automatically.`;
  return message || "waits for its turn";
}
