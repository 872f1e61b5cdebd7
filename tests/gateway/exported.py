"""A track with every part for tests of exports, and helpers that export it."""

from gateway.exports.export import Document, Track
from gateway.exports.registry import EXPORTS
from stemtube.analysis.v1 import music_pb2
from stemtube.common.v1 import provenance_pb2
from stemtube.download.v1 import track_pb2

SECONDS = 20.0
BEAT = 0.5
FIRST_BEAT = 0.7
"""Two beats of pick-up, then bars of four from 1.7 s on."""


def full_track() -> Track:
    """20 s at 120 BPM: an instrumental intro, a verse of two lines, an outro."""
    beats = [
        music_pb2.Beat(time=FIRST_BEAT + BEAT * n, position=(n + 2) % 4 + 1)
        for n in range(int((SECONDS - FIRST_BEAT) / BEAT))
    ]
    chords = [
        (0.0, 1.7, "N"),
        (1.7, 5.7, "A:min"),
        (5.7, 7.7, "F:maj7/3"),
        (7.7, 9.7, "G:7"),
        (9.7, 13.7, "C"),
        (13.7, 20.0, "E:min(*5)/b3"),
    ]
    lines = [
        (5.8, 7.5, "Hello bright world", [(5.8, 6.2, "Hello"), (6.3, 6.8, "bright"), (6.9, 7.5, "world")]),
        (7.4, 12.0, "Größe <3 [live]", [(7.4, 8.0, "Größe"), (9.6, 10.0, "<3"), (10.2, 12.0, "[live]")]),
    ]
    return track_pb2.Track(
        id="t",
        title="Morning / Light",
        artist="Zoë",
        duration_seconds=SECONDS,
        source_url="https://example.org/song",
        tempo=music_pb2.Tempo(bpm=120.0, confidence=0.9),
        beats_per_bar=4,
        beats=beats,
        key=music_pb2.Key(tonic="A", mode="minor", confidence=0.8),
        chords=[music_pb2.Chord(start=a, end=b, label=label, confidence=0.5) for a, b, label in chords],
        sections=[
            music_pb2.Section(start=0.0, end=5.7, label="intro", group=0),
            music_pb2.Section(start=5.7, end=13.7, label="verse", group=1),
            music_pb2.Section(start=13.7, end=SECONDS, label="big outro", group=0),
        ],
        lyrics=music_pb2.Lyrics(
            language="en",
            lines=[
                music_pb2.Line(
                    start=start,
                    end=end,
                    text=text,
                    words=[music_pb2.Word(start=a, end=b, text=word, confidence=0.7) for a, b, word in words],
                )
                for start, end, text, words in lines
            ],
        ),
        made_by={"beats": provenance_pb2.Provenance(backend="madmom", version="1")},
    )


def exported(name: str, track: Track | None = None, **options: str) -> str:
    """The text of an export, with the given options and otherwise the defaults."""
    made = document(name, track, **options)
    assert isinstance(made.content, str)
    return made.content


def document(name: str, track: Track | None = None, **options: str) -> Document:
    export = EXPORTS[name]
    defaults = {option.name: option.choices[0] if option.choices else "" for option in export.options}
    made = export.make(track or full_track(), defaults | options)
    assert isinstance(made, Document)
    return made
