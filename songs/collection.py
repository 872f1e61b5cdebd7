"""The made songs on which accuracy is measured, in two parts that never mix.

`CHOOSING` is for choosing methods and settings. Nobody looks at a single song of `REPORTING`, and nothing is chosen by
it: docs/accuracy.md reports it alone. A song's kind and number decide its part, so it never changes, and new songs do
not move old ones. Chords, keys, tunes and rhythms are drawn from the name, so no two songs share them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from songs.recipes import Effect, Instruments, Pulse, Recipe

Part = Literal["choosing", "reporting"]
CHOOSING: Part = "choosing"
REPORTING: Part = "reporting"

_SYNTHESISERS: tuple[Instruments, ...] = ("band", "acoustic")
_PLAIN = ("major", "minor", "minor, leading tone", "major off the tonic")
_FOUR = ("rock", "pop", "half time", "disco", "funk", "backbeat", "bossa")
_WITHOUT_DRUMS = ("ballad", "fingerpicking", "pads", "hymn", "quartet", "stride", "ballad in three", "quartet in three")


def part_of(recipe: Recipe) -> Part:
    """The part to which a song belongs: of each two songs of a kind, a hash decides which is reported."""
    first = hashlib.sha256(f"{recipe.kind} {recipe.number // 2}".encode()).digest()[0]
    return REPORTING if (first + recipe.number) % 2 else CHOOSING


def recipes(part: Part | None = None) -> list[Recipe]:
    """The songs of a part, or all, in a fixed order."""
    every = [*_rhythms(), *_ensembles(), *_tempi(), *_recordings(), *_keys(), *_chords(), *_forms()]
    return [recipe for recipe in every if part in (None, part_of(recipe))]


def _songs(
    kind: str,
    styles: Sequence[str],
    pulses: Iterable[float | Pulse],
    harmonies: Sequence[str] = _PLAIN,
    **others: Any,
) -> list[Recipe]:
    """A song for each pulse (or tempo); styles, harmonies and synthesisers take turns."""
    return [
        Recipe(
            kind,
            _turn(styles, number),
            pulse if isinstance(pulse, Pulse) else Pulse(pulse),
            _turn(harmonies, number // 2),
            instruments=_synthesiser(number),
            number=number,
            **others,
        )
        for number, pulse in enumerate(pulses)
    ]


def _turn(among: Sequence[str], number: int) -> str:
    """Whose turn it is; rounds of an even count begin one later each time, else they would keep step with others."""
    return among[(number + (number // len(among) if len(among) % 2 == 0 else 0)) % len(among)]


def _synthesiser(number: int) -> Instruments:
    """Both songs of a pair, one of them reported, have the same synthesiser."""
    return _SYNTHESISERS[number // 2 % 2]


def _tempos(low: float, high: float, count: int) -> list[float]:
    """Tempi at equal ratios, in an order that mixes slow and fast ones; none is a round number."""
    steps = [low * (high / low) ** (index / (count - 1)) for index in range(count)]
    return [round(tempo, 1) for tempo in steps[::2] + steps[1::2]]


def _rhythms() -> list[Recipe]:
    return [
        *_songs("4/4", _FOUR, _tempos(64, 178, 14)),
        *_songs("off-beats", ("reggae", "ska", "backbeat"), _tempos(72, 150, 12)),
        *_songs("swing", ("swing",), _tempos(104, 192, 8), ("jazz", "blues")),
        *_songs("fast swing", ("swing",), _tempos(202, 262, 10), ("jazz", "blues", "minor, leading tone")),
        *_songs("3/4", ("waltz", "drummed waltz", "jazz waltz"), _tempos(88, 168, 10)),
        *_songs("fast waltz", ("waltz", "drummed waltz", "jazz waltz"), _tempos(181, 228, 12)),
        *_songs("2/4", ("polka", "march"), _tempos(86, 138, 8), ("major", "minor, leading tone")),
        *_songs("6/8", ("jig", "slow rock", "lilt"), _tempos(44, 118, 12)),
        *_songs("12/8", ("shuffle", "slow blues"), _tempos(48, 122, 10), ("blues", "major", "minor")),
        *_songs("5/4", ("five", "five, swung"), _tempos(98, 178, 8), ("minor", "dorian", "major")),
        *_songs("7/8", ("seven", "seven, driven"), _tempos(156, 238, 8), ("minor", "mixolydian", "dorian")),
        *_songs("upbeat", ("rock", "pop", "ballad", "waltz", "hymn"), _tempos(78, 148, 10), upbeat=1),
        *_songs("drums alone", ("drums",), _tempos(84, 168, 6)),
    ]


def _ensembles() -> list[Recipe]:
    chorales = ("chorale", "organ chorale", "piano chorale", "chorale in three")
    modes = ("chorale", "chorale", "chorale in minor")
    return [
        *_songs("chorale", chorales, [Pulse(bpm, phrasing=0.1) for bpm in _tempos(62, 104, 12)], modes),
        *_songs("chorale with an upbeat", chorales, _tempos(66, 98, 10), modes, upbeat=1),
        *_songs("without drums", _WITHOUT_DRUMS, _tempos(56, 132, 16)),
    ]


def _tempi() -> list[Recipe]:
    changes = ((100, 140), (120, 90), (84, 126), (146, 104), (92, 111), (132, 118), (76, 112), (160, 122), (108, 96),
               (96, 152))  # fmt: skip
    gradual = ((92, 124), (138, 104), (110, 128), (84, 72), (126, 156), (150, 118), (98, 108), (118, 90))
    drummed = ("rock", "pop", "funk", "disco", "waltz")
    live = [Pulse(bpm, sway=0.025, unrest=0.012) for bpm in _tempos(76, 152, 10)]
    rubato = [Pulse(bpm, sway=0.07, unrest=0.02, phrasing=0.25) for bpm in _tempos(62, 112, 8)]
    return [
        *_songs("tempo change", drummed, [Pulse(bpm, then) for bpm, then in changes]),
        *_songs("accelerando and ritardando", drummed, [Pulse(bpm, then, True) for bpm, then in gradual]),
        *_songs("live band without click", ("rock", "pop", "backbeat", "shuffle", "waltz"), live),
        *_songs("rubato", ("ballad", "ballad in three", "quartet", "stride"), rubato),
    ]


def _recordings() -> list[Recipe]:
    cents = (-50, -44, -38, -32, -26, -20, -14, 12, 18, 24, 30, 36, 42, 48)
    styles = ("pop", "ballad", "rock", "quartet", "reggae", "waltz", "hymn")
    found = []
    for number, (detuned, bpm) in enumerate(zip(cents, _tempos(74, 146, len(cents)), strict=True)):
        one = Recipe("detuned", styles[number % len(styles)], Pulse(bpm), _PLAIN[number % 3], tuning_cents=detuned,
                     instruments=_synthesiser(number), number=number)  # fmt: skip
        found.append(one)
    effects: tuple[tuple[Effect, Sequence[str]], ...] = (
        ("tape drift", ("pop", "ballad", "rock", "hymn", "waltz")),
        ("one channel inverted", ("pop", "rock", "funk", "ballad", "swing")),
        ("cut in mid-bar", ("rock", "pop", "waltz", "ska", "pads", "slow rock")),
        ("intro without pulse", ("rock", "pop", "disco", "drummed waltz", "funk")),
    )
    for effect, played in effects:
        found += _songs(effect, played, _tempos(77, 151, 10), effect=effect)
    return found


def _keys() -> list[Recipe]:
    styles = ("pop", "ballad", "rock", "fingerpicking", "quartet", "bossa", "half time")
    changes = ("up a semitone", "up a tone", "up a minor third", "bridge a fourth up", "bridge a fifth up",
               "bridge a sixth up")  # fmt: skip
    found = [
        *_songs("major", styles, _tempos(78, 142, 8), ("major", "applied dominants")),
        *_songs("major begun off the tonic", styles, _tempos(80, 144, 8), ("major off the tonic",)),
        *_songs("minor", styles, _tempos(76, 138, 10), ("minor", "minor, leading tone")),
        *_songs("modes", styles, _tempos(82, 134, 8), ("mixolydian", "dorian")),
        *_songs("blues and jazz", ("slow blues", "swing", "shuffle"), _tempos(62, 148, 6), ("blues", "jazz")),
    ]
    for number, bpm in enumerate(_tempos(98, 158, 12)):
        form = changes[number % len(changes)]
        found += [
            Recipe("change of key", styles[number % len(styles)], Pulse(bpm), _PLAIN[number % 3], form,
                   instruments=_synthesiser(number), number=number)
        ]  # fmt: skip
    return found


def _chords() -> list[Recipe]:
    held = ("struck chords", "held chords", "fingerpicking", "ballad")
    return [
        *_songs("single chords with rests", ("chords and rests",), _tempos(72, 124, 6), ("major", "minor")),
        *_songs("inversions", held, _tempos(74, 122, 8), ("inversions",)),
        *_songs("sevenths", (*held, "swing", "bossa"), _tempos(76, 138, 10), ("jazz",)),
        *_songs("rare qualities", held, _tempos(70, 118, 8), ("rare qualities",)),
        *_songs("applied dominants", ("pop", "stride", "hymn", "ballad"), _tempos(80, 130, 8), ("applied dominants",)),
    ]


def _forms() -> list[Recipe]:
    forms = ("song", "song with a bridge", "song with a solo", "chorus first")
    found = []
    for number, bpm in enumerate([*_tempos(92, 148, 12), *_tempos(88, 152, 12)]):
        found.append(
            Recipe("whole song", "verse", Pulse(bpm, unrest=0.004), _PLAIN[number % 3], forms[number % 4],
                   instruments=_synthesiser(number), number=number)
        )  # fmt: skip
    return found
