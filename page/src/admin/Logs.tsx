import { useState } from "preact/hooks";
import { query } from "../api/client.ts";
import type { LogRecord } from "../api/types.ts";
import { Panel, useAnswer } from "../parts/Panel.tsx";

const SERVICES = ["gateway", "auth", "download", "separation", "analysis"];
const LEVELS = ["debug", "info", "warning", "error"];

/** The last lines of a process's log, the newest first. */
export function Logs() {
  const [service, setService] = useState("gateway");
  const [level, setLevel] = useState("info");
  const [text, setText] = useState("");
  const [answer, again] = useAnswer<{ records: LogRecord[] }>(`/admin/services/${service}/log` + query({ level, text }));
  return (
    <Panel title="Logs">
      <div class="row">
        <label>
          Of
          <select value={service} onChange={(event) => setService(event.currentTarget.value)}>
            {SERVICES.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          From level
          <select value={level} onChange={(event) => setLevel(event.currentTarget.value)}>
            {LEVELS.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Containing
          <input type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <button onClick={again}>Refresh</button>
      </div>
      <p class="faint">The last records in the memory of the process that answers. Its settings say where the whole log is.</p>
      {answer && !answer.records.length && <p>No records.</p>}
      <table class="log">
        <tbody>
          {answer?.records.map(({ time, level: own, event, fields }, index) => (
            <tr key={`${time} ${index}`}>
              <td>{new Date(time).toLocaleTimeString()}</td>
              <td class={own === "error" || own === "critical" ? "error" : undefined}>{own}</td>
              <td>
                {event} <span class="faint">{written(fields)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

function written(fields: Record<string, string>): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}
