/** What the page and its service worker must agree on. */

/** The cache with the songs that are kept on this device. */
export const SONGS = "songs";
/** What the page sends to a new service worker that waits: take over. */
export const ACTIVATE = "activate";
