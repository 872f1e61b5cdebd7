import { useState } from "preact/hooks";
import { call } from "../api/client.ts";
import type { User } from "../api/types.ts";
import { fail } from "../parts/toasts.tsx";
import { Panel, then, useAnswer } from "./Panel.tsx";

interface Account extends User {
  email: string;
  disabled: boolean;
}

/** All accounts; nothing on a server that has no such list. */
export function Users() {
  const [answer, again] = useAnswer<{ users: Account[] }>("/admin/users");
  const [password, setPassword] = useState("");
  if (!answer) return null;
  const change = (account: Account, what: object) => then(call("PATCH", `/admin/users/${account.id}`, what), again);

  async function create(event: SubmitEvent) {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const fields = new FormData(form);
    const wanted = { username: fields.get("username"), admin: fields.get("admin") !== null };
    try {
      const made = await call<{ oneTimePassword: string }>("POST", "/admin/users", wanted);
      setPassword(`${fields.get("username")} signs in once with ${made.oneTimePassword}`);
      form.reset();
      again();
    } catch (error) {
      fail(error);
    }
  }

  function reset(account: Account) {
    call<{ oneTimePassword: string }>("POST", `/admin/users/${account.id}/reset-password`)
      .then((made) => setPassword(`${account.username} signs in once with ${made.oneTimePassword}`))
      .catch(fail);
  }

  return (
    <Panel title="Users">
      {password && <p role="status">{password}</p>}
      <table>
        <thead>
          <tr>
            <th>Name</th>
            <th>State</th>
            <th>Change</th>
          </tr>
        </thead>
        <tbody>
          {answer.users.map((account) => (
            <tr key={account.id}>
              <td>{account.username}</td>
              <td>{[account.admin && "admin", account.disabled && "disabled"].filter(Boolean).join(", ")}</td>
              <td class="row">
                <button onClick={() => change(account, { disabled: !account.disabled })}>
                  {account.disabled ? "Enable" : "Disable"}
                </button>
                <button onClick={() => change(account, { admin: !account.admin })}>
                  {account.admin ? "No longer admin" : "Make admin"}
                </button>
                <button onClick={() => reset(account)}>New password</button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <form class="row" onSubmit={create}>
        <label>
          Name
          <input name="username" maxLength={64} required />
        </label>
        <label class="inline">
          <input type="checkbox" name="admin" /> admin
        </label>
        <button>Make an account</button>
      </form>
    </Panel>
  );
}
