import { useEffect } from "preact/hooks";
import { register } from "../api/client.ts";
import { MAX_USERNAME } from "../api/contract.ts";
import { go } from "../router.ts";
import { EntryForm, NewPassword, wantedPassword } from "./EntryForm.tsx";

/** A new account, with an invitation if one is needed: its code may be in the address after a #, out of logs. */
export function Register() {
  useEffect(() => {
    document.title = "Make an account – StemTube";
  }, []);
  return (
    <EntryForm
      title="Make an account"
      action="Create account"
      onSubmit={async (fields) => {
        await register(fields.username!.trim(), wantedPassword(fields), fields.invitation!.trim());
        go("/");
      }}
      below={
        <p>
          <a href="/">I already have an account</a>
        </p>
      }
    >
      <label>
        Name
        <input name="username" autocomplete="username" autocapitalize="none" maxLength={MAX_USERNAME} required autoFocus />
      </label>
      <label>
        Invitation
        <input name="invitation" autocomplete="off" defaultValue={location.hash.slice(1)} />
        <span class="faint">The code that you were given; leave it empty where none is needed.</span>
      </label>
      <NewPassword />
    </EntryForm>
  );
}
