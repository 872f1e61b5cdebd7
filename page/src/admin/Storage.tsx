import { useEffect, useState } from "preact/hooks";
import { call } from "../api/client.ts";
import type { Cleanup, Statistics } from "../api/types.ts";
import { bytes } from "../parts/format.ts";
import { Panel, useAnswer, when } from "../parts/Panel.tsx";
import { fail } from "../parts/toasts.tsx";

const CLEANUP_MS = 1000;

/** The library's storage and its cleanup. */
export function Storage() {
  const [statistics, again] = useAnswer<Statistics>("/admin/statistics");
  if (!statistics) return null;
  return (
    <>
      <Panel title="Library">
        <p>
          {statistics.trackCount} songs of {statistics.userCount} users, {statistics.stemCount} stems; {statistics.deletedTrackCount}{" "}
          deleted songs can still be brought back.
        </p>
        {statistics.storage.length > 0 && (
          <table>
            <caption class="faint">Storage, counted {when(statistics.storageTime)}</caption>
            <tbody>
              {statistics.storage.map(({ kind, objectCount, bytes: size }) => (
                <tr key={kind}>
                  <th scope="row">{kind}</th>
                  <td>{objectCount} objects</td>
                  <td>{bytes(Number(size))}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
      <CleanupPanel onEnd={again} />
    </>
  );
}

function CleanupPanel({ onEnd }: { onEnd: () => void }) {
  const [cleanup, setCleanup] = useState<Cleanup>();
  const isRunning = cleanup?.job.state === "JOB_STATE_QUEUED" || cleanup?.job.state === "JOB_STATE_RUNNING";
  useEffect(() => {
    if (!isRunning) {
      if (cleanup) onEnd();
      return undefined;
    }
    const timer = setTimeout(() => {
      call<{ cleanup: Cleanup }>("GET", `/admin/cleanups/${cleanup.job.id}`)
        .then((answer) => setCleanup(answer.cleanup))
        .catch(fail);
    }, CLEANUP_MS);
    return () => clearTimeout(timer);
  }, [cleanup]);
  const start = (dryRun: boolean) =>
    call<{ cleanup: Cleanup }>("POST", "/admin/cleanups", { dryRun })
      .then((answer) => setCleanup(answer.cleanup))
      .catch(fail);
  return (
    <Panel title="Cleanup">
      <p>Looks for objects that no song needs, and for records whose objects are missing.</p>
      <div class="row">
        <button disabled={isRunning} onClick={() => start(true)}>
          Check only
        </button>
        <button disabled={isRunning} onClick={() => start(false)}>
          Clean up
        </button>
      </div>
      <p role="status">{cleanup && outcome(cleanup, isRunning)}</p>
    </Panel>
  );
}

function outcome({ job, dryRun, report }: Cleanup, isRunning: boolean): string {
  if (isRunning) return "Looking …";
  if (!report) return job.error?.message ?? "It was cancelled.";
  const verb = dryRun ? "would go" : "went";
  const { objectCount, objectBytes, recordCount, expiredTrackCount } = report;
  if (report.heldBack) return report.heldBack;
  return `${objectCount} objects (${bytes(Number(objectBytes))}), ${recordCount} records and ${expiredTrackCount} deleted songs ${verb}.`;
}
