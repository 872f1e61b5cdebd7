import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { call, signIn } from "../api/client.ts";
import type { Registration } from "../api/types.ts";
import { oneTimePassword } from "./ChoosePassword.tsx";
import { EntryForm } from "./EntryForm.tsx";

/** The sign-in form. */
export function SignIn() {
  const registration = useSignal<Registration | undefined>(undefined);
  useEffect(() => {
    document.title = "Sign in – StemTube";
    // If this does not answer, signing in reports the error.
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
              With an invitation you can <a href="/register">make one</a>. The admins of this server give invitations.
            </p>
          )}
          {!open && !byInvitation && <p>The admins of this server make accounts, with a one-time password.</p>}
          <p>
            The first admin is called admin. StemTube prints the password when it first starts, and keeps it in the file{" "}
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
