import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { call, signIn } from "../api/client.ts";
import type { Registration } from "../api/types.ts";
import { oneTimePassword } from "./ChoosePassword.tsx";
import { EntryForm } from "./EntryForm.tsx";

/** The way in. */
export function SignIn() {
  const registration = useSignal<Registration | undefined>(undefined);
  useEffect(() => {
    document.title = "Sign in – StemTube";
    // Where this does not answer, signing in tells so.
    call<Registration>("GET", "/auth/registration")
      .then((answer) => (registration.value = answer))
      .catch(() => undefined);
  }, []);
  const { open, byInvitation } = registration.value ?? {};
  return (
    <EntryForm
      title="StemTube"
      action="Sign in"
      onSubmit={async ({ username, password }) => {
        await signIn(username!, password!);
        oneTimePassword.value = password!;
      }}
      below={
        <details>
          <summary>No account yet?</summary>
          {open && (
            <p>
              <a href="/register">Make one</a>
            </p>
          )}
          {byInvitation && !open && (
            <p>
              With an invitation you can <a href="/register">make one</a>. Whoever is admin here gives invitations.
            </p>
          )}
          {!open && !byInvitation && <p>Whoever is admin here makes accounts, with a password that is good once.</p>}
          <p>
            The first admin is called admin. StemTube tells the password when it first starts, and keeps it in the file{" "}
            <code>secrets/admin-password</code> of its data folder.
          </p>
        </details>
      }
    >
      <label>
        Name
        <input name="username" autocomplete="username" autocapitalize="none" required autoFocus />
      </label>
      <label>
        Password
        <input name="password" type="password" autocomplete="current-password" required />
      </label>
    </EntryForm>
  );
}
