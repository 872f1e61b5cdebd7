/** Names that the page and its service worker share. */

/** The cache with the songs that are kept on this device. */
export const SONGS = "songs";
/** The page's message that has a waiting service worker take over. */
export const ACTIVATE = "activate";
