/** Names that the page and its service worker share. */

/** The cache with the songs that are kept on this device. */
export const SONGS = "songs";
/** The page's message that activates a waiting service worker. */
export const ACTIVATE = "activate";
