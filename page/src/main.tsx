import { render } from "preact";
import { reportErrors } from "./api/errors.ts";
import { App } from "./App.tsx";
import { followLinks } from "./router.ts";
import "./styles/base.css";
import "./styles/library.css";
import "./styles/song.css";

reportErrors();
followLinks();
render(<App />, document.getElementById("page")!);
