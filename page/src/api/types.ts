/** The API's messages as ProtoJSON has them; times are seconds from a song's start unless they are ISO texts. */

export interface User {
  id: string;
  username: string;
  admin: boolean;
  /** The password is good for nothing but to choose another. */
  mustChangePassword?: boolean;
}

export type JobState =
  | "JOB_STATE_UNSPECIFIED"
  | "JOB_STATE_QUEUED"
  | "JOB_STATE_RUNNING"
  | "JOB_STATE_SUCCEEDED"
  | "JOB_STATE_FAILED"
  | "JOB_STATE_CANCELLED";

export interface JobError {
  reason: string;
  message: string;
  retryable: boolean;
}

export interface Job {
  id: string;
  kind: string;
  state: JobState;
  progress: number;
  stage: string;
  eta?: string;
  queuePosition: number;
  error?: JobError;
  createTime?: string;
  nextAttemptTime?: string;
  lastError?: JobError;
}

export interface LiveStem {
  name: string;
  playlist: string;
}

export interface TrackJobPart {
  name: string;
  state: JobState;
  progress: number;
  stage: string;
  eta?: string;
  queuePosition: number;
  error?: JobError;
  live?: { stems: LiveStem[]; readySeconds: number };
  bytesPerSecond: number;
}

export interface TrackJob {
  job: Job;
  trackId: string;
  parts: TrackJobPart[];
}

export interface Provenance {
  backend: string;
  model: string;
  version: string;
  substitution: string;
}

export interface Beat {
  time: number;
  position: number;
}

/** The tempo around a time, where it drifts. */
export interface TempoPoint {
  time: number;
  bpm: number;
}

export interface KeyRegion {
  start: number;
  end: number;
  tonic: string;
  mode: string;
  confidence: number;
}

export interface Key {
  tonic: string;
  mode: string;
  confidence: number;
  /** Which key the song is in where; none in what was analysed before they were known, or corrected. */
  regions?: KeyRegion[];
  madeBy?: Provenance;
}

export interface Chord {
  start: number;
  end: number;
  label: string;
  confidence: number;
  /** The label without extensions, additions and bass. */
  triad?: string;
}

export interface Section {
  start: number;
  end: number;
  label: string;
  confidence: number;
  group: number;
  level: number;
}

export interface Word {
  start: number;
  end: number;
  text: string;
  confidence: number;
}

export interface Line {
  start: number;
  end: number;
  text: string;
  words: Word[];
}

export interface Lyrics {
  language: string;
  lines: Line[];
  madeBy?: Provenance;
}

export interface TrackStem {
  name: string;
  model: string;
  durationSeconds: number;
  sampleRateHz: number;
  silent: boolean;
  audio: string;
  peaks: string;
  gain: number;
}

export type PartName = "PART_BEATS" | "PART_KEY" | "PART_CHORDS" | "PART_STRUCTURE" | "PART_LYRICS";

export interface PartEdit {
  part: PartName;
  editTime: string;
  computedSince: boolean;
}

export interface Track {
  id: string;
  title: string;
  artist: string;
  sourceUrl: string;
  createTime: string;
  durationSeconds: number;
  sampleRateHz: number;
  audio: string;
  peaks: string;
  cover: string;
  tempo?: { bpm: number; confidence: number; curve?: TempoPoint[] };
  beatsPerBar: number;
  beats: Beat[];
  key?: Key;
  chords: Chord[];
  sections: Section[];
  lyrics?: Lyrics;
  stems: TrackStem[];
  madeBy: Record<string, Provenance>;
  favourite: boolean;
  notes: string;
  edits: PartEdit[];
  deleteTime?: string;
}

export interface Song {
  url: string;
  title: string;
  artist: string;
  durationSeconds: number;
  source: string;
}

export interface Availability {
  available: boolean;
  unavailableReason: string;
  /** Its weights are here. */
  present: boolean;
  /** Of its weights on the server's disk; 0 while they are not here. */
  sizeBytes: string;
}

export interface Model {
  name: string;
  stems: string[];
  license: string;
  availability: Availability;
  default: boolean;
}

export interface Backend {
  part: PartName;
  name: string;
  license: string;
  description: string;
  models: { name: string; availability: Availability; default: boolean }[];
  availability: Availability;
  default: boolean;
}

export interface Playlist {
  id: string;
  name: string;
  notes: string;
  trackCount: number;
  trackIds: string[];
  revision: string;
}

export interface SeparationChoice {
  model?: string;
  stems?: string[];
  quality?: "QUALITY_FAST" | "QUALITY_BALANCED" | "QUALITY_BEST";
}

export interface AnalysisChoice {
  part: PartName;
  backend?: string;
  language?: string;
  text?: string;
}

export interface ProcessingOptions {
  separations?: SeparationChoice[];
  analyses?: AnalysisChoice[];
  priority?: "PRIORITY_INTERACTIVE" | "PRIORITY_BATCH";
}
