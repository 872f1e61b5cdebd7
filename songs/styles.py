"""Styles of made songs: what each instrument plays in a bar, written as on a drum machine.

A pattern divides its bar into equal steps, one character each; `|` separates bars that take turns.

| character | in a pattern of drums | of chords and lines |
|---|---|---|
| `X`, `x`, `-` | loud, normal, soft | all tones of the chord, near the line's pitch: loud, normal, soft |
| `0` … `9` | | the tone with this number, counted upwards from the chord's bass |
| `w` | | any tone, as in a walking bass |
| `=` | | the note before goes on |
| `.` | rest | rest |
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """Chords or single notes: `around` is the MIDI pitch near which the line lies."""

    instrument: str
    pattern: str
    level: float
    around: int


@dataclass(frozen=True, slots=True)
class Tune:
    """A melody: `parts` steps per beat; `busy` is the share of steps between beats that have a note."""

    instrument: str
    level: float
    parts: int = 2
    busy: float = 0.3
    around: int = 67


@dataclass(frozen=True, slots=True)
class Style:
    """What is played in a bar.

    Args:
        meter: as it is written.
        beats: in a bar, as a musician counts: two in 6/8, four in 12/8, seven in 7/8.
        drums: patterns by drum.
        lines: chords and lines.
        tune: the melody, if there is one.
        four_part: a chord on each beat in four voices, as in a chorale, by this instrument; instead of lines.
        pulse: whether beats can be heard; they cannot where each bar has one sound.
    """

    meter: str
    beats: int
    drums: dict[str, str]
    lines: tuple[Line, ...] = ()
    tune: Tune | None = None
    four_part: str = ""
    pulse: bool = True


def _bass(pattern: str, level: float = 0.5) -> Line:
    return Line("bass", pattern, level, 40)


def _piano(pattern: str, level: float = 0.2, around: int = 60) -> Line:
    return Line("piano", pattern, level, around)


def _guitar(pattern: str, level: float = 0.18, around: int = 60) -> Line:
    return Line("guitar", pattern, level, around)


def _strings(pattern: str, level: float = 0.2, around: int = 60) -> Line:
    return Line("strings", pattern, level, around)


def _organ(pattern: str, level: float = 0.2, around: int = 60) -> Line:
    return Line("organ", pattern, level, around)


_EIGHTHS = {"hat": "x-x-x-x-"}
_WALTZ_DRUMS = {"kick": "X..", "hat": ".xx"}

STYLES: dict[str, Style] = {
    # Four beats
    "rock": Style(
        "4/4",
        4,
        _EIGHTHS | {"kick": "X..xX...|X...XX..", "snare": "..X...X."},
        (_bass("00000000"), _guitar("xxxxxxxx", 0.14, 57)),
        Tune("piano", 0.3),
    ),
    "pop": Style(
        "4/4",
        4,
        _EIGHTHS | {"kick": "X...X..x", "snare": "..X...X."},
        (_bass("0==00==2"), _piano("x=x=x=x=", 0.16), _guitar("01231213", 0.2, 52)),
        Tune("guitar", 0.3),
    ),
    "half time": Style(
        "4/4",
        4,
        {"hat": "x-x-x-x-", "kick": "X.....x.|X..x....", "snare": "....X..."},
        (_bass("0=====0="), _guitar("x===x===", 0.2, 57), _strings("x=======", 0.08, 67)),
        Tune("piano", 0.25, 2, 0.2),
    ),
    "disco": Style(
        "4/4",
        4,
        {"kick": "X.X.X.X.", "open hat": ".x.x.x.x", "snare": "..X...X."},
        (_bass("03030303"), _guitar("..xx..xx..xx..xx", 0.15, 64), _strings("x=======", 0.08, 67)),
        Tune("piano", 0.25),
    ),
    "funk": Style(
        "4/4",
        4,
        {"hat": "x---x---x---x---", "kick": "X..x......X.....|X..x..x...X.....", "snare": "....X.......X..-"},
        (_bass("0..0..3...0.2.0.|0..0..3.0...2.1.", 0.6), _guitar("..x.x..x..x..x..", 0.2, 62)),
        Tune("piano", 0.2, 4, 0.25),
    ),
    "backbeat": Style(
        "4/4",
        4,
        {"snare": "..X...X."},
        (_bass("0==..0=="), _piano("x=.x=x=x")),
        Tune("guitar", 0.35),
    ),
    "reggae": Style(
        "4/4",
        4,
        {"hat": "-x-x-x-x", "kick": "....X...", "rim": "....X..."},
        (_bass(".012.00.", 0.6), _guitar(".x.x.x.x", 0.35, 62), _organ(".-.-.-.-", 0.1, 65)),
        Tune("piano", 0.15),
    ),
    "ska": Style(
        "4/4",
        4,
        {"kick": "x.......", "snare": "..x...x.", "hat": ".x.x.x.x"},
        (_bass("0=1=2=1="), _guitar(".x.x.x.x", 0.4, 64), _piano(".x.x.x.x", 0.15)),
        Tune("organ", 0.15),
    ),
    "bossa": Style(
        "4/4",
        4,
        {"rim": "x..x..x.|..x..x..", "kick": "x..xx..x", "hat": "--------"},
        (_bass("0==22==2"), _guitar("x..x..x.|.x..x..x", 0.25)),
        Tune("piano", 0.25),
    ),
    "drums": Style("4/4", 4, _EIGHTHS | {"kick": "X.xX..x.|X..xX.x.", "snare": "..X...X.|..X...XX"}),
    "swing": Style(
        "4/4",
        4,
        {"ride": "x..x.xx..x.x", "hat": "...X.....X..", "kick": "-..-..-..-.."},
        (_bass("0==w==w==w==", 0.55), _piano(".....x......|x.....x.....|..x.....x...", 0.18)),
        Tune("guitar", 0.3, 3, 0.25),
    ),
    "ballad": Style(
        "4/4", 4, {}, (_piano("0=======", 0.35, 40), _piano(".1234543", 0.3, 55)), Tune("strings", 0.2)
    ),
    "fingerpicking": Style("4/4", 4, {}, (_guitar("0=2=0=2=", 0.4, 45), _guitar("-3-4-354", 0.35, 50)), None),
    "pads": Style("4/4", 4, {}, (_strings("0=======", 0.25, 43), _strings("x=======", 0.18)), Tune("strings", 0.3, 1)),
    "hymn": Style(
        "4/4", 4, {}, (_organ("0=======", 0.3, 43), _organ("x=x=x=x=", 0.15, 62)), Tune("organ", 0.25, 1, 0.2, 72)
    ),
    "quartet": Style(
        "4/4",
        4,
        {},
        (_strings("0=2=0=1=", 0.3, 43), _strings(".x.x.x.x", 0.12, 57), _strings("1===2===", 0.18, 62)),
        Tune("strings", 0.3, 2, 0.3, 74),
    ),
    "stride": Style(
        "4/4", 4, {}, (_piano("0...2...", 0.4, 38), _piano("..x...x.", 0.22, 58)), Tune("piano", 0.4, 2, 0.4, 74)
    ),
    "chorale": Style("4/4", 4, {}, four_part="strings"),
    "organ chorale": Style("4/4", 4, {}, four_part="organ"),
    "piano chorale": Style("4/4", 4, {}, four_part="piano"),
    "held chords": Style("4/4", 4, {}, (_strings("0=======", 0.25, 43), _strings("x=======", 0.2)), pulse=False),
    "struck chords": Style("4/4", 4, {}, (_piano("0=======", 0.3, 40), _piano("x=x=x=x=", 0.25))),
    "chords and rests": Style("4/4", 4, {}, (_guitar("x=====..", 0.3, 57),), pulse=False),
    # Three beats
    "waltz": Style(
        "3/4", 3, _WALTZ_DRUMS, (_bass("0=....|2=...."), _piano(".x.", 0.2), _piano("..x", 0.2)), Tune("guitar", 0.35)
    ),
    "jazz waltz": Style(
        "3/4",
        3,
        {"ride": "x..x.xx..", "hat": "...X.....", "kick": "x........"},
        (_bass("0==w==w=="), _piano(".....x...|x..x.....", 0.18)),
        Tune("piano", 0.3, 3, 0.2),
    ),
    "drummed waltz": Style(
        "3/4",
        3,
        {"kick": "X.....", "snare": "..x.x.", "hat": "x-x-x-"},
        (_bass("0=0=2="), _guitar("x=x=x=", 0.2, 57)),
        Tune("piano", 0.3),
    ),
    "ballad in three": Style(
        "3/4", 3, {}, (_piano("0=====", 0.35, 40), _piano(".12321", 0.3, 55)), Tune("strings", 0.2)
    ),
    "quartet in three": Style(
        "3/4",
        3,
        {},
        (_strings("0=....", 0.3, 43), _strings("..x.x.", 0.15, 58), _strings("1=====", 0.15, 62)),
        Tune("strings", 0.3, 2, 0.3, 74),
    ),
    "chorale in three": Style("3/4", 3, {}, four_part="strings"),
    # Two beats
    "polka": Style(
        "2/4", 2, {"kick": "x...", "snare": "..x.", "hat": ".x.x"}, (_bass("0.2."), _piano(".x.x")), Tune("guitar", 0.3)
    ),
    "march": Style(
        "2/4",
        2,
        {"kick": "X...x...", "snare": "..x-..xx|x-x-x---"},
        (_bass("0.2."), _organ(".x.x", 0.2)),
        Tune("organ", 0.3, 2, 0.4),
    ),
    # Beats of three parts
    "jig": Style(
        "6/8",
        2,
        {"kick": "X..x..", "snare": "...x..", "hat": "x--x--"},
        (_bass("0==2=="), _guitar("x.xx.x", 0.18)),
        Tune("piano", 0.3, 3, 0.45),
    ),
    "slow rock": Style(
        "6/8",
        2,
        {"kick": "X.....|X....x", "snare": "...X..", "hat": "x-----"},
        (_bass("0====2"), _guitar("012321", 0.3, 50), _strings("x=====", 0.08, 67)),
        Tune("piano", 0.3, 3, 0.25),
    ),
    "lilt": Style("6/8", 2, {}, (_piano("0==2==", 0.35, 40), _guitar("012321", 0.3, 52)), Tune("strings", 0.2, 3)),
    "shuffle": Style(
        "12/8",
        4,
        {"hat": "x.-x.-x.-x.-", "kick": "X....xX.....", "snare": "...X.....X.."},
        (_bass("0.12.13.32.1"), _piano("x..x..x..x..", 0.15)),
        Tune("guitar", 0.3, 3, 0.25),
    ),
    "slow blues": Style(
        "12/8",
        4,
        {"hat": "x--x--x--x--", "kick": "X....xX....x", "snare": "...X.....X.."},
        (_bass("0====20====1"), _organ("x==========.", 0.12, 64)),
        Tune("guitar", 0.35, 3, 0.3),
    ),
    # Five and seven
    "five": Style(
        "5/4",
        5,
        {"hat": "x-x-x-x-x-", "kick": "X.....X...", "snare": "...x..x.x."},
        (_bass("0==0==2=0="), _piano("x=.x=.x.x.", 0.2)),
        Tune("guitar", 0.3),
    ),
    "five, swung": Style(
        "5/4",
        5,
        {"ride": "x..x.xx..x..x.x", "kick": "X........x.....", "hat": "...x.....x....."},
        (_bass("0========2====="), _piano("x....x...x..x..", 0.25)),
        Tune("piano", 0.3, 3, 0.2),
    ),
    "seven": Style(
        "7/8",
        7,
        {"hat": "xxxxxxx", "kick": "X......", "snare": "..x.x.."},
        (_bass("0=0=2=="), _piano("x-x-x--", 0.18)),
        Tune("guitar", 0.3, 1, 0.5),
    ),
    "seven, driven": Style(
        "7/8",
        7,
        {"hat": "x-x-x--", "kick": "X.x.x..", "snare": "......x"},
        (_bass("0000222"), _guitar("xxxxxxx", 0.16, 57)),
        Tune("piano", 0.3, 1, 0.5),
    ),
    # Passages of songs, see the forms
    "verse": Style(
        "4/4",
        4,
        {"hat": "--------", "kick": "x...x...", "rim": "..x...x."},
        (_bass("0==.0==."), _piano("x=======", 0.2)),
        Tune("guitar", 0.3),
    ),
    "chorus": Style(
        "4/4",
        4,
        {"open hat": "x.x.x.x.", "kick": "X..xX..x", "snare": "..X...X.", "crash": "x...|....|....|...."},
        (_bass("00000000", 0.6), _guitar("xxxxxxxx", 0.2, 57), _strings("x=======", 0.12, 67)),
        Tune("piano", 0.35, 2, 0.5, 74),
    ),
    "bridge": Style("4/4", 4, {"ride": "x.x.x.x."}, (_strings("0=======", 0.25, 43), _organ("x=======", 0.2, 62))),
    "solo": Style(
        "4/4",
        4,
        _EIGHTHS | {"kick": "X...X.x.", "snare": "..X...X."},
        (_bass("0=2=3=2="), _organ("x=======", 0.15, 62)),
        Tune("guitar", 0.5, 4, 0.5, 74),
    ),
    "intro": Style("4/4", 4, {"hat": "x.x.x.x."}, (_guitar("01232123", 0.4, 50),)),
    "outro": Style("4/4", 4, {}, (_piano("0=======", 0.35, 40), _guitar("01232123", 0.3, 50))),
}  # fmt: skip
