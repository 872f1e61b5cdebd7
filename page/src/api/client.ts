/** Calls of the gateway's API. Cookies carry the session; an expired access token is renewed automatically. */

import { signal } from "@preact/signals";
import type { User } from "./types.ts";

const BASE = "/api/v1";
const NOT_MODIFIED = 304;

/** The signed-in user: null for nobody, undefined while it is not known yet. */
export const user = signal<User | null | undefined>(undefined);

/** An error of the API, or no answer; the message is for users, the reason for programs. */
export class ApiError extends Error {
  /** 0 if nobody answers. */
  readonly status: number;
  readonly reason: string;
  /** When the request may be repeated; 0 if the answer does not say. */
  readonly retrySeconds: number;

  constructor(status: number, reason: string, message: string, retrySeconds = 0) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.retrySeconds = retrySeconds;
  }
}

/** There is no answer, or a proxy says so. */
export function isOffline(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || error.status >= 502);
}

let renewal: Promise<boolean> | undefined;

/** Exchanges the refresh cookie for new tokens, once for all callers at the same time; false if nobody is signed in. */
export function renew(): Promise<boolean> {
  renewal ??= send("POST", "/auth/refresh", { json: {} })
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
export async function call<Answer>(method: string, path: string, json?: unknown, signal?: AbortSignal): Promise<Answer> {
  const options = method === "GET" ? {} : { json: json ?? {} };
  const response = await request(method, path, { ...options, ...(signal && { signal }) });
  return (await response.json()) as Answer;
}

/**
 * The bytes at a path that the API has told (it begins with /api).
 *
 * @param range first and last byte, both included.
 * @throws ApiError likewise.
 */
export async function fetchBytes(path: string, range?: [number, number], signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = range ? { Range: `bytes=${range[0]}-${range[1]}` } : {};
  return request("GET", path.slice(BASE.length), { headers, ...(signal && { signal }) });
}

interface RequestOptions {
  json?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** "no-store": not from this device either. */
  cache?: RequestCache;
}

/**
 * Sends a request below /api/v1 and gives its answer: a good one, or that nothing has changed (304).
 *
 * @throws ApiError likewise.
 */
export async function request(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
  let response = await send(method, path, options);
  if (response.status === 401 && (await renew())) response = await send(method, path, options);
  if (!response.ok && response.status !== NOT_MODIFIED) throw await refusal(response);
  return response;
}

async function send(method: string, path: string, { json, headers, signal, cache }: RequestOptions): Promise<Response> {
  const init: RequestInit = { method, headers: { ...headers, ...(json !== undefined && { "Content-Type": "application/json" }) } };
  if (json !== undefined) init.body = JSON.stringify(json);
  if (signal) init.signal = signal;
  if (cache) init.cache = cache;
  try {
    return await fetch(BASE + path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw noAnswer();
  }
}

async function refusal(response: Response): Promise<ApiError> {
  return errorOf(response.status, response.headers.get("Retry-After"), await response.text());
}

/** The error for a missing answer. */
export function noAnswer(): ApiError {
  return new ApiError(0, "OFFLINE", "StemTube does not answer. Check the network, then try again.");
}

/** The error of an answer that reports one. */
export function errorOf(status: number, retryAfter: string | null, body: string): ApiError {
  const seconds = Number(retryAfter ?? 0) || 0;
  try {
    const { message, details } = JSON.parse(body) as { message: string; details?: { reason?: string }[] };
    return new ApiError(status, details?.[0]?.reason ?? "", message, seconds);
  } catch {
    const waiting = status >= 502 ? "StemTube is starting or too busy; try again in a moment." : `The server answered with ${status}.`;
    return new ApiError(status, "", waiting, seconds);
  }
}

/** Fetches the signed-in user. */
export async function findUser(): Promise<void> {
  try {
    user.value = (await call<{ user: User }>("GET", "/me")).user;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    user.value = null;
  }
}

/** @throws ApiError wrong name or password (reason BAD_CREDENTIALS), or too many attempts (TOO_MANY_ATTEMPTS). */
export function signIn(username: string, password: string): Promise<void> {
  return enter("/auth/login", { username, password });
}

/** Makes an account and signs in. @throws ApiError what it is refused with. */
export function register(username: string, password: string, invitation: string): Promise<void> {
  return enter("/auth/register", { username, password, invitation });
}

/**
 * Changes the password; all other sessions end, and tokens for scripts too, unless the user keeps them.
 *
 * @throws ApiError what it is refused with.
 */
export async function changePassword(oldPassword: string, newPassword: string, endApiTokens = true): Promise<void> {
  user.value = (await call<{ user: User }>("POST", "/auth/password", { oldPassword, newPassword, endApiTokens })).user;
}

async function enter(path: string, json: object): Promise<void> {
  const response = await send("POST", path, { json });
  if (!response.ok) throw await refusal(response);
  user.value = ((await response.json()) as { user: User }).user;
}

/** @throws ApiError nobody answers: the session stays valid. */
export async function signOut(): Promise<void> {
  await send("POST", "/auth/logout", { json: {} });
  user.value = null;
}

/** A query string of what is set. */
export function query(values: Record<string, string | number | boolean | undefined>): string {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== "" && value !== false && value !== 0);
  return set.length ? "?" + new URLSearchParams(set.map(([name, value]) => [name, String(value)])) : "";
}
