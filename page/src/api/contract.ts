/** Generated from the contracts by `page/build.py types`: change those, not this file. */

export const PARTS = ["PART_BEATS", "PART_KEY", "PART_CHORDS", "PART_STRUCTURE", "PART_LYRICS", "PART_TUNING"] as const;

export const MAX_USERNAME = 64;
export const MIN_PASSWORD = 8;
export const MAX_TOKEN_NAME = 100;
export const MAX_TITLE = 300;
export const MAX_NOTES = 10_000;
export const MAX_PLAYLIST_NAME = 200;
export const MAX_SECTION_LABEL = 40;
export const MAX_LINE_TEXT = 1_000;
export const MAX_PAGE = 200;
export const MAX_USERS_PAGE = 1_000;
export const DEFAULT_INVITATION_USES = 1;
export const MAX_INVITATION_USES = 1_000;
export const MAX_BEATS_PER_BAR = 32;
