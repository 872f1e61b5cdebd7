import { useEffect } from "preact/hooks";
import { MAX_USERS_PAGE } from "../api/contract.ts";
import type { Job, ServiceWork, User } from "../api/types.ts";
import { clock, remaining, words } from "../parts/format.ts";
import { Panel, useAnswer } from "../parts/Panel.tsx";

const SERVICES = [
  { name: "download", title: "Songs" },
  { name: "separation", title: "Separations" },
  { name: "analysis", title: "Analyses" },
];
const LOOK_MS = 2000;

/** The jobs of all users by queue, with their progress. */
export function Work() {
  const [users] = useAnswer<{ users: User[] }>(`/admin/users?pageSize=${MAX_USERS_PAGE}`);
  const names = new Map((users?.users ?? []).map(({ id, username }) => [id, username]));
  return (
    <>
      {SERVICES.map(({ name, title }) => (
        <Queue key={name} service={name} title={title} names={names} />
      ))}
    </>
  );
}

function Queue({ service, title, names }: { service: string; title: string; names: Map<string, string> }) {
  const [work, again] = useAnswer<ServiceWork>(`/admin/services/${service}/work`);
  useEffect(() => {
    const timer = setTimeout(again, LOOK_MS);
    return () => clearTimeout(timer);
  }, [work]);
  if (!work) return null;
  const { queued, running, oldestSeconds, slots, busy, jobs } = work;
  return (
    <Panel title={title}>
      <p>
        {queued} waiting{queued > 0 && ` (the first for ${clock(oldestSeconds)})`}, {running} running;{" "}
        {slots ? `this server is at ${busy} of at most ${slots}` : "the workers are other processes"}.
      </p>
      {jobs.length > 0 && (
        <table>
          <thead>
            <tr>
              <th>For</th>
              <th>What</th>
              <th>State</th>
              <th>Left</th>
            </tr>
          </thead>
          <tbody>
            {jobs.map(({ job, userId }) => (
              <tr key={job.id}>
                <td>{names.get(userId) ?? (userId || "the library itself")}</td>
                <td>{words(job.kind)}</td>
                <td>{stateOf(job)}</td>
                <td>{job.eta && remaining(job.eta)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

function stateOf({ state, queuePosition, stage, progress, lastError }: Job): string {
  if (state !== "JOB_STATE_QUEUED") return `${words(stage)}, ${Math.round(100 * progress)} %`;
  return lastError ? `tried again soon: ${lastError.message}` : `number ${queuePosition} in the queue`;
}
