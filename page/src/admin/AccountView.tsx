import { useEffect, useState } from "preact/hooks";
import { call, signOut, user } from "../api/client.ts";
import { bytes } from "../parts/format.ts";
import { fail, tell } from "../parts/toasts.tsx";
import { Panel, then, useAnswer, when } from "./Panel.tsx";

interface SessionInfo {
  id: string;
  lastUseTime?: string;
  address: string;
  client: string;
  current: boolean;
}

interface ApiToken {
  id: string;
  name: string;
  scopes: string[];
  expireTime?: string;
  lastUseTime?: string;
}

/** The user's own account: storage, password, sessions, tokens for scripts. */
export function AccountView() {
  useEffect(() => {
    document.title = "Account – StemTube";
  }, []);
  return (
    <div class="panels">
      <header class="title">
        <h1>{user.value?.username}</h1>
        <button onClick={() => signOut().catch(fail)}>Sign out</button>
      </header>
      <Storage />
      <Sessions />
      <ApiTokens />
    </div>
  );
}

function Storage() {
  const [use] = useAnswer<{ usedBytes: string; quotaBytes: string; trackCount: string }>("/storage");
  if (!use) return null;
  const quota = Number(use.quotaBytes);
  return (
    <Panel title="Storage">
      <p>
        {use.trackCount} songs take {bytes(Number(use.usedBytes))}
        {quota > 0 && ` of ${bytes(quota)}`}.
      </p>
      {quota > 0 && <progress aria-label="Storage used" max={quota} value={Number(use.usedBytes)} />}
    </Panel>
  );
}

function Sessions() {
  const [answer, again] = useAnswer<{ sessions: SessionInfo[] }>("/me/sessions");
  if (!answer) return null;
  return (
    <>
      <Panel title="Password">
        <PasswordForm />
      </Panel>
      <Panel title="Where you are signed in">
        <table>
          <thead>
            <tr>
              <th>Last use</th>
              <th>From</th>
              <th>With</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {answer.sessions.map(({ id, lastUseTime, address, client, current }) => (
              <tr key={id}>
                <td>{when(lastUseTime)}</td>
                <td>{address}</td>
                <td>{client}</td>
                <td>
                  {current ? "here" : <button onClick={() => then(call("DELETE", `/me/sessions/${id}`), again)}>Sign out</button>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
        <button onClick={() => then(call("DELETE", "/me/sessions"), again)}>Sign out everywhere else</button>
      </Panel>
    </>
  );
}

/** A new password for the old one; all other sessions end. */
export function PasswordForm({ onDone }: { onDone?: () => void }) {
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const fields = new FormData(form);
    try {
      await call("POST", "/auth/password", { oldPassword: fields.get("old"), newPassword: fields.get("new") });
      form.reset();
      tell("The password is changed.");
      onDone?.();
    } catch (error) {
      fail(error);
    }
  }
  return (
    <form class="row" onSubmit={submit}>
      <label>
        Old password
        <input name="old" type="password" autocomplete="current-password" required />
      </label>
      <label>
        New password
        <input name="new" type="password" autocomplete="new-password" minLength={8} required />
      </label>
      <button class="primary">Change</button>
    </form>
  );
}

function ApiTokens() {
  const [answer, again] = useAnswer<{ apiTokens: ApiToken[] }>("/me/tokens");
  const [secret, setSecret] = useState("");
  if (!answer) return null;
  async function create(event: SubmitEvent) {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    const scopes = fields.get("write") ? ["read", "write"] : ["read"];
    try {
      setSecret((await call<{ secret: string }>("POST", "/me/tokens", { name: fields.get("name"), scopes })).secret);
      again();
    } catch (error) {
      fail(error);
    }
  }
  return (
    <Panel title="Tokens for scripts">
      {secret && (
        <p role="status">
          The new token, which is shown this once: <code>{secret}</code>
        </p>
      )}
      <ul class="choice">
        {answer.apiTokens.map(({ id, name, scopes, expireTime, lastUseTime }) => (
          <li key={id} class="row">
            <span>
              {name}{" "}
              <span class="faint">
                {scopes.join(", ")}; until {when(expireTime)}; last used: {when(lastUseTime)}
              </span>
            </span>
            <button onClick={() => then(call("DELETE", `/me/tokens/${id}`), again)}>Delete</button>
          </li>
        ))}
      </ul>
      <form class="row" onSubmit={create}>
        <label>
          Name
          <input name="name" maxLength={100} required />
        </label>
        <label class="inline">
          <input type="checkbox" name="write" /> may change things
        </label>
        <button>Make a token</button>
      </form>
    </Panel>
  );
}
