import { render } from "preact";
import { reportErrors } from "./api/errors.ts";
import { App } from "./App.tsx";
import { installWorker } from "./offline/updates.ts";
import { fail } from "./parts/toasts.tsx";
import { followLinks } from "./router.ts";
import "./styles/base.css";
import "./styles/library.css";
import "./styles/song.css";
import "./styles/mixer.css";
import "./styles/parts.css";
import "./styles/transport.css";
import "./styles/stand.css";
import "./styles/song_narrow.css";

reportErrors();
// The server no longer has the code of this version: there is a newer one.
window.addEventListener("vite:preloadError", () => location.reload());
followLinks();
render(<App />, document.getElementById("page")!);
installWorker().catch(fail);
