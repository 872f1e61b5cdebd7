import { useEffect, useState } from "preact/hooks";
import { call, changePassword, signOut, user } from "../api/client.ts";
import type { SessionInfo, StorageUse } from "../api/types.ts";
import { NewPassword, wantedPassword } from "../entry/EntryForm.tsx";
import { dropAll, kept } from "../offline/kept.ts";
import { bytes } from "../parts/format.ts";
import { fail, tell } from "../parts/toasts.tsx";
import { Panel, then, useAnswer, when } from "../parts/Panel.tsx";
import { KeptSongs } from "./KeptSongs.tsx";
import { Tokens } from "./Tokens.tsx";

/** The user's own account: storage, songs on this device, password, sessions, tokens for scripts. */
export function AccountView() {
  // A new password ends sessions and tokens, so the lists are fetched again.
  const [changes, setChanges] = useState(0);
  useEffect(() => {
    document.title = "Account – StemTube";
  }, []);
  return (
    <div class="panels">
      <header class="title">
        <h1>{user.value?.username}</h1>
        <button onClick={() => leave().catch(fail)}>Sign out</button>
      </header>
      {kept.value.size > 0 && <p class="faint">Signing out removes the songs that are kept on this device.</p>}
      <Storage />
      <KeptSongs />
      <Password changed={() => setChanges((before) => before + 1)} />
      <Sessions key={`sessions ${changes}`} />
      <Tokens key={`tokens ${changes}`} />
    </div>
  );
}

/** Signs out; nothing of the user stays on this device. */
async function leave(): Promise<void> {
  await signOut();
  await dropAll();
}

function Storage() {
  const [use] = useAnswer<StorageUse>("/storage");
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
                  {current ? "here" : <button aria-label={`Sign out there: ${client}`} onClick={() => then(call("DELETE", `/me/sessions/${id}`), again)}>Sign out</button>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
        <button onClick={() => then(call("DELETE", "/me/sessions"), again)}>Sign out everywhere else</button>
      </Panel>
  );
}

/** Changes the password; all other sessions end, and tokens for scripts too, unless they are kept. */
function Password({ changed }: { changed: () => void }) {
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const fields = Object.fromEntries(new FormData(form)) as Record<string, string>;
    try {
      const endTokens = "tokens" in fields;
      await changePassword(fields.old!, wantedPassword(fields), endTokens);
      form.reset();
      changed();
      tell(`The password is changed. You are signed out everywhere else${endTokens ? ", and tokens for scripts are no longer valid" : ""}.`);
    } catch (error) {
      fail(error);
    }
  }
  return (
    <Panel title="Password">
      <form class="narrow" onSubmit={submit}>
        <label>
          Old password
          <input name="old" type="password" autocomplete="current-password" required />
        </label>
        <NewPassword />
        <label class="inline">
          <input type="checkbox" name="tokens" defaultChecked /> end my tokens for scripts as well
        </label>
        <button class="primary">Change</button>
      </form>
    </Panel>
  );
}
