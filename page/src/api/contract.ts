/** Generated from the contracts by `page/build.py types`: change those, not this file. */

export const PARTS = ["PART_BEATS", "PART_KEY", "PART_CHORDS", "PART_STRUCTURE", "PART_LYRICS"] as const;

export const MAX_USERNAME = 64;
export const MIN_PASSWORD = 8;
export const MAX_PASSWORD = 1_024;
export const MAX_TOKEN_NAME = 100;
export const MAX_TITLE = 300;
export const MAX_NOTES = 10_000;
export const MAX_PLAYLIST_NAME = 200;
export const MAX_QUERY = 200;
export const MAX_UPLOAD_METADATA = 8_000;
export const MAX_SECTION_LABEL = 40;
export const MAX_LINE_TEXT = 1_000;
export const MAX_LYRICS_TEXT = 20_000;
export const DEFAULT_PAGE = 50;
export const MAX_PAGE = 200;
export const DEFAULT_USERS_PAGE = 100;
export const MAX_USERS_PAGE = 1_000;
export const DEFAULT_FOUND = 10;
export const MAX_FOUND = 50;
export const MAX_LINK_ENTRIES = 200;
export const MAX_PLAYLIST_TRACKS = 1_000;
export const MAX_WORK_ITEMS = 200;
export const DEFAULT_INVITATION_USES = 1;
export const MAX_INVITATION_USES = 1_000;
export const MAX_BEATS_PER_BAR = 32;
export const MAX_SHIFTS = 20;
export const DEFAULT_TOKEN_DAYS = 90;
export const DEFAULT_INVITATION_DAYS = 7;
export const MAX_LIFETIME_DAYS = 366;
export const MAX_OVERLAP = 0.9;
export const MAX_CHUNK_BYTES = 1_048_576;
export const JOIN_SECONDS = 0.05;
