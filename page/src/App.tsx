import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { findUser, user } from "./api/client.ts";
import { connected, watchEvents } from "./api/events.ts";
import { ChoosePassword } from "./entry/ChoosePassword.tsx";
import { Register } from "./entry/Register.tsx";
import { SignIn } from "./entry/SignIn.tsx";
import { LibraryView } from "./library/LibraryView.tsx";
import * as library from "./library/state.ts";
import { findKept } from "./offline/kept.ts";
import { UpdateNotice } from "./offline/UpdateNotice.tsx";
import { later } from "./parts/later.tsx";
import { fail, Toasts } from "./parts/toasts.tsx";
import { route } from "./router.ts";
import { resumeUploads } from "./uploads/queue.ts";

const SongView = later(async () => (await import("./song/SongView.tsx")).SongView);
const AccountView = later(async () => (await import("./account/AccountView.tsx")).AccountView);
const AdminView = later(async () => (await import("./admin/AdminView.tsx")).AdminView);

/** The whole page: a view for users who are signed in, the sign-in form for others. */
export function App() {
  return (
    <>
      <Page />
      <UpdateNotice />
      <Toasts />
    </>
  );
}

function Page() {
  const error = useSignal("");
  const find = () => {
    error.value = "";
    findUser().catch((caught: Error) => (error.value = caught.message));
  };
  useEffect(find, []);
  const mustChange = user.value?.mustChangePassword ?? false;
  const id = mustChange ? undefined : user.value?.id;
  useEffect(() => (id ? enter(id) : undefined), [id]);
  if (error.value) return <NoAnswer error={error.value} onAgain={find} />;
  if (user.value === undefined) return null;
  if (user.value === null) return route.value[0] === "register" ? <Register /> : <SignIn />;
  if (mustChange) return <ChoosePassword />;
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Head />
      <main id="main" tabIndex={-1}>
        <View />
      </main>
    </>
  );
}

/** Starts the background work of a signed-in user; returns a function that ends it. */
function enter(userId: string): () => void {
  findKept(userId).catch(fail);
  resumeUploads(userId).catch(fail);
  const stop = watchEvents(library.listener);
  return () => {
    stop();
    library.clear();
  };
}

function NoAnswer({ error, onAgain }: { error: string; onAgain: () => void }) {
  return (
    <main class="empty">
      <h1>StemTube</h1>
      <p role="alert">{error}</p>
      <button class="primary" onClick={onAgain}>
        Try again
      </button>
    </main>
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
          {navigator.onLine ? "Connecting …" : "Offline"}
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
  if (view === "admin" && user.value?.admin) return <AdminView section={id ?? ""} />;
  return (
    <p class="empty">
      There is nothing here. <a href="/">To the library</a>
    </p>
  );
}
