/** The stream of all events of the user's tracks and jobs. */

import { signal } from "@preact/signals";
import { renew } from "./client.ts";
import type { TrackJob, WatchEventsResponse } from "./types.ts";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const NOT_SIGNED_IN = 4016;

export interface Listener {
  /** A job as it is now. */
  job(job: TrackJob): void;
  /** A part of a track is new. */
  changed(trackId: string, part: string): void;
  /** Connected (again): everything may have changed, and events of all unfinished jobs have arrived. */
  caughtUp(): void;
}

/** Whether the stream is connected. */
export const connected = signal(false);

/** Follows the stream, reconnecting when it breaks, until the returned function is called. */
export function watchEvents(listener: Listener): () => void {
  let socket: WebSocket | undefined;
  let timer: number | undefined;
  let wait = FIRST_WAIT_MS;
  let over = false;

  const open = () => {
    socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/v1/events`);
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data as string) as WatchEventsResponse;
      if (event.job) listener.job(event.job);
      else if (event.trackChanged) listener.changed(event.trackChanged.trackId, event.trackChanged.part);
      else if (event.snapshotEnd) {
        wait = FIRST_WAIT_MS;
        connected.value = true;
        listener.caughtUp();
      }
    };
    socket.onclose = async ({ code }) => {
      connected.value = false;
      if (over || (code === NOT_SIGNED_IN && !(await renew().catch(() => true)))) return;
      timer = window.setTimeout(open, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    };
  };
  open();
  return () => {
    over = true;
    clearTimeout(timer);
    socket?.close();
  };
}
