import { useState } from "preact/hooks";
import { call } from "../api/client.ts";
import type { Availability, Backend, Model } from "../api/types.ts";
import { bytes, words } from "../parts/format.ts";
import { Panel, useAnswer } from "../parts/Panel.tsx";
import { fail, tell } from "../parts/toasts.tsx";

interface Row {
  service: "separation" | "analysis";
  part: string;
  name: string;
  license: string;
  isDefault: boolean;
  availability: Availability;
}

/** Models and backends: their sizes, whether they are installed, and fetching missing ones. */
export function Models() {
  const [models, modelsAgain] = useAnswer<{ models: Model[] }>("/models");
  const [backends, backendsAgain] = useAnswer<{ backends: Backend[] }>("/backends");
  const rows: Row[] = [
    ...(models?.models ?? []).map((model) => ({ ...model, service: "separation" as const, part: "stems", isDefault: model.default })),
    ...(backends?.backends ?? []).flatMap(rowsOf),
  ];
  const again = () => {
    modelsAgain();
    backendsAgain();
  };
  return (
    <Panel title="Models">
      <table>
        <thead>
          <tr>
            <th>For</th>
            <th>Name</th>
            <th>Licence</th>
            <th>Size</th>
            <th>State</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={`${row.part} ${row.name}`}>
              <td>{row.part}</td>
              <th scope="row">
                {row.name} {row.isDefault && <b>(auto)</b>}
              </th>
              <td>{row.license}</td>
              <td>{Number(row.availability.sizeBytes) > 0 && bytes(Number(row.availability.sizeBytes))}</td>
              <td>
                <State row={row} again={again} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  );
}

/** A backend and each of its models. */
function rowsOf(backend: Backend): Row[] {
  const part = words(backend.part.slice(5).toLowerCase());
  const { name, license, availability } = backend;
  const models = (backend.models ?? []).map((model) => ({ ...model, name: `${name}/${model.name}`, license: "" }));
  const own = { name, license, availability, default: backend.default };
  return [own, ...models].map((row) => ({ ...row, service: "analysis", part, isDefault: row.default }));
}

function State({ row, again }: { row: Row; again: () => void }) {
  const [fraction, setFraction] = useState<number>();
  const { available, present, unavailableReason } = row.availability;
  if (present) return <>here</>;
  if (!available) return <>{unavailableReason}</>;
  if (fraction !== undefined) return <progress aria-label={`Fetching ${row.name}`} max={1} value={fraction} />;
  return (
    <button
      aria-label={`Fetch ${row.name}`}
      onClick={() => {
        setFraction(0);
        // The stream does not renew an expired access token, but a call does.
        call("GET", "/me")
          .then(() => pull(row, setFraction))
          .then(() => tell(`${row.name} is here.${row.license && ` Licence: ${row.license}`}`))
          .catch(fail)
          .finally(() => {
            setFraction(undefined);
            again();
          });
      }}
    >
      Fetch
    </button>
  );
}

/** Makes the server fetch a model's weights, and shows the progress until the page is closed. */
function pull({ service, name }: Row, progress: (fraction: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const path = `/api/v1/admin/services/${service}/weights?model=${encodeURIComponent(name)}`;
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + path);
    let failure = "The connection was lost. The part that has arrived is kept; try again.";
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data as string) as { fraction?: number; error?: { message: string } };
      if (message.error) failure = message.error.message;
      else progress(message.fraction ?? 0);
    };
    socket.onclose = ({ code }) => (code === 1000 ? resolve() : reject(new Error(failure)));
  });
}
