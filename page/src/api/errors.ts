/** Reports the page's errors to the operator: errors that nobody catches go to the gateway's log. */

const ADDRESS = "/api/v1/page/errors";
const MOST = 10;
// The gateway's limits.
const LONGEST_MESSAGE = 1000;
const LONGEST_STACK = 8000;
const LONGEST_PAGE = 1000;

export type Kind = "error" | "rejection";

export interface PageError {
  kind: Kind;
  message: string;
  stack: string;
  page: string;
}

/** Sends each error once, and few in all. */
export class ErrorReporter {
  readonly #send: (error: PageError) => Promise<boolean>;
  readonly #page: () => string;
  readonly #told = new Set<string>();
  #off = false;

  /**
   * @param send gives whether further ones are wanted.
   * @param page the path of the present address.
   */
  constructor(send: (error: PageError) => Promise<boolean>, page: () => string) {
    this.#send = send;
    this.#page = page;
  }

  /** Reports an error, unless it was reported before, or comes from an abort. */
  report(kind: Kind, thrown: unknown): void {
    const error = thrown instanceof Error ? thrown : undefined;
    if (error?.name === "AbortError") return;
    const message = (error ? `${error.name}: ${error.message}` : String(thrown)).slice(0, LONGEST_MESSAGE);
    const stack = (error?.stack ?? "").slice(0, LONGEST_STACK);
    const key = `${message}\n${stack}`;
    if (this.#off || this.#told.has(key) || this.#told.size >= MOST) return;
    this.#told.add(key);
    this.#send({ kind, message, stack, page: this.#page().slice(0, LONGEST_PAGE) }).then(
      (wanted) => (this.#off ||= !wanted),
      () => undefined, // Nobody answers, so it cannot be reported.
    );
  }
}

/** Starts to report errors that nobody catches. */
export function reportErrors(): void {
  const reporter = new ErrorReporter(post, () => location.pathname);
  window.addEventListener("error", (event) => reporter.report("error", event.error ?? event.message));
  window.addEventListener("unhandledrejection", (event) => reporter.report("rejection", event.reason));
}

async function post(error: PageError): Promise<boolean> {
  const response = await fetch(ADDRESS, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(error),
    keepalive: true, // also while the page is being closed
  });
  return response.status !== 404;
}
