import { useState } from "preact/hooks";
import { call, user } from "../api/client.ts";
import { MAX_TOKEN_NAME } from "../api/contract.ts";
import type { ApiToken } from "../api/types.ts";
import { Panel, then, useAnswer, when } from "../parts/Panel.tsx";
import { Secret } from "../parts/Secret.tsx";
import { fail } from "../parts/toasts.tsx";

const DAYS = [7, 30, 90, 366];

/** API tokens for the user's scripts; creating one requires the password. */
export function Tokens() {
  const [answer, again] = useAnswer<{ apiTokens: ApiToken[] }>("/me/tokens");
  const [secret, setSecret] = useState("");
  if (!answer) return null;
  async function create(event: SubmitEvent) {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const fields = new FormData(form);
    const scopes = ["read", "write", "admin"].filter((scope) => scope === "read" || fields.get(scope));
    const lifetime = `${Number(fields.get("days")) * 86_400}s`;
    try {
      const wanted = { name: fields.get("name"), scopes, lifetime, password: fields.get("password") };
      setSecret((await call<{ secret: string }>("POST", "/me/tokens", wanted)).secret);
      form.reset();
      again();
    } catch (error) {
      fail(error);
    }
  }
  return (
    <Panel title="Tokens for scripts">
      <Secret text="The new token" secret={secret} />
      <ul class="choice">
        {answer.apiTokens.map(({ id, name, scopes, expireTime, lastUseTime }) => (
          <li key={id} class="row">
            <span>
              {name}{" "}
              <span class="faint">
                {scopes.join(", ")}; until {when(expireTime)}; last used: {when(lastUseTime)}
              </span>
            </span>
            <button aria-label={`Delete the token ${name}`} onClick={() => then(call("DELETE", `/me/tokens/${id}`), again)}>
              Delete
            </button>
          </li>
        ))}
      </ul>
      <form class="row" onSubmit={create}>
        <label>
          Name
          <input name="name" maxLength={MAX_TOKEN_NAME} required />
        </label>
        <label>
          Valid for
          <select name="days" defaultValue="90">
            {DAYS.map((days) => (
              <option key={days} value={days}>
                {days} days
              </option>
            ))}
          </select>
        </label>
        <label class="inline">
          <input type="checkbox" name="write" /> may change things
        </label>
        {user.value?.admin && (
          <label class="inline">
            <input type="checkbox" name="admin" /> may do what admins do
          </label>
        )}
        <label>
          Your password
          <input name="password" type="password" autocomplete="current-password" required />
        </label>
        <button>Make a token</button>
      </form>
    </Panel>
  );
}
