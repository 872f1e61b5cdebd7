/**
 * Short names of the API's messages as ProtoJSON has them; times are seconds from a song's start unless they are ISO
 * texts. The contracts, from which `schema.ts` is generated, describe their fields.
 */

import type { components } from "./schema.ts";

type Schemas = components["schemas"];

export type User = Schemas["stemtube.auth.v1.User"];
export type Registration = Schemas["stemtube.auth.v1.GetRegistrationResponse"];
export type Invitation = Schemas["stemtube.auth.v1.Invitation"];
export type SessionInfo = Schemas["stemtube.auth.v1.SessionInfo"];
export type ApiToken = Schemas["stemtube.auth.v1.ApiToken"];

export type Job = Schemas["stemtube.job.v1.Job"];
export type TrackJob = Schemas["stemtube.download.v1.TrackJob"];
export type TrackJobPart = Schemas["stemtube.download.v1.TrackJobPart"];
export type WatchEventsResponse = Schemas["stemtube.download.v1.WatchEventsResponse"];

export type Track = Schemas["stemtube.download.v1.Track"];
export type Song = Schemas["stemtube.download.v1.Song"];
export type Playlist = Schemas["stemtube.download.v1.Playlist"];

export type PartName = Schemas["stemtube.analysis.v1.Part"];
export type Beat = Schemas["stemtube.analysis.v1.Beat"];
export type TempoPoint = Schemas["stemtube.analysis.v1.TempoPoint"];
export type Tuning = Schemas["stemtube.analysis.v1.Tuning"];
export type Key = Schemas["stemtube.analysis.v1.Key"];
export type KeyRegion = Schemas["stemtube.analysis.v1.KeyRegion"];
export type Chord = Schemas["stemtube.analysis.v1.Chord"];
export type Section = Schemas["stemtube.analysis.v1.Section"];
export type Line = Schemas["stemtube.analysis.v1.Line"];
export type Word = Schemas["stemtube.analysis.v1.Word"];

export type Availability = Schemas["stemtube.common.v1.Availability"];
export type Model = Schemas["stemtube.separation.v1.Model"];
export type Backend = Schemas["stemtube.analysis.v1.Backend"];

export type ProcessingOptions = Schemas["stemtube.download.v1.ProcessingOptions"];
export type SeparationChoice = Schemas["stemtube.download.v1.SeparationChoice"];

export type StorageUse = Schemas["stemtube.download.v1.GetStorageUseResponse"];
export type UserStorage = Schemas["stemtube.download.v1.UserStorage"];
export type Statistics = Schemas["stemtube.download.v1.GetStatisticsResponse"];
export type Cleanup = Schemas["stemtube.download.v1.Cleanup"];
export type ServiceWork = Schemas["stemtube.operations.v1.GetWorkResponse"];
export type LogRecord = Schemas["stemtube.operations.v1.LogRecord"];
