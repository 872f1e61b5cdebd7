import type { Job, TrackJob, TrackJobPart } from "../api/types.ts";
import { bytes, remaining, words } from "../parts/format.ts";

/** A bar for each part of a track's job while it runs, and afterwards the failed parts. */
export function JobBars({ job }: { job: TrackJob }) {
  const { state, error, eta } = job.job;
  if (state === "JOB_STATE_SUCCEEDED") return <Failures parts={job.parts} />;
  if (state === "JOB_STATE_CANCELLED") return <p class="faint">Cancelled</p>;
  if (state === "JOB_STATE_FAILED") {
    return (
      <>
        {error && !job.parts.some((part) => part.error) && <p class="error">{error.message}</p>}
        <Failures parts={job.parts} />
      </>
    );
  }
  return (
    <div class="bars">
      {job.parts.map((part) => (
        <Bar key={part.name} part={part} />
      ))}
      <p class="faint">{state === "JOB_STATE_QUEUED" ? waiting(job.job) : eta && remaining(eta)}</p>
    </div>
  );
}

function waiting({ queuePosition, lastError }: Job): string {
  if (lastError) return `Retrying soon. ${lastError.message}`;
  return queuePosition ? `Waiting, number ${queuePosition} in the queue` : "Waiting";
}

function Bar({ part }: { part: TrackJobPart }) {
  const done = part.state === "JOB_STATE_SUCCEEDED";
  const name = words(part.name);
  const detail = [
    done || part.stage === part.name ? "" : words(part.stage),
    part.bytesPerSecond ? `${bytes(part.bytesPerSecond)}/s` : "",
    part.eta && !done ? remaining(part.eta) : "",
  ];
  return (
    <div class="bar" data-state={part.state}>
      <span>{name}</span>
      <progress aria-label={name} max={1} value={done ? 1 : part.progress} />
      <span class="faint">{part.error?.message ?? detail.filter(Boolean).join(" · ")}</span>
    </div>
  );
}

function Failures({ parts }: { parts: TrackJobPart[] }) {
  return (
    <>
      {parts
        .filter((part) => part.error)
        .map((part) => (
          <p key={part.name} class="error">
            {words(part.name)}: {part.error!.message}
          </p>
        ))}
    </>
  );
}
