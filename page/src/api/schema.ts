/** Generated from the contracts by `page/build.py types`: change those, not this file. */

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        Credentials: {
            username: string;
            /** Format: password */
            password: string;
        };
        NewPassword: {
            /** Format: password */
            oldPassword: string;
            /** Format: password */
            newPassword: string;
            /**
             * @description With false, API tokens stay valid.
             * @default true
             */
            endApiTokens: boolean;
        };
        Registration: {
            username: string;
            /** Format: password */
            password: string;
            /** @description Can be left out. */
            email?: string;
            /** @description Where one is needed (/api/v1/auth/registration). */
            invitation?: string;
        };
        SignedIn: {
            /** @description For Authorization: Bearer; browsers need not keep it. */
            accessToken: string;
            /** @description Seconds until the access token expires. */
            expiresIn: number;
            user: components["schemas"]["stemtube.auth.v1.User"];
        };
        /** @description google.rpc.Status: what went wrong. */
        Status: {
            /** @description A google.rpc.Code. */
            code: number;
            /** @description For a person. */
            message: string;
            details: {
                /** @constant */
                "@type": "type.googleapis.com/google.rpc.ErrorInfo";
                /** @description Stable, for programs. */
                reason: string;
                domain: string;
                metadata: {
                    [key: string]: string;
                };
            }[];
        };
        "stemtube.analysis.v1.Backend": {
            part: components["schemas"]["stemtube.analysis.v1.Part"];
            name: string;
            version: string;
            license: string;
            description: string;
            /** @description Models to choose from, if there are several. */
            models: components["schemas"]["stemtube.analysis.v1.BackendModel"][];
            availability: components["schemas"]["stemtube.common.v1.Availability"];
            /** @description Whether "auto" means this one now. */
            default: boolean;
        };
        "stemtube.analysis.v1.BackendModel": {
            name: string;
            availability: components["schemas"]["stemtube.common.v1.Availability"];
            default: boolean;
            /** @description Lyrics: the languages that the model knows, as in PartRequest.language. */
            languages: string[];
        };
        "stemtube.analysis.v1.Beat": {
            /** Format: double */
            time: number;
            /**
             * Format: int32
             * @description Position in the bar, from 1 (the downbeat); 0 if bars were not found.
             */
            position: number;
        };
        "stemtube.analysis.v1.BeatInput": {
            /** Format: double */
            time?: number;
            /**
             * Format: int32
             * @description Position in the bar, from 1 (the downbeat); 0 if bars were not found.
             */
            position?: number;
        };
        "stemtube.analysis.v1.Beats": {
            tempo?: components["schemas"]["stemtube.analysis.v1.TempoInput"];
            beats?: components["schemas"]["stemtube.analysis.v1.BeatInput"][];
            /** Format: int32 */
            beatsPerBar?: number;
            madeBy?: components["schemas"]["stemtube.common.v1.ProvenanceInput"];
            /**
             * Format: double
             * @description Where the first whole bar begins; 0 if bars were not found.
             */
            firstDownbeat?: number;
        };
        "stemtube.analysis.v1.Chord": {
            /** Format: double */
            start: number;
            /** Format: double */
            end: number;
            /** @description Harte syntax: C:maj7/3, A:min, N. */
            label: string;
            /** Format: double */
            confidence: number;
            /** @description The label without extensions, additions and bass, for a simplified view: C:maj7/3 is C:maj. Set by services. */
            triad: string;
        };
        "stemtube.analysis.v1.ChordInput": {
            /** Format: double */
            start?: number;
            /** Format: double */
            end?: number;
            /** @description Harte syntax: C:maj7/3, A:min, N. */
            label?: string;
            /** Format: double */
            confidence?: number;
            /** @description The label without extensions, additions and bass, for a simplified view: C:maj7/3 is C:maj. Set by services. */
            triad?: string;
        };
        /** @description Covers the whole track without gaps or overlaps. */
        "stemtube.analysis.v1.Chords": {
            chords?: components["schemas"]["stemtube.analysis.v1.ChordInput"][];
            madeBy?: components["schemas"]["stemtube.common.v1.ProvenanceInput"];
        };
        /** @description The main key of a song, and the keys of its regions. */
        "stemtube.analysis.v1.Key": {
            /** @description C, C#, Db …; empty if no key was found. */
            tonic: string;
            /** @description "major" or "minor"; empty if no key was found. */
            mode: string;
            /** Format: double */
            confidence: number;
            madeBy?: components["schemas"]["stemtube.common.v1.Provenance"];
            /**
             * @description The key at each time; together they cover the whole track without gaps or overlaps. A song that never changes its
             *     key has one region. Empty if no key was found, and in results from before there were regions.
             */
            regions: components["schemas"]["stemtube.analysis.v1.KeyRegion"][];
        };
        /** @description The main key of a song, and the keys of its regions. */
        "stemtube.analysis.v1.KeyInput": {
            /** @description C, C#, Db …; empty if no key was found. */
            tonic?: string;
            /** @description "major" or "minor"; empty if no key was found. */
            mode?: string;
            /** Format: double */
            confidence?: number;
            madeBy?: components["schemas"]["stemtube.common.v1.ProvenanceInput"];
            /**
             * @description The key at each time; together they cover the whole track without gaps or overlaps. A song that never changes its
             *     key has one region. Empty if no key was found, and in results from before there were regions.
             */
            regions?: components["schemas"]["stemtube.analysis.v1.KeyRegionInput"][];
        };
        "stemtube.analysis.v1.KeyRegion": {
            /** Format: double */
            start: number;
            /** Format: double */
            end: number;
            tonic: string;
            /** @description "major" or "minor". */
            mode: string;
            /** Format: double */
            confidence: number;
        };
        "stemtube.analysis.v1.KeyRegionInput": {
            /** Format: double */
            start?: number;
            /** Format: double */
            end?: number;
            tonic?: string;
            /** @description "major" or "minor". */
            mode?: string;
            /** Format: double */
            confidence?: number;
        };
        "stemtube.analysis.v1.Line": {
            /** Format: double */
            start: number;
            /** Format: double */
            end: number;
            text: string;
            words: components["schemas"]["stemtube.analysis.v1.Word"][];
        };
        "stemtube.analysis.v1.LineInput": {
            /** Format: double */
            start?: number;
            /** Format: double */
            end?: number;
            text?: string;
            words?: components["schemas"]["stemtube.analysis.v1.WordInput"][];
        };
        "stemtube.analysis.v1.ListBackendsResponse": {
            backends: components["schemas"]["stemtube.analysis.v1.Backend"][];
        };
        "stemtube.analysis.v1.Lyrics": {
            /** @description ISO 639-1; empty if nothing is sung. */
            language: string;
            lines: components["schemas"]["stemtube.analysis.v1.Line"][];
            madeBy?: components["schemas"]["stemtube.common.v1.Provenance"];
            /**
             * @description The source of the words: "heard" in the audio, "given" by the user, or "found" on a lyrics site. The times always
             *     come from the audio. Empty in results from before there was this field.
             */
            wordsFrom: string;
        };
        "stemtube.analysis.v1.LyricsInput": {
            /** @description ISO 639-1; empty if nothing is sung. */
            language?: string;
            lines?: components["schemas"]["stemtube.analysis.v1.LineInput"][];
            madeBy?: components["schemas"]["stemtube.common.v1.ProvenanceInput"];
            /**
             * @description The source of the words: "heard" in the audio, "given" by the user, or "found" on a lyrics site. The times always
             *     come from the audio. Empty in results from before there was this field.
             */
            wordsFrom?: string;
        };
        /** @enum {string} */
        "stemtube.analysis.v1.Part": "PART_UNSPECIFIED" | "PART_BEATS" | "PART_KEY" | "PART_CHORDS" | "PART_STRUCTURE" | "PART_LYRICS" | "PART_TUNING";
        "stemtube.analysis.v1.Section": {
            /** Format: double */
            start: number;
            /** Format: double */
            end: number;
            /** @description intro, verse, chorus, bridge, solo, instrumental, outro … */
            label: string;
            /** Format: double */
            confidence: number;
            /**
             * Format: int32
             * @description Sections with the same number sound alike.
             */
            group: number;
            /**
             * Format: double
             * @description Mean level in dB, for comparison within the song.
             */
            level: number;
        };
        "stemtube.analysis.v1.SectionInput": {
            /** Format: double */
            start?: number;
            /** Format: double */
            end?: number;
            /** @description intro, verse, chorus, bridge, solo, instrumental, outro … */
            label?: string;
            /** Format: double */
            confidence?: number;
            /**
             * Format: int32
             * @description Sections with the same number sound alike.
             */
            group?: number;
            /**
             * Format: double
             * @description Mean level in dB, for comparison within the song.
             */
            level?: number;
        };
        /** @description Covers the whole track without gaps or overlaps. */
        "stemtube.analysis.v1.Structure": {
            sections?: components["schemas"]["stemtube.analysis.v1.SectionInput"][];
            madeBy?: components["schemas"]["stemtube.common.v1.ProvenanceInput"];
        };
        "stemtube.analysis.v1.Tempo": {
            /**
             * Format: double
             * @description Beats per minute; 0 if there is no pulse. If the tempo changes at once, that of the longest part.
             */
            bpm: number;
            /** Format: double */
            confidence: number;
            /** @description The tempo around every fourth beat, if it drifts or changes; empty if it is steady. */
            curve: components["schemas"]["stemtube.analysis.v1.TempoPoint"][];
        };
        "stemtube.analysis.v1.TempoInput": {
            /**
             * Format: double
             * @description Beats per minute; 0 if there is no pulse. If the tempo changes at once, that of the longest part.
             */
            bpm?: number;
            /** Format: double */
            confidence?: number;
            /** @description The tempo around every fourth beat, if it drifts or changes; empty if it is steady. */
            curve?: components["schemas"]["stemtube.analysis.v1.TempoPointInput"][];
        };
        "stemtube.analysis.v1.TempoPoint": {
            /** Format: double */
            time: number;
            /** Format: double */
            bpm: number;
        };
        "stemtube.analysis.v1.TempoPointInput": {
            /** Format: double */
            time?: number;
            /** Format: double */
            bpm?: number;
        };
        /** @description How the notes of a song are tuned. All other parts are found in this tuning. */
        "stemtube.analysis.v1.Tuning": {
            /**
             * Format: double
             * @description Cents of the song's A above 440 Hz, in [-50, 50]; 0 if there are no notes. A = 440 * 2^(cents / 1200) Hz.
             */
            cents: number;
            /** Format: double */
            confidence: number;
            /** @description The tuning around every fourth second, if it drifts (10 cents or more); empty if it is steady. */
            curve: components["schemas"]["stemtube.analysis.v1.TuningPoint"][];
            /**
             * @description Whether the notes lie in the middle between two semitones. Then chords and keys could as well be named a semitone
             *     higher if cents is negative, or lower if it is positive.
             */
            ambiguous: boolean;
            madeBy?: components["schemas"]["stemtube.common.v1.Provenance"];
        };
        /** @description How the notes of a song are tuned. All other parts are found in this tuning. */
        "stemtube.analysis.v1.TuningInput": {
            /**
             * Format: double
             * @description Cents of the song's A above 440 Hz, in [-50, 50]; 0 if there are no notes. A = 440 * 2^(cents / 1200) Hz.
             */
            cents?: number;
            /** Format: double */
            confidence?: number;
            /** @description The tuning around every fourth second, if it drifts (10 cents or more); empty if it is steady. */
            curve?: components["schemas"]["stemtube.analysis.v1.TuningPointInput"][];
            /**
             * @description Whether the notes lie in the middle between two semitones. Then chords and keys could as well be named a semitone
             *     higher if cents is negative, or lower if it is positive.
             */
            ambiguous?: boolean;
            madeBy?: components["schemas"]["stemtube.common.v1.ProvenanceInput"];
        };
        "stemtube.analysis.v1.TuningPoint": {
            /** Format: double */
            time: number;
            /**
             * Format: double
             * @description As in Tuning. A drift is continuous, so this can exceed 50 cents.
             */
            cents: number;
        };
        "stemtube.analysis.v1.TuningPointInput": {
            /** Format: double */
            time?: number;
            /**
             * Format: double
             * @description As in Tuning. A drift is continuous, so this can exceed 50 cents.
             */
            cents?: number;
        };
        "stemtube.analysis.v1.Word": {
            /** Format: double */
            start: number;
            /** Format: double */
            end: number;
            text: string;
            /** Format: double */
            confidence: number;
        };
        "stemtube.analysis.v1.WordInput": {
            /** Format: double */
            start?: number;
            /** Format: double */
            end?: number;
            text?: string;
            /** Format: double */
            confidence?: number;
        };
        /** @description An API token, without the secret. */
        "stemtube.auth.v1.ApiToken": {
            id: string;
            name: string;
            /**
             * @description "read": calls that change nothing. "write": everything else that a user can do. "admin": calls for admins only, in
             *     addition to read or write.
             */
            scopes: string[];
            /** Format: date-time */
            createTime?: string;
            /** Format: date-time */
            expireTime?: string;
            /**
             * Format: date-time
             * @description Absent if it was never used.
             */
            lastUseTime?: string;
        };
        "stemtube.auth.v1.CreateApiTokenRequest": {
            /** @description A name for people to read, up to 100 characters. */
            name?: string;
            scopes?: string[];
            /** @description 90 days unless given; up to 366 days. */
            lifetime?: string;
            /** @description The caller's password. Needed unless the caller signed in a few minutes ago (5, unless the settings say otherwise). */
            password?: string;
        };
        "stemtube.auth.v1.CreateApiTokenResponse": {
            apiToken: components["schemas"]["stemtube.auth.v1.ApiToken"];
            /** @description The token itself. It is shown only here. */
            secret: string;
        };
        "stemtube.auth.v1.CreateInvitationRequest": {
            /**
             * Format: int32
             * @description 1 unless given; up to 1000.
             */
            uses?: number;
            /** @description 7 days unless given; up to 366 days. */
            lifetime?: string;
        };
        "stemtube.auth.v1.CreateInvitationResponse": {
            invitation: components["schemas"]["stemtube.auth.v1.Invitation"];
            /** @description The code that people register with. It is shown only here. */
            code: string;
        };
        "stemtube.auth.v1.CreateUserRequest": {
            /** @description 1 to 64 characters, no control characters, no space at either end. Two names that differ only in case are the same. */
            username?: string;
            /** @description Can be empty. */
            email?: string;
            admin?: boolean;
        };
        "stemtube.auth.v1.CreateUserResponse": {
            user: components["schemas"]["stemtube.auth.v1.User"];
            /** @description Lets the user sign in and choose a password, within the days that the settings allow. */
            oneTimePassword: string;
        };
        "stemtube.auth.v1.DeleteApiTokenResponse": Record<string, never>;
        "stemtube.auth.v1.DeleteInvitationResponse": Record<string, never>;
        "stemtube.auth.v1.EndOtherSessionsResponse": {
            /** Format: int32 */
            endedCount: number;
        };
        "stemtube.auth.v1.EndSessionResponse": Record<string, never>;
        "stemtube.auth.v1.GetMeResponse": {
            user: components["schemas"]["stemtube.auth.v1.User"];
        };
        "stemtube.auth.v1.GetRegistrationResponse": {
            /** @description Anybody can register. */
            open: boolean;
            /** @description Anybody who has an invitation can register. */
            byInvitation: boolean;
        };
        /** @description An invitation, without its code. */
        "stemtube.auth.v1.Invitation": {
            id: string;
            /** Format: date-time */
            createTime?: string;
            /** Format: date-time */
            expireTime?: string;
            /**
             * Format: int32
             * @description How many more people can register with it.
             */
            usesLeft: number;
        };
        "stemtube.auth.v1.ListApiTokensResponse": {
            apiTokens: components["schemas"]["stemtube.auth.v1.ApiToken"][];
        };
        "stemtube.auth.v1.ListInvitationsResponse": {
            invitations: components["schemas"]["stemtube.auth.v1.Invitation"][];
        };
        "stemtube.auth.v1.ListSessionsResponse": {
            sessions: components["schemas"]["stemtube.auth.v1.SessionInfo"][];
        };
        "stemtube.auth.v1.ListUsersResponse": {
            users: components["schemas"]["stemtube.auth.v1.User"][];
            nextPageToken: string;
        };
        "stemtube.auth.v1.ResetPasswordResponse": {
            /** @description Lets the user sign in and choose a password, within the days that the settings allow. */
            oneTimePassword: string;
        };
        "stemtube.auth.v1.RotateSigningKeyRequest": {
            /**
             * @description Withdraws the older keys at once, because they have leaked. All access tokens become invalid; clients refresh
             *     theirs.
             */
            withdrawOlder?: boolean;
        };
        "stemtube.auth.v1.RotateSigningKeyResponse": {
            /** @description Id of the new key. */
            keyId: string;
        };
        /** @description An open session, as its user sees it. */
        "stemtube.auth.v1.SessionInfo": {
            id: string;
            /** Format: date-time */
            createTime?: string;
            /**
             * Format: date-time
             * @description Time of the last refresh.
             */
            lastUseTime?: string;
            /** @description IP address that the user signed in from. */
            address: string;
            /** @description Program that the user signed in with: a browser's User-Agent. */
            client: string;
            /** @description Whether it is the session that makes this call. */
            current: boolean;
        };
        "stemtube.auth.v1.UpdateUserResponse": {
            user: components["schemas"]["stemtube.auth.v1.User"];
        };
        "stemtube.auth.v1.User": {
            id: string;
            username: string;
            admin: boolean;
            /** Format: date-time */
            createTime?: string;
            /** @description Empty if none is known. */
            email: string;
            /** @description Whether the user cannot sign in. */
            disabled: boolean;
            /** @description Whether the password is a one-time password, with which the user can only choose another one. */
            mustChangePassword: boolean;
        };
        /** @description Whether a separation model or an analysis backend can be used here. */
        "stemtube.common.v1.Availability": {
            /** @description Whether it can be used: its weights are here, or can be fetched. */
            available: boolean;
            /** @description If it is not available: why, and what to do about it. */
            unavailableReason: string;
            /** @description Whether its weights are here. */
            present: boolean;
            /**
             * Format: int64
             * @description Size of its weights on disk; 0 while they are not here, or if they are part of a Python package.
             */
            sizeBytes: string;
        };
        /** @description The backend and model that made a result. */
        "stemtube.common.v1.Provenance": {
            /** @description The backend, as ListBackends names it, or the family of a separation model. */
            backend: string;
            /** @description The model within it, as ListBackends or ListModels names it; empty where the backend has just one. */
            model: string;
            /** @description Version of the code and the weights. Results of different versions are never mixed. */
            version: string;
            /** @description Set if "auto" could not use its first choice: names that and says why, for people. */
            substitution: string;
        };
        /** @description The backend and model that made a result. */
        "stemtube.common.v1.ProvenanceInput": {
            /** @description The backend, as ListBackends names it, or the family of a separation model. */
            backend?: string;
            /** @description The model within it, as ListBackends or ListModels names it; empty where the backend has just one. */
            model?: string;
            /** @description Version of the code and the weights. Results of different versions are never mixed. */
            version?: string;
            /** @description Set if "auto" could not use its first choice: names that and says why, for people. */
            substitution?: string;
        };
        "stemtube.download.v1.AddPlaylistTracksResponse": {
            playlist: components["schemas"]["stemtube.download.v1.Playlist"];
        };
        /** @description A part of the analysis to make. */
        "stemtube.download.v1.AnalysisChoice": {
            part?: components["schemas"]["stemtube.analysis.v1.Part"];
            /** @description A name from ListBackends, or "auto" (also when empty). */
            backend?: string;
            /** @description A model of that backend, or "auto" (also when empty). */
            model?: string;
            /** @description Lyrics: an ISO 639-1 code; empty to detect the language. */
            language?: string;
            /**
             * @description Lyrics: the known words, line by line, at most 20000 characters. They are aligned with the audio, and no other
             *     words are recognised.
             */
            text?: string;
        };
        "stemtube.download.v1.CancelJobResponse": Record<string, never>;
        /** @description A cleanup job. */
        "stemtube.download.v1.Cleanup": {
            job: components["schemas"]["stemtube.job.v1.Job"];
            dryRun: boolean;
            /** @description Set after the job has succeeded. */
            report?: components["schemas"]["stemtube.download.v1.CleanupReport"];
        };
        /** @description The findings of a cleanup. The lists of keys are examples, not complete. */
        "stemtube.download.v1.CleanupReport": {
            /**
             * Format: int64
             * @description Objects that no record needs, and that are too old to belong to running work. Objects that cannot be made again are
             *     moved to the store's trash for some weeks.
             */
            objectCount: string;
            /** Format: int64 */
            objectBytes: string;
            /** @description Keys of some of them. */
            objects: string[];
            /**
             * Format: int64
             * @description Records whose object has been missing for a long time. Stems are dropped, so that they can be made again. Tracks
             *     lose only their original; that of a link is fetched again on the next request.
             */
            recordCount: string;
            /** @description Some of them: track id, and the key of the missing object. */
            records: string[];
            /**
             * Format: int64
             * @description Tracks that no user has any more, because their grace period has ended.
             */
            expiredTrackCount: string;
            /**
             * Format: int64
             * @description Records that are kept for now although their object is missing. Nothing is lost if the object comes back.
             */
            missingCount: string;
            /** @description Some of them: track id, the key of the missing object, and the time since when it has been missing. */
            missing: string[];
            /**
             * Format: int64
             * @description Objects that no record needs, but not for long enough to be removed.
             */
            waitingCount: string;
            /**
             * Format: int64
             * @description How many objects of object_count were moved to the trash.
             */
            trashedCount: string;
            /**
             * Format: int64
             * @description Objects that a record needed and that were taken out of the trash or, for peaks and pictures, made again.
             */
            restoredCount: string;
            /**
             * Format: int64
             * @description Originals whose bytes have changed since they arrived, and keys of some of them. They are not removed.
             */
            damagedCount: string;
            damaged: string[];
            /** @description Why nothing was removed: at least half of the objects that the library knows are missing. Empty otherwise. */
            heldBack: string;
        };
        "stemtube.download.v1.CreatePlaylistRequest": {
            /** @description At most 200 characters. */
            name?: string;
            /** @description At most 10000 characters. */
            notes?: string;
            /** @description At most 1000. */
            trackIds?: string[];
        };
        "stemtube.download.v1.CreatePlaylistResponse": {
            playlist: components["schemas"]["stemtube.download.v1.Playlist"];
        };
        "stemtube.download.v1.CreateTrackRequest": {
            /** @description A UUID that the caller chooses; the same request again gives the same track and job. Optional. */
            requestId?: string;
            url?: string;
            options?: components["schemas"]["stemtube.download.v1.ProcessingOptions"];
        };
        "stemtube.download.v1.CreateTrackResponse": {
            track: components["schemas"]["stemtube.download.v1.Track"];
            job: components["schemas"]["stemtube.download.v1.TrackJob"];
        };
        "stemtube.download.v1.DeletePlaylistResponse": Record<string, never>;
        "stemtube.download.v1.DeleteTrackResponse": Record<string, never>;
        "stemtube.download.v1.EditPartResponse": {
            track: components["schemas"]["stemtube.download.v1.Track"];
        };
        /** @description Something about a file that was read nevertheless. */
        "stemtube.download.v1.FileNote": {
            /**
             * @description END_DAMAGED, MAY_BE_CUT_OFF, LENGTH_DIFFERS, PACKETS_DAMAGED: damage, or a header that is wrong.
             *     STARTS_LATE, GAPS: silence was added to keep the sound in time with the picture.
             *     SCALED, ABSURD_SAMPLES: too large samples were divided, or made silent. OTHER_SOUND: the default track was read.
             */
            reason: string;
            /** @description A message for people. */
            message: string;
        };
        "stemtube.download.v1.GetCleanupResponse": {
            cleanup: components["schemas"]["stemtube.download.v1.Cleanup"];
        };
        "stemtube.download.v1.GetFetchingResponse": {
            /** @description Version of yt-dlp. */
            version: string;
            /** @description Whether the JavaScript runtime that solves YouTube's challenges is here. */
            javascript: components["schemas"]["stemtube.common.v1.Availability"];
        };
        "stemtube.download.v1.GetJobResponse": {
            job: components["schemas"]["stemtube.download.v1.TrackJob"];
        };
        "stemtube.download.v1.GetPlaylistResponse": {
            playlist: components["schemas"]["stemtube.download.v1.Playlist"];
        };
        "stemtube.download.v1.GetStatisticsResponse": {
            /**
             * Format: int64
             * @description Users who have tracks.
             */
            userCount: string;
            /** Format: int64 */
            trackCount: string;
            /**
             * Format: int64
             * @description Tracks that all their users have deleted and that can still be restored.
             */
            deletedTrackCount: string;
            /** Format: int64 */
            stemCount: string;
            /** Format: int64 */
            playlistCount: string;
            /** @description The objects in the store by kind, when they were last counted; empty before the first count. */
            storage: components["schemas"]["stemtube.download.v1.StoredKind"][];
            /**
             * Format: date-time
             * @description The time of that count.
             */
            storageTime?: string;
            jobs: components["schemas"]["stemtube.download.v1.JobCount"][];
        };
        "stemtube.download.v1.GetStorageUseResponse": {
            /**
             * Format: int64
             * @description Bytes of originals, pictures, stems and waveform peaks of the caller's tracks, including deleted ones that can be
             *     restored. A track that several users have counts in full for each of them. Copies in other formats do not count:
             *     they are a cache.
             */
            usedBytes: string;
            /**
             * Format: int64
             * @description 0: no limit. Room is reserved before bytes are stored, so uploads and jobs of the caller stay below the quota.
             *     Imports by an admin, and results that other users make for a shared track, can exceed it.
             */
            quotaBytes: string;
            /** Format: int64 */
            trackCount: string;
        };
        "stemtube.download.v1.GetTrackResponse": {
            track: components["schemas"]["stemtube.download.v1.Track"];
        };
        "stemtube.download.v1.GetUploadResponse": {
            upload: components["schemas"]["stemtube.download.v1.Upload"];
        };
        /** @description The library's jobs in one state. Finished jobs are removed after some time. */
        "stemtube.download.v1.JobCount": {
            state: components["schemas"]["stemtube.job.v1.JobState"];
            /** Format: int64 */
            count: string;
        };
        "stemtube.download.v1.ListJobsResponse": {
            jobs: components["schemas"]["stemtube.download.v1.TrackJob"][];
            /** @description Empty on the last page. */
            nextPageToken: string;
        };
        "stemtube.download.v1.ListPlaylistsResponse": {
            playlists: components["schemas"]["stemtube.download.v1.Playlist"][];
            /** @description Empty on the last page. */
            nextPageToken: string;
        };
        "stemtube.download.v1.ListTracksResponse": {
            tracks: components["schemas"]["stemtube.download.v1.Track"][];
            /** @description Empty on the last page. */
            nextPageToken: string;
        };
        "stemtube.download.v1.ListUserStorageResponse": {
            /** @description One entry for each user who has tracks or an individual quota. */
            users: components["schemas"]["stemtube.download.v1.UserStorage"][];
        };
        /** @description Stems whose beginning can be played while the rest is computed. */
        "stemtube.download.v1.LiveSeparation": {
            stems: components["schemas"]["stemtube.download.v1.LiveStem"][];
            /**
             * Format: double
             * @description How many seconds of each can be played.
             */
            readySeconds: number;
        };
        /** @description A stem of a running separation. */
        "stemtube.download.v1.LiveStem": {
            name: string;
            /**
             * @description Path below the gateway's address of an HLS-like playlist (m3u8) of FLAC files, to be played without a gap. It
             *     grows. When the stems are complete, it no longer exists (404), and the track has the stems.
             */
            playlist: string;
        };
        "stemtube.download.v1.LookUpLinkResponse": {
            /** @description The song, or the list itself. */
            song: components["schemas"]["stemtube.download.v1.Song"];
            /** @description The first 200 songs of a list; empty for a song. */
            entries: components["schemas"]["stemtube.download.v1.Song"][];
        };
        /** @description A fault of a file in the object store. */
        "stemtube.download.v1.ObjectFault": {
            /**
             * @description OBJECT_MISSING: the file is not in the store. The fault ends when the file comes back. If it stays missing for some
             *     weeks, the track loses its original and keeps everything else; uploading the same file repairs it.
             *     OBJECT_DAMAGED: the bytes have changed since they arrived. The file is not served (reason ORIGINAL_DAMAGED);
             *     uploading the same file repairs it.
             */
            reason: string;
            /** @description A message for people. */
            message: string;
            /** Format: date-time */
            since?: string;
        };
        /** @description A part that the caller has corrected by hand. */
        "stemtube.download.v1.PartEdit": {
            part: components["schemas"]["stemtube.analysis.v1.Part"];
            /** Format: date-time */
            editTime: string;
            /** @description Whether the part was computed again after the edit. */
            computedSince: boolean;
        };
        /** @description Ordered tracks of one user, each at most once. */
        "stemtube.download.v1.Playlist": {
            id: string;
            name: string;
            notes: string;
            /** Format: date-time */
            createTime: string;
            /** Format: date-time */
            changeTime: string;
            /**
             * Format: int64
             * @description A number that differs after every change of the playlist.
             */
            revision: string;
            /** Format: int32 */
            trackCount: number;
            /** @description The tracks in their order; empty in lists. */
            trackIds: string[];
        };
        "stemtube.download.v1.ProcessTrackResponse": {
            job: components["schemas"]["stemtube.download.v1.TrackJob"];
        };
        /**
         * @description The parts to make for a track. If this message is absent, or has neither separations nor analyses, everything is made
         *     with "auto" choices.
         */
        "stemtube.download.v1.ProcessingOptions": {
            /** @description At most 4. */
            separations?: components["schemas"]["stemtube.download.v1.SeparationChoice"][];
            /** @description Each part at most once. */
            analyses?: components["schemas"]["stemtube.download.v1.AnalysisChoice"][];
            /** @description Batch is for many tracks at once that nobody waits for. Interactive work of all users goes first. */
            priority?: components["schemas"]["stemtube.job.v1.Priority"];
        };
        "stemtube.download.v1.RestoreTrackResponse": {
            /** @description Without beats, regions of the key, chords, sections and lyrics. */
            track: components["schemas"]["stemtube.download.v1.Track"];
        };
        "stemtube.download.v1.RetryJobResponse": {
            /** @description The new job. */
            job: components["schemas"]["stemtube.download.v1.TrackJob"];
        };
        "stemtube.download.v1.RevertPartResponse": {
            track: components["schemas"]["stemtube.download.v1.Track"];
        };
        "stemtube.download.v1.SearchSongsResponse": {
            songs: components["schemas"]["stemtube.download.v1.Song"][];
        };
        /** @description A separation to make. */
        "stemtube.download.v1.SeparationChoice": {
            /** @description A name from ListModels, or "auto" (also when empty). */
            model?: string;
            /**
             * @description The wanted stems; empty for all stems of the model. "no_NAME" is the mix without that stem: "vocals" and
             *     "no_vocals" split a song in two, "no_vocals" alone is for karaoke.
             */
            stems?: string[];
            quality?: components["schemas"]["stemtube.separation.v1.Quality"];
            /** @description How "no_NAME" stems are made. */
            rest?: components["schemas"]["stemtube.separation.v1.Rest"];
            /**
             * Format: int32
             * @description Replace the values of the quality, see CreateSeparationRequest.
             */
            shifts?: number;
            /** Format: double */
            overlap?: number;
        };
        "stemtube.download.v1.SetUserQuotaResponse": Record<string, never>;
        /** @description Follows the unfinished jobs at the beginning of a stream of events. */
        "stemtube.download.v1.SnapshotEnd": Record<string, never>;
        /** @description A song or a list of songs on the web. Facts that the site does not give are empty. */
        "stemtube.download.v1.Song": {
            /** @description The link, for CreateTrack. */
            url: string;
            title: string;
            artist: string;
            /** Format: double */
            durationSeconds: number;
            /** @description Address of a picture. */
            thumbnail: string;
            /** @description Name of the site. */
            source: string;
            license: string;
        };
        "stemtube.download.v1.StartCleanupRequest": {
            /** @description Reports the objects and records that would be removed, and removes nothing. */
            dryRun?: boolean;
        };
        "stemtube.download.v1.StartCleanupResponse": {
            cleanup: components["schemas"]["stemtube.download.v1.Cleanup"];
        };
        /** @description All objects of one kind. */
        "stemtube.download.v1.StoredKind": {
            /** @description originals, stems, peaks, covers, derived (stems and originals in other formats), uploads (unfinished), trash. */
            kind: string;
            /** Format: int64 */
            objectCount: string;
            /** Format: int64 */
            bytes: string;
        };
        /** @description A song in the caller's library, as the caller sees it. */
        "stemtube.download.v1.Track": {
            id: string;
            /** @description The caller's own title, if the caller has changed it; likewise the artist. */
            title: string;
            artist: string;
            /** @description The link that it was fetched from; empty for an upload. */
            sourceUrl: string;
            /** Format: date-time */
            createTime: string;
            /**
             * Format: double
             * @description The fields from here to peaks are known once the audio has arrived.
             */
            durationSeconds: number;
            /** Format: int32 */
            sampleRateHz: number;
            /** Format: int32 */
            channels: number;
            /** Format: double */
            loudnessLufs: number;
            /** @description Paths below the gateway's address: the original, and its waveform peaks (empty if they are missing). */
            audio: string;
            peaks: string;
            tempo?: components["schemas"]["stemtube.analysis.v1.Tempo"];
            /** Format: int32 */
            beatsPerBar: number;
            beats: components["schemas"]["stemtube.analysis.v1.Beat"][];
            key?: components["schemas"]["stemtube.analysis.v1.Key"];
            chords: components["schemas"]["stemtube.analysis.v1.Chord"][];
            sections: components["schemas"]["stemtube.analysis.v1.Section"][];
            lyrics?: components["schemas"]["stemtube.analysis.v1.Lyrics"];
            stems: components["schemas"]["stemtube.download.v1.TrackStem"][];
            /**
             * @description By part, the backend and model that made it: beats, chords, structure. Key, lyrics, tuning and stems have their
             *     own field.
             */
            madeBy: {
                [key: string]: components["schemas"]["stemtube.common.v1.Provenance"];
            };
            /** @description Path below the gateway's address of a picture (JPEG, PNG or WebP); empty if there is none, or it is missing. */
            cover: string;
            /** @description The site of the link, and the licence that the site states; empty if unknown. */
            source: string;
            license: string;
            /** @description The title and artist before the caller's changes. */
            originalTitle: string;
            originalArtist: string;
            favourite: boolean;
            notes: string;
            /** @description The parts that the caller has edited. */
            edits: components["schemas"]["stemtube.download.v1.PartEdit"][];
            /**
             * Format: date-time
             * @description When the caller deleted it; absent if it is not deleted.
             */
            deleteTime?: string;
            /**
             * Format: double
             * @description Time in seconds at which the first whole bar begins; 0 if bars were not found.
             */
            firstDownbeat: number;
            /** @description The parts for which the caller has an own version instead of the shared one (see TrackService). */
            ownParts: components["schemas"]["stemtube.analysis.v1.Part"][];
            tuning?: components["schemas"]["stemtube.analysis.v1.Tuning"];
            /** @description A fault of the original's file; absent if there is none. */
            fault?: components["schemas"]["stemtube.download.v1.ObjectFault"];
            /** @description Notes on the original: slight damage, and how it was read. */
            fileNotes: components["schemas"]["stemtube.download.v1.FileNote"][];
            /** @description The tags' names, if the caller uploaded the same sound again with others. UpdateTrack with a name ends the offer. */
            offeredTitle: string;
            offeredArtist: string;
        };
        /** @description A track has a new result. */
        "stemtube.download.v1.TrackChanged": {
            trackId: string;
            /** @description Name of the new part, as in TrackJobPart. */
            part: string;
        };
        /** @description A list of tracks, which may be empty. */
        "stemtube.download.v1.TrackIds": {
            trackIds?: string[];
        };
        /** @description The job of one track: it fetches or reads the audio, and makes parts. */
        "stemtube.download.v1.TrackJob": {
            job: components["schemas"]["stemtube.job.v1.Job"];
            trackId: string;
            parts: components["schemas"]["stemtube.download.v1.TrackJobPart"][];
        };
        /** @description The state of one part of a job. */
        "stemtube.download.v1.TrackJobPart": {
            /**
             * @description acquire, separation, or a part of the analysis (PART_BEATS is beats). Further separations of the same job are
             *     separation:2 and so on.
             */
            name: string;
            state: components["schemas"]["stemtube.job.v1.JobState"];
            /**
             * Format: double
             * @description In [0, 1].
             */
            progress: number;
            /** @description A stable name of the current step, such as "separating"; empty unless the part waits or runs. */
            stage: string;
            /** @description Expected time to the end; absent while unknown. */
            eta?: string;
            /**
             * Format: int32
             * @description Position in the queue of the service that makes the part, 1 for the next to start; 0 unless it waits there.
             */
            queuePosition: number;
            /** @description Set when the part has failed. */
            error?: components["schemas"]["stemtube.job.v1.JobError"];
            /** @description The stems of a running separation that can be played already. */
            live?: components["schemas"]["stemtube.download.v1.LiveSeparation"];
            /**
             * Format: double
             * @description Speed at which a link is fetched; 0 if unknown.
             */
            bytesPerSecond: number;
        };
        /**
         * @description How a list of tracks is sorted.
         * @enum {string}
         */
        "stemtube.download.v1.TrackOrder": "TRACK_ORDER_UNSPECIFIED" | "TRACK_ORDER_ADDED" | "TRACK_ORDER_TITLE" | "TRACK_ORDER_ARTIST" | "TRACK_ORDER_TEMPO" | "TRACK_ORDER_DURATION";
        /** @description One stem of a track, from one model. */
        "stemtube.download.v1.TrackStem": {
            name: string;
            model: string;
            /** Format: double */
            durationSeconds: number;
            /** Format: int32 */
            sampleRateHz: number;
            /** @description Whether nothing can be heard in it. */
            silent: boolean;
            /** @description Paths below the gateway's address: the stem (add ?format=wav, mp3, m4a, opus or flac), and its waveform peaks. */
            audio: string;
            peaks: string;
            madeBy?: components["schemas"]["stemtube.common.v1.Provenance"];
            /**
             * Format: double
             * @description All stems of a separation are multiplied by this factor, so that none clips; 1 if none would.
             */
            gain: number;
            /** @description Whether it is the caller's own version, which other users of the track do not see. */
            own: boolean;
            /** @description A fault of its file; absent if there is none. A stem whose file is missing can be made again. */
            fault?: components["schemas"]["stemtube.download.v1.ObjectFault"];
        };
        "stemtube.download.v1.UpdatePlaylistResponse": {
            playlist: components["schemas"]["stemtube.download.v1.Playlist"];
        };
        "stemtube.download.v1.UpdateTrackResponse": {
            /** @description Without beats, regions of the key, chords, sections and lyrics. */
            track: components["schemas"]["stemtube.download.v1.Track"];
        };
        /** @description A file that arrives in pieces. */
        "stemtube.download.v1.Upload": {
            id: string;
            filename: string;
            /** Format: int64 */
            sizeBytes: string;
            /**
             * Format: int64
             * @description Bytes that have arrived.
             */
            offset: string;
            metadata: string;
            /**
             * Format: date-time
             * @description When the upload is removed if no more bytes arrive.
             */
            expireTime?: string;
            /** @description The track and job of a complete upload; empty until then. */
            trackId: string;
            jobId: string;
        };
        "stemtube.download.v1.UploadTrackResponse": {
            track: components["schemas"]["stemtube.download.v1.Track"];
            job: components["schemas"]["stemtube.download.v1.TrackJob"];
        };
        /** @description A user's storage; the fields are as in GetStorageUseResponse. Tracks that have not been measured count as 0 bytes. */
        "stemtube.download.v1.UserStorage": {
            userId: string;
            /** Format: int64 */
            usedBytes: string;
            /** Format: int64 */
            quotaBytes: string;
            /** Format: int64 */
            trackCount: string;
        };
        "stemtube.download.v1.WatchEventsResponse": {
            /** @description The current state of a job. */
            job?: components["schemas"]["stemtube.download.v1.TrackJob"];
            /** @description This track has a new result: fetch the track again. */
            trackChanged?: components["schemas"]["stemtube.download.v1.TrackChanged"];
            /** @description All unfinished jobs have been sent. Changes follow. */
            snapshotEnd?: components["schemas"]["stemtube.download.v1.SnapshotEnd"];
        };
        "stemtube.download.v1.WatchJobResponse": {
            job: components["schemas"]["stemtube.download.v1.TrackJob"];
        };
        /** @description A job. It survives restarts of its service, and has the same fields in every service. */
        "stemtube.job.v1.Job": {
            id: string;
            /** @description "separation", "analysis", "track". */
            kind: string;
            state: components["schemas"]["stemtube.job.v1.JobState"];
            /**
             * Format: double
             * @description In [0, 1]; it never falls while the job runs.
             */
            progress: number;
            /** @description A stable name of the current step, such as "separating". */
            stage: string;
            /** @description Expected time to the end, from the speed so far; absent while unknown. */
            eta?: string;
            /**
             * Format: int32
             * @description Position in the queue, 1 for the next to start; 0 unless queued, and while it waits for its next attempt. If it
             *     waits because its user has enough jobs running, only jobs of this user are counted before it.
             */
            queuePosition: number;
            /**
             * Format: int32
             * @description How often the job was started, 1 for the first run.
             */
            attempts: number;
            /** @description Set when state is FAILED. */
            error?: components["schemas"]["stemtube.job.v1.JobError"];
            /** Format: date-time */
            createTime: string;
            /** Format: date-time */
            startTime?: string;
            /** Format: date-time */
            endTime?: string;
            /**
             * Format: date-time
             * @description Time of the next attempt; set while the job is queued after an attempt with a temporary error.
             */
            nextAttemptTime?: string;
            /** @description Why that attempt failed; set with next_attempt_time. */
            lastError?: components["schemas"]["stemtube.job.v1.JobError"];
        };
        /** @description Why a job failed. Errors of its submission are gRPC statuses instead. */
        "stemtube.job.v1.JobError": {
            /**
             * Format: int32
             * @description A google.rpc.Code.
             */
            code: number;
            /** @description A stable name, for programs: NOT_AUDIO, TOO_LONG, WEIGHTS_MISSING … */
            reason: string;
            /** @description A message for people. */
            message: string;
            /** @description Whether the same request may succeed later. */
            retryable: boolean;
        };
        /** @enum {string} */
        "stemtube.job.v1.JobState": "JOB_STATE_UNSPECIFIED" | "JOB_STATE_QUEUED" | "JOB_STATE_RUNNING" | "JOB_STATE_SUCCEEDED" | "JOB_STATE_FAILED" | "JOB_STATE_CANCELLED";
        /**
         * @description Which jobs start first.
         * @enum {string}
         */
        "stemtube.job.v1.Priority": "PRIORITY_UNSPECIFIED" | "PRIORITY_INTERACTIVE" | "PRIORITY_BATCH";
        "stemtube.operations.v1.GetWorkResponse": {
            /**
             * Format: int32
             * @description The number of queued and running jobs of all processes.
             */
            queued: number;
            /** Format: int32 */
            running: number;
            /**
             * Format: double
             * @description How long the oldest queued job has waited.
             */
            oldestSeconds: number;
            /**
             * Format: int32
             * @description Jobs that this process can run at a time (0 if only others run jobs), and those that it runs now.
             */
            slots: number;
            /** Format: int32 */
            busy: number;
            /** @description The unfinished jobs, running ones first; 200 at most. */
            jobs: components["schemas"]["stemtube.operations.v1.WorkItem"][];
        };
        "stemtube.operations.v1.ListLogRecordsResponse": {
            records: components["schemas"]["stemtube.operations.v1.LogRecord"][];
        };
        "stemtube.operations.v1.LogRecord": {
            /** Format: date-time */
            time: string;
            level: string;
            event: string;
            /** @description The record's other fields, without secrets. */
            fields: {
                [key: string]: string;
            };
        };
        "stemtube.operations.v1.PullModelResponse": {
            /**
             * Format: double
             * @description In [0, 1].
             */
            fraction: number;
        };
        "stemtube.operations.v1.WorkItem": {
            job: components["schemas"]["stemtube.job.v1.Job"];
            /** @description The job's user; empty for the library's own jobs. */
            userId: string;
        };
        "stemtube.separation.v1.ListModelsResponse": {
            models: components["schemas"]["stemtube.separation.v1.Model"][];
        };
        "stemtube.separation.v1.Model": {
            name: string;
            stems: string[];
            license: string;
            version: string;
            availability: components["schemas"]["stemtube.common.v1.Availability"];
            /** @description Whether "auto" means this one now. */
            default: boolean;
        };
        /** @enum {string} */
        "stemtube.separation.v1.Quality": "QUALITY_UNSPECIFIED" | "QUALITY_FAST" | "QUALITY_BALANCED" | "QUALITY_BEST";
        /**
         * @description How a "no_NAME" stem is made.
         * @enum {string}
         */
        "stemtube.separation.v1.Rest": "REST_UNSPECIFIED" | "REST_SUM" | "REST_MINUS";
    };
    responses: {
        /** @description An error. */
        Error: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["Status"];
            };
        };
    };
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
