"""Names of chords in Harte syntax, from the notes in synthesised songs."""

from collections.abc import Sequence

NO_CHORD = "N"
NOTES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
QUALITIES = {
    (0, 4, 7): "maj",
    (0, 3, 7): "min",
    (0, 3, 6): "dim",
    (0, 4, 8): "aug",
    (0, 5, 7): "sus4",
    (0, 2, 7): "sus2",
    (0, 4, 7, 10): "7",
    (0, 4, 7, 11): "maj7",
    (0, 3, 7, 10): "min7",
    (0, 3, 6, 10): "hdim7",
    (0, 3, 6, 9): "dim7",
}
BASSES = {3: "b3", 4: "3", 6: "b5", 7: "5", 10: "b7", 11: "7"}


def harte(root: int, tones: Sequence[int], bass: int = 0) -> str:
    """Names a chord.

    Args:
        root: pitch class of the root.
        tones: in semitones above the root.
        bass: the lowest tone, in semitones above the root.
    """
    return f"{NOTES[root % 12]}:{QUALITIES[tuple(tones)]}" + (f"/{BASSES[bass]}" if bass else "")
