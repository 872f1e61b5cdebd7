import { useEffect } from "preact/hooks";
import { findUser, user } from "./api/client.ts";
import { connected, watchEvents } from "./api/events.ts";
import { AccountView, PasswordForm } from "./admin/AccountView.tsx";
import { AdminView } from "./admin/AdminView.tsx";
import { LibraryView } from "./library/LibraryView.tsx";
import * as library from "./library/state.ts";
import { fail, Toasts } from "./parts/toasts.tsx";
import { route } from "./router.ts";
import { SignIn } from "./SignIn.tsx";
import { SongView } from "./song/SongView.tsx";

/** The whole page: who is signed in sees a view, anybody else the way in. */
export function App() {
  useEffect(() => void findUser().catch(fail), []);
  const mustChange = user.value?.mustChangePassword ?? false;
  const id = mustChange ? undefined : user.value?.id;
  useEffect(() => (id ? watchEvents(library.listener) : undefined), [id]);
  if (user.value === undefined) return <Toasts />;
  if (user.value === null) return <SignIn />;
  if (mustChange) {
    return (
      <main>
        <h1>Choose a password</h1>
        <PasswordForm onDone={() => findUser().catch(fail)} />
        <Toasts />
      </main>
    );
  }
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Head />
      <main id="main" tabIndex={-1}>
        <View />
      </main>
      <Toasts />
    </>
  );
}

function Head() {
  const [view] = route.value;
  const here = (name: string | undefined) => (view === name ? "page" : undefined);
  return (
    <header class="head">
      <a class="brand" href="/" aria-current={here(undefined)}>
        <img src="/icon.svg" alt="" width="28" height="28" />
        StemTube
      </a>
      {!connected.value && (
        <span class="faint" role="status">
          Connecting …
        </span>
      )}
      <nav aria-label="Views">
        {user.value?.admin && (
          <a href="/admin" aria-current={here("admin")}>
            Admin
          </a>
        )}
        <a href="/account" aria-current={here("account")}>
          {user.value?.username}
        </a>
      </nav>
    </header>
  );
}

function View() {
  const [view, id] = route.value;
  if (view === undefined) return <LibraryView />;
  if (view === "songs" && id) return <SongView key={id} id={id} />;
  if (view === "account") return <AccountView />;
  if (view === "admin") return <AdminView />;
  return (
    <p class="empty">
      There is nothing here. <a href="/">To the library</a>
    </p>
  );
}
