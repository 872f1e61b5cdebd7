import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { changePassword, signOut, user } from "../api/client.ts";
import { fail, tell } from "../parts/toasts.tsx";
import { EntryForm, NewPassword, wantedPassword } from "./EntryForm.tsx";

/** The password just signed in with, so that nobody types a one-time password twice; empty after a reload. */
export const oneTimePassword = signal("");

/** The form that replaces a one-time password by the user's own. */
export function ChoosePassword() {
  useEffect(() => {
    document.title = "Choose a password – StemTube";
  }, []);
  const known = oneTimePassword.value;
  return (
    <EntryForm
      title="Choose a password"
      action="Keep this password"
      onSubmit={async (fields) => {
        await changePassword(known || fields.old!, wantedPassword(fields));
        oneTimePassword.value = "";
        tell("Your password is changed. The one-time password is no longer valid.");
      }}
      below={
        <button type="button" onClick={() => signOut().catch(fail)}>
          Sign out
        </button>
      }
    >
      <p>Welcome, {user.value?.username}. You signed in with a one-time password. Choose your own now.</p>
      <input class="hidden" name="username" autocomplete="username" value={user.value?.username} readOnly tabIndex={-1} aria-hidden="true" />
      {!known && (
        <label>
          One-time password
          <input name="old" type="password" autocomplete="current-password" required />
        </label>
      )}
      <NewPassword />
    </EntryForm>
  );
}
