/** Calls of the gateway's API. Cookies carry the session; an access token that has run out is renewed on the way. */

import { signal } from "@preact/signals";
import type { User } from "./types.ts";

const BASE = "/api/v1";

/** Who is signed in: null for nobody, undefined while it is not known yet. */
export const user = signal<User | null | undefined>(undefined);

/** The API refused, or nobody answers; the message is for a person, the reason for programs. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

let renewal: Promise<boolean> | undefined;

/** Exchanges the refresh cookie for new tokens, once for all who ask at the same time; false if nobody is signed in. */
export function renew(): Promise<boolean> {
  renewal ??= send("POST", "/auth/refresh")
    .then((response) => {
      if (response.status === 401) user.value = null;
      return response.ok;
    })
    .finally(() => (renewal = undefined));
  return renewal;
}

/**
 * Sends a request below /api/v1 and gives the answer's JSON.
 *
 * @throws ApiError what the API refuses it with; status 0 if nobody answers.
 */
export async function call<Answer>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Answer> {
  const response = await sendSignedIn(method, path, body, signal);
  return (await response.json()) as Answer;
}

/**
 * The bytes at a path that the API has told (it begins with /api).
 *
 * @param range first and last byte, both included.
 * @throws ApiError likewise.
 */
export async function fetchBytes(path: string, range?: [number, number], signal?: AbortSignal): Promise<Response> {
  const headers = range ? { Range: `bytes=${range[0]}-${range[1]}` } : undefined;
  return sendSignedIn("GET", path.slice(BASE.length), undefined, signal, headers);
}

async function sendSignedIn(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
  headers?: HeadersInit,
): Promise<Response> {
  let response = await send(method, path, body, signal, headers);
  if (response.status === 401 && (await renew())) response = await send(method, path, body, signal, headers);
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function send(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
  headers: HeadersInit = {},
): Promise<Response> {
  const isForm = body instanceof FormData;
  const init: RequestInit = { method, headers: new Headers(headers) };
  if (signal) init.signal = signal;
  if (isForm) init.body = body;
  else if (method !== "GET") {
    init.body = JSON.stringify(body ?? {});
    (init.headers as Headers).set("Content-Type", "application/json");
  }
  try {
    return await fetch(BASE + path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "OFFLINE", "StemTube does not answer. Check the network, then try again.");
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const status = (await response.json()) as { message: string; details?: { reason?: string }[] };
    return new ApiError(response.status, status.details?.[0]?.reason ?? "", status.message);
  } catch {
    return new ApiError(response.status, "", `The server answered with ${response.status}.`);
  }
}

/** Finds out who is signed in. */
export async function findUser(): Promise<void> {
  try {
    user.value = (await call<{ user: User }>("GET", "/me")).user;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    user.value = null;
  }
}

/** @throws ApiError wrong name or password (reason BAD_CREDENTIALS). */
export async function signIn(username: string, password: string): Promise<void> {
  const response = await send("POST", "/auth/login", { username, password });
  if (!response.ok) throw await errorOf(response);
  user.value = ((await response.json()) as { user: User }).user;
}

export async function signOut(): Promise<void> {
  await send("POST", "/auth/logout");
  user.value = null;
}

/** A query string of what is set. */
export function query(values: Record<string, string | number | boolean | undefined>): string {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== "" && value !== false);
  return set.length ? "?" + new URLSearchParams(set.map(([name, value]) => [name, String(value)])) : "";
}
