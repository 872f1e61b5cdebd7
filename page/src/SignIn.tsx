import { useSignal } from "@preact/signals";
import { ApiError, signIn } from "./api/client.ts";

/** The way in. */
export function SignIn() {
  const error = useSignal("");
  const busy = useSignal(false);

  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const fields = new FormData(event.target as HTMLFormElement);
    busy.value = true;
    try {
      await signIn(String(fields.get("username")), String(fields.get("password")));
    } catch (caught) {
      error.value = caught instanceof ApiError ? caught.message : String(caught);
    } finally {
      busy.value = false;
    }
  }

  return (
    <main class="sign-in">
      <form onSubmit={submit}>
        <h1>
          <img src="/icon.svg" alt="" width="40" height="40" /> StemTube
        </h1>
        <label>
          Name
          <input name="username" autocomplete="username" autocapitalize="none" required autoFocus />
        </label>
        <label>
          Password
          <input name="password" type="password" autocomplete="current-password" required />
        </label>
        <p class="error" role="alert">
          {error}
        </p>
        <button class="primary" disabled={busy}>
          Sign in
        </button>
        <details>
          <summary>No password yet?</summary>
          <p>
            The first user is called admin; the password is in the file <code>secrets/admin-password</code> of the data folder,
            on the machine where StemTube runs. Whoever is admin makes accounts for others.
          </p>
        </details>
      </form>
    </main>
  );
}
