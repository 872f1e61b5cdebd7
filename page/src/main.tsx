import { render } from "preact";
import { App } from "./App.tsx";
import { followLinks } from "./router.ts";
import "./styles/base.css";
import "./styles/library.css";
import "./styles/song.css";

followLinks();
render(<App />, document.getElementById("page")!);
