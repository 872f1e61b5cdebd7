import { useEffect, useState } from "preact/hooks";
import { call } from "../api/client.ts";
import type { Backend, Job, Model } from "../api/types.ts";
import { bytes, words } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import { Panel, useAnswer, when } from "./Panel.tsx";
import { Users } from "./Users.tsx";

interface Statistics {
  userCount: string;
  trackCount: string;
  deletedTrackCount: string;
  stemCount: string;
  storage: { kind: string; objectCount: string; bytes: string }[];
  storageTime?: string;
  jobs: { state: string; count: string }[];
}

interface Cleanup {
  job: Job;
  dryRun: boolean;
  report?: { objectCount: string; objectBytes: string; recordCount: string; expiredTrackCount: string };
}

const CLEANUP_MS = 1000;

/** What an operator needs: users, storage, cleanup, jobs, models. */
export function AdminView() {
  useEffect(() => {
    document.title = "Admin – StemTube";
  }, []);
  return (
    <div class="panels">
      <h1>Admin</h1>
      <Users />
      <Library />
      <CleanupPanel />
      <Models />
    </div>
  );
}

function Library() {
  const [statistics] = useAnswer<Statistics>("/admin/statistics");
  if (!statistics) return null;
  return (
    <Panel title="Library">
      <p>
        {statistics.trackCount} songs of {statistics.userCount} users, {statistics.stemCount} stems;{" "}
        {statistics.deletedTrackCount} deleted songs can still be brought back.
      </p>
      <p>{statistics.jobs.map(({ state, count }) => `${count} jobs ${state.slice(10).toLowerCase()}`).join(", ")}</p>
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
  );
}

function CleanupPanel() {
  const [cleanup, setCleanup] = useState<Cleanup>();
  const isRunning = cleanup?.job.state === "JOB_STATE_QUEUED" || cleanup?.job.state === "JOB_STATE_RUNNING";
  useEffect(() => {
    if (!isRunning) return undefined;
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
      <p>Looks for objects that no song needs, and for records whose objects are gone.</p>
      <div class="row">
        <button onClick={() => start(true)}>Only look</button>
        <button onClick={() => start(false)}>Clean up</button>
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
  return `${objectCount} objects (${bytes(Number(objectBytes))}), ${recordCount} records and ${expiredTrackCount} deleted songs ${verb}.`;
}

function Models() {
  const [models] = useAnswer<{ models: Model[] }>("/models");
  const [backends] = useAnswer<{ backends: Backend[] }>("/backends");
  const rows = [
    ...(models?.models ?? []).map((model) => ({ ...model, part: "stems" })),
    ...(backends?.backends ?? []).map((backend) => ({ ...backend, part: words(backend.part.slice(5).toLowerCase()) })),
  ];
  return (
    <Panel title="Models">
      <table>
        <thead>
          <tr>
            <th>For</th>
            <th>Name</th>
            <th>Licence</th>
            <th>State</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ part, name, license, availability, default: isDefault }) => (
            <tr key={`${part} ${name}`}>
              <td>{part}</td>
              <td>
                {name} {isDefault && <b>(auto)</b>}
              </td>
              <td>{license}</td>
              <td>{availability.available ? "ready" : availability.unavailableReason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}
