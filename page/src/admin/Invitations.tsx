import { useState } from "preact/hooks";
import { call } from "../api/client.ts";
import { DEFAULT_INVITATION_USES, MAX_INVITATION_USES } from "../api/contract.ts";
import type { Invitation, Registration } from "../api/types.ts";
import { Panel, then, useAnswer, when } from "../parts/Panel.tsx";
import { Secret } from "../parts/Secret.tsx";
import { fail } from "../parts/toasts.tsx";

const DAYS = [1, 7, 30, 366];

/** Invitations, with which people make their own accounts. */
export function Invitations() {
  const [registration] = useAnswer<Registration>("/auth/registration");
  const [answer, again] = useAnswer<{ invitations: Invitation[] }>("/admin/invitations");
  const [address, setAddress] = useState("");
  if (!answer || !registration) return null;

  async function create(event: SubmitEvent) {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    const wanted = { uses: Number(fields.get("uses")), lifetime: `${Number(fields.get("days")) * 86_400}s` };
    try {
      const { code } = await call<{ code: string }>("POST", "/admin/invitations", wanted);
      setAddress(`${location.origin}/register#${code}`);
      again();
    } catch (error) {
      fail(error);
    }
  }

  return (
    <Panel title="Invitations">
      {registration.open && <p>Anybody may make an account here, without an invitation.</p>}
      {!registration.open && !registration.byInvitation && (
        <p>
          Registration is closed. With the setting <code>STEMTUBE_AUTH__REGISTRATION=invitation</code> people with an invitation can make
          their own accounts.
        </p>
      )}
      <Secret text="The address to share" secret={address} />
      <ul class="choice">
        {answer.invitations.map(({ id, expireTime, usesLeft }) => (
          <li key={id} class="row">
            <span>
              For {usesLeft} {usesLeft === 1 ? "person" : "people"}, until {when(expireTime)}
            </span>
            <button onClick={() => then(call("DELETE", `/admin/invitations/${id}`), again)}>Withdraw</button>
          </li>
        ))}
      </ul>
      <form class="row" onSubmit={create}>
        <label>
          People
          <input name="uses" type="number" min={1} max={MAX_INVITATION_USES} defaultValue={DEFAULT_INVITATION_USES} required />
        </label>
        <label>
          Valid for
          <select name="days" defaultValue="7">
            {DAYS.map((days) => (
              <option key={days} value={days}>
                {days} {days === 1 ? "day" : "days"}
              </option>
            ))}
          </select>
        </label>
        <button>Invite</button>
      </form>
    </Panel>
  );
}
