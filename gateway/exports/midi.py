"""The song's structure as a Standard MIDI file: a tempo map that follows each beat, metre, chords, and lyrics.

In a DAW, its bars and beats match those of the recording.
"""

import bisect
import io
import math
from collections.abc import Iterator
from itertools import pairwise

import mido

from gateway.exports.export import Document, Export, FileType, Options, Track
from gateway.exports.track import beat_seconds, metre, one_line
from services.common.errors import NotFoundError
from services.common.harte import name_of, parse

TYPE = FileType(".mid", "audio/midi")
TICKS = 480
"""Per beat."""
SHORTEST_LEAD = 0.1
"""A first beat earlier than this, in beats, is the start of the song: programs do not accept ten times the tempo."""
LONGEST_BEAT_SECONDS = 16.0
"""A MIDI tempo is microseconds per beat in 24 bits."""
MAX_METRE = 255
BASS_OCTAVE, CHORD_OCTAVE = 36, 48
VELOCITY = 80
KEYS = {
    "major": ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    "minor": ("Cm", "C#m", "Dm", "Ebm", "Em", "Fm", "F#m", "Gm", "G#m", "Am", "Bbm", "Bm"),
}


def make(track: Track, _options: Options) -> Document:
    """Writes three tracks, as long as the song: tempo, metre, key and markers; chords; lyrics.

    Raises:
        NotFoundError: the track has neither beats nor chords (reason NO_BEATS).
    """
    if not (track.beats or track.chords):
        raise NotFoundError("The track has neither beats nor chords.", "NO_BEATS")
    grid = _Grid(track)
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS, charset="utf-8")
    title = one_line(f"{track.artist} - {track.title}" if track.artist else track.title)
    end = (grid.tick(track.duration_seconds), mido.MetaMessage("end_of_track"))
    for name, events in (
        (title, [*grid.events(), *_key(track), *_markers(track, grid), end]),
        ("Chords", _chords(track, grid)),
        ("Lyrics", _lyrics(track, grid)),
    ):
        midi.tracks.append(_track(name, events))
    file = io.BytesIO()
    midi.save(file=file)
    return Document(TYPE, file.getvalue())


Events = list[tuple[int, mido.messages.BaseMessage]]
"""Times in ticks from the start, and messages."""


class _Grid:
    """Beats from the song's start on, the first one at tick 0; gaps without beats are filled."""

    def __init__(self, track: Track) -> None:
        self._period = min(beat_seconds(track), LONGEST_BEAT_SECONDS)
        self._metre = metre(track)
        self._times: list[float] = []
        self._downbeats: list[int] = []
        for beat in track.beats:
            self._reach(beat.time)
            if beat.position == 1:
                self._downbeats.append(len(self._times) - 1)
        if not self._times:
            self._times = [0.0]

    def _reach(self, time: float) -> None:
        """Adds a beat at this time, and as many before it as are needed to fill a gap."""
        if not self._times:
            beats = time / self._period
            count = 0 if beats < SHORTEST_LEAD else max(round(beats), math.ceil(time / LONGEST_BEAT_SECONDS), 1)
            self._times = [time * n / count for n in range(count + 1)] if count else [0.0]
            return
        last = self._times[-1]
        count = math.ceil((time - last) / LONGEST_BEAT_SECONDS) or 1
        self._times += [last + (time - last) * n / count for n in range(1, count + 1)]

    def tick(self, time: float) -> int:
        """The tick at a time in seconds."""
        if time >= self._times[-1]:
            return round(TICKS * (len(self._times) - 1 + (time - self._times[-1]) / self._period))
        place = max(bisect.bisect_right(self._times, time) - 1, 0)
        start, end = self._times[place : place + 2]
        return max(round(TICKS * (place + (time - start) / (end - start))), 0)

    def events(self) -> Events:
        """Tempo and metre, where they change."""
        return [*self._tempos(), *self._metres()]

    def _tempos(self) -> Iterator[tuple[int, mido.MetaMessage]]:
        reached, present = 0.0, 0
        for place, end in enumerate([*self._times[1:], self._times[-1] + self._period]):
            # Rounded so that errors do not add up.
            tempo = round((end - reached) * 1e6)
            reached += tempo / 1e6
            if tempo != present:
                yield place * TICKS, mido.MetaMessage("set_tempo", tempo=tempo)
            present = tempo

    def _metres(self) -> Iterator[tuple[int, mido.MetaMessage]]:
        present = 0
        for place, beats in self._bars():
            if beats != present:
                yield place * TICKS, mido.MetaMessage("time_signature", numerator=beats, denominator=4)
            present = beats

    def _bars(self) -> Iterator[tuple[int, int]]:
        """The first beat and the number of beats of each bar.

        Beats before the first downbeat form whole bars and, if necessary, a shorter one.
        """
        if not self._downbeats:
            yield 0, self._metre
            return
        first = self._downbeats[0]
        if first % self._metre:
            yield 0, first % self._metre
        for place in range(first % self._metre, first, self._metre):
            yield place, self._metre
        for one, other in pairwise(self._downbeats):
            yield one, min(other - one, MAX_METRE)
        yield self._downbeats[-1], self._metre


def _key(track: Track) -> Events:
    names = KEYS.get(track.key.mode)
    tonic = parse(track.key.tonic)
    if names is None or tonic is None:
        return []
    return [(0, mido.MetaMessage("key_signature", key=names[tonic.root]))]


def _markers(track: Track, grid: _Grid) -> Events:
    """Chords as markers, sections as cue points."""
    chords = [(grid.tick(chord.start), mido.MetaMessage("marker", text=name_of(chord.label))) for chord in track.chords]
    sections = [
        (grid.tick(part.start), mido.MetaMessage("cue_marker", text=one_line(part.label))) for part in track.sections
    ]
    return chords + sections


def _chords(track: Track, grid: _Grid) -> Events:
    events: Events = []
    for label in track.chords:
        chord = parse(label.label)
        start, end = grid.tick(label.start), grid.tick(label.end)
        if chord is None or start >= end:
            continue
        notes = [BASS_OCTAVE + chord.bass, *(CHORD_OCTAVE + chord.root + interval for interval in chord.intervals)]
        events += [(start, mido.Message("note_on", note=note, velocity=VELOCITY)) for note in notes]
        events += [(end, mido.Message("note_off", note=note, velocity=0)) for note in notes]
    return events


def _lyrics(track: Track, grid: _Grid) -> Events:
    """A lyric event for each word, or for a line without words; a line ends with a carriage return (RP-017)."""
    events: Events = []
    for line in track.lyrics.lines:
        words = [(word.start, one_line(word.text)) for word in line.words] or [(line.start, one_line(line.text))]
        for place, (start, text) in enumerate(words, start=1):
            end = "\r" if place == len(words) else " "
            events.append((grid.tick(start), mido.MetaMessage("lyrics", text=text + end)))
    return events


def _track(name: str, events: Events) -> mido.MidiTrack:
    """A track of events in order, with times relative to the previous event; notes end before others begin."""
    ordered = sorted(events, key=lambda event: (event[0], event[1].type != "note_off"))
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
    reached = 0
    for tick, message in ordered:
        track.append(message.copy(time=tick - reached))
        reached = tick
    return track


EXPORT = Export(
    name="midi",
    summary="Tempo map, metre, chords, sections and lyrics as a MIDI file that runs with the recording.",
    make=make,
)
