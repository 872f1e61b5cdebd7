import { defineConfig } from "vite";

// The gateway serves what is built here; `npm run dev` asks a gateway that runs.
const gateway = process.env.STEMTUBE_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  build: {
    outDir: "../gateway/web",
    emptyOutDir: true,
    // The policy of the page allows no data: scripts, and the sound engine is a module that a worklet loads by its address.
    assetsInlineLimit: 0,
    target: "es2023",
  },
  // The sound engine's worklet is built as a module of its own.
  worker: { format: "es" },
  server: { proxy: { "/api": { target: gateway, ws: true } } },
});
