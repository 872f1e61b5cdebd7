/**
 * The service worker: the page itself comes from this device, and so do songs that are kept on it.
 *
 * A new version of the page waits until the user agrees to it. The page stores the songs (`kept.ts`); the worker only
 * reads them. Requests with `no-store` go to the server.
 */

import { ACTIVATE, SONGS } from "./names.ts";
import { partOf } from "./partial.ts";

declare const self: ServiceWorkerGlobalScope;
/** Inserted by the build: the page's files, and a hash of them all. */
declare const FILES: string[];
declare const VERSION: string;

const PREFIX = "page-";
const SHELL = PREFIX + VERSION;
const TRACK = /^\/api\/v1\/tracks\/[^/]+$/;
const MEDIA = /^\/api\/v1\/tracks\/[^/]+\/(audio|peaks|cover|stems\/.+)$/;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(FILES)));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

self.addEventListener("message", (event) => {
  if (event.data === ACTIVATE) void self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin || request.cache === "no-store") return;
  if (request.mode === "navigate") {
    if (!pathname.startsWith("/api")) event.respondWith(fromShell("/", request));
  } else if (FILES.includes(pathname)) event.respondWith(fromShell(pathname, request));
  else if (pathname === "/api/v1/me" || TRACK.test(pathname)) event.respondWith(serverFirst(request));
  else if (MEDIA.test(pathname)) event.respondWith(keptFirst(request));
});

async function takeOver(): Promise<void> {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== SHELL);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function fromShell(path: string, request: Request): Promise<Response> {
  return (await caches.match(path, { cacheName: SHELL, ignoreVary: true })) ?? fetch(request);
}

function kept(request: Request): Promise<Response | undefined> {
  return caches.match(request.url, { cacheName: SONGS, ignoreVary: true });
}

/** The server's answer, or the stored one if the server does not answer or a proxy reports that it is unreachable. */
async function serverFirst(request: Request): Promise<Response> {
  const answer = await fetch(request).catch(() => undefined);
  if (answer && ![502, 503, 504].includes(answer.status)) return answer;
  return (await kept(request)) ?? answer ?? Response.error();
}

async function keptFirst(request: Request): Promise<Response> {
  const whole = await kept(request);
  return whole ? partOf(whole, request.headers.get("Range")) : fetch(request);
}
