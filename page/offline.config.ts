import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "vite";

// The service worker, built after the page: it names all of the page's files, and changes with any of them.
const BUILT = "../gateway/web";
const names = readdirSync(BUILT, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name !== "sw.js")
  .map((entry) => join(entry.parentPath, entry.name).slice(BUILT.length).replaceAll("\\", "/"))
  .sort();
const hash = createHash("sha256");
for (const name of names) hash.update(name).update(readFileSync(BUILT + name));

export default defineConfig({
  publicDir: false,
  define: {
    FILES: JSON.stringify(names.map((name) => (name === "/index.html" ? "/" : name))),
    VERSION: JSON.stringify(hash.digest("hex").slice(0, 16)),
  },
  build: {
    outDir: BUILT,
    emptyOutDir: false,
    target: "es2023",
    // One classic script: not every browser takes modules as service workers.
    lib: { entry: "src/offline/worker.ts", formats: ["iife"], name: "worker", fileName: () => "sw.js" },
  },
});
