import { useState } from "preact/hooks";
import { call, user } from "../api/client.ts";
import { MAX_USERNAME, MAX_USERS_PAGE } from "../api/contract.ts";
import type { User, UserStorage } from "../api/types.ts";
import { bytes } from "../parts/format.ts";
import { Panel, then, useAnswer, when } from "../parts/Panel.tsx";
import { Secret } from "../parts/Secret.tsx";
import { fail } from "../parts/toasts.tsx";

const GIGABYTE = 1e9;

/** All accounts: creating and disabling them, changing passwords, rights and storage limits. */
export function Users() {
  const [answer, again] = useAnswer<{ users: User[] }>(`/admin/users?pageSize=${MAX_USERS_PAGE}`);
  const [storage, measureAgain] = useAnswer<{ users: UserStorage[] }>("/admin/storage");
  const [made, setMade] = useState({ text: "", secret: "" });
  if (!answer) return null;
  const change = (account: User, what: object) => then(call("PATCH", `/admin/users/${account.id}`, what), again);
  const tellPassword = (name: unknown, password: string) =>
    setMade({ text: `The one-time password of ${name}, for signing in and choosing a new one`, secret: password });

  async function create(event: SubmitEvent) {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const fields = new FormData(form);
    const wanted = { username: fields.get("username"), admin: fields.get("admin") !== null };
    try {
      const { oneTimePassword } = await call<{ oneTimePassword: string }>("POST", "/admin/users", wanted);
      tellPassword(wanted.username, oneTimePassword);
      form.reset();
      again();
    } catch (error) {
      fail(error);
    }
  }

  function reset(account: User) {
    const { id, username } = account;
    const done = call<{ oneTimePassword: string }>("POST", `/admin/users/${id}/reset-password`);
    then(done.then(({ oneTimePassword }) => tellPassword(username, oneTimePassword)), again);
  }

  return (
    <Panel title="Users">
      <Secret {...made} />
      <table>
        <thead>
          <tr>
            <th>Name</th>
            <th>Since</th>
            <th>State</th>
            <th>Storage</th>
            <th>Change</th>
          </tr>
        </thead>
        <tbody>
          {answer.users.map((account) => (
            <tr key={account.id}>
              <th scope="row">{account.username}</th>
              <td>{when(account.createTime)}</td>
              <td>{stateOf(account)}</td>
              <td>
                <Room account={account} storage={storage?.users.find(({ userId }) => userId === account.id)} again={measureAgain} />
              </td>
              <td>
                <div class="row">
                  <button aria-label={`New password for ${account.username}`} onClick={() => reset(account)}>
                    New password
                  </button>
                  {account.id !== user.value?.id && (
                    <>
                      <button
                        aria-label={`${account.disabled ? "Enable" : "Disable"} ${account.username}`}
                        onClick={() => change(account, { disabled: !account.disabled })}
                      >
                        {account.disabled ? "Enable" : "Disable"}
                      </button>
                      <button
                        aria-label={account.admin ? `Take admin rights from ${account.username}` : `Make ${account.username} admin`}
                        onClick={() => change(account, { admin: !account.admin })}
                      >
                        {account.admin ? "No longer admin" : "Make admin"}
                      </button>
                    </>
                  )}
                </div>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <form class="row" onSubmit={create}>
        <label>
          Name
          <input name="username" maxLength={MAX_USERNAME} required />
        </label>
        <label class="inline">
          <input type="checkbox" name="admin" /> admin
        </label>
        <button>Make an account</button>
      </form>
    </Panel>
  );
}

function stateOf({ admin, disabled, mustChangePassword }: User): string {
  return [admin && "admin", disabled && "disabled", mustChangePassword && "has a one-time password"].filter(Boolean).join(", ");
}

/** A user's storage, and a field for its limit. */
function Room({ account, storage, again }: { account: User; storage: UserStorage | undefined; again: () => void }) {
  const quota = Number(storage?.quotaBytes ?? 0);
  function keep(event: Event) {
    const text = (event.currentTarget as HTMLInputElement).value;
    const quota = text === "" ? {} : { quotaBytes: String(Math.round(Number(text) * GIGABYTE)) };
    then(call("PUT", `/admin/storage/${account.id}`, quota), again);
  }
  return (
    <label class="inline">
      {bytes(Number(storage?.usedBytes ?? 0))} of
      <input
        type="number"
        min={0}
        step="any"
        size={5}
        aria-label={`Storage limit of ${account.username} in GB; 0 for no limit, empty for the default`}
        placeholder="no limit"
        value={quota ? quota / GIGABYTE : ""}
        onChange={keep}
      />
      GB
    </label>
  );
}
