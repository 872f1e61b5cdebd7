"""Section names from similarity, level and length, and from singing and words where they are known."""

import numpy as np
import pytest

from services.analysis.backends.base import Context, Line, Lyrics, Section, Structure, Word
from services.analysis.backends.structure.barwise import BarwiseStructure
from services.analysis.backends.structure.names import Traits, name_sections
from services.analysis.backends.structure.traits import renamed, traits, with_silences
from services.common.samples import Audio
from songs.small_songs import silence


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CHORUS = words("carry me over the mountain carry me over the sea")
MISHEARD = words("carry me of the mountains and carry me over see")
FIRST_VERSE = words("morning light is on the water I am waiting by the road")
SECOND_VERSE = words("evening falls upon the river we are walking all alone")


@pytest.mark.parametrize(
    ("form", "levels", "durations", "expected"),
    [
        (
            "IVCVCBCO",
            "24646450",
            "1222222",
            ["intro", "verse", "chorus", "verse", "chorus", "bridge", "chorus", "outro"],
        ),
        ("VCVC", "3535", "", ["verse", "chorus", "verse", "chorus"]),
        (
            "IVPCVPCO",
            "13453451",
            "",
            ["intro", "verse", "pre-chorus", "chorus", "verse", "pre-chorus", "chorus", "outro"],
        ),
        ("AABA", "3333", "", ["verse", "verse", "bridge", "verse"]),
        ("CVCVC", "53535", "12222", ["intro", "verse", "chorus", "verse", "chorus"]),
        ("VCVC", "3333", "", ["verse", "chorus", "verse", "chorus"]),
        ("ABC", "333", "", ["A", "B", "C"]),
        ("AB", "33", "", ["A", "B"]),
        ("A", "3", "", ["A"]),
        ("", "", "", []),
    ],
)
def test_without_a_voice(form: str, levels: str, durations: str, expected: list[str]) -> None:
    lengths = durations.ljust(len(form), "2")
    sections = [
        Traits(ord(group), float(level), float(length))
        for group, level, length in zip(form, levels, lengths, strict=True)
    ]
    assert name_sections(sections) == expected


def sung(group: int, words: tuple[str, ...], level: float = 0.0) -> Traits:
    return Traits(group, level, 20.0, 0.8, words)


def unsung(group: int, level: float = 0.0) -> Traits:
    return Traits(group, level, 20.0, 0.05)


def test_repeated_words_make_a_chorus_even_if_it_is_soft_and_like_the_verse() -> None:
    sections = [
        sung(0, FIRST_VERSE),
        sung(0, CHORUS, -3.0),
        sung(0, SECOND_VERSE),
        sung(0, MISHEARD, -3.0),
    ]
    assert name_sections(sections) == ["verse", "chorus", "verse", "chorus"]


def test_a_chorus_whose_words_were_misheard_is_no_bridge() -> None:
    nonsense = words("harry knee under a fountain where he sees")
    sections = [sung(0, FIRST_VERSE), sung(1, CHORUS), sung(0, SECOND_VERSE), sung(1, nonsense), sung(1, CHORUS)]
    assert name_sections(sections) == ["verse", "chorus", "verse", "chorus", "chorus"]


def test_sections_without_singing() -> None:
    sections = [
        unsung(0, -9.0),
        sung(1, FIRST_VERSE),
        sung(2, CHORUS),
        unsung(0, -9.0),
        sung(1, SECOND_VERSE),
        sung(2, CHORUS),
        unsung(1, 0.5),
        sung(2, CHORUS),
        unsung(5, -20.0),
    ]
    assert name_sections(sections) == [
        "intro",
        "verse",
        "chorus",
        "instrumental",
        "verse",
        "chorus",
        "solo",
        "chorus",
        "outro",
    ]


def test_a_song_that_begins_with_singing_has_no_intro() -> None:
    sections = [sung(7, FIRST_VERSE), sung(2, CHORUS), unsung(3), sung(4, SECOND_VERSE), sung(2, CHORUS)]
    assert name_sections(sections)[0] == "verse"
    assert name_sections([sections[0], sections[1], sections[3], sections[4]])[0] == "verse"


def test_a_piece_without_a_voice_is_named_by_its_sound_alone() -> None:
    assert name_sections([unsung(group) for group in (0, 1, 0, 1)]) == ["verse", "chorus", "verse", "chorus"]


def test_without_repetition_sung_sections_get_letters() -> None:
    sections = [unsung(0), sung(1, FIRST_VERSE), sung(2, SECOND_VERSE), unsung(3)]
    assert name_sections(sections) == ["intro", "A", "B", "outro"]


SECTIONS = Structure(
    tuple(
        Section(10.0 * i, 10.0 * (i + 1), "A", 0.5, group, level)
        for i, (group, level) in enumerate([(0, -9.0), (1, 0.0), (2, 0.0), (1, 0.0), (2, 0.0), (1, 0.0)])
    )
)


def vocals(*spans: tuple[float, float], bleed: float = 0.0) -> Audio:
    """60 s of vocals: a voice in some places, and everywhere what the separation left of the band."""
    rng = np.random.default_rng(0)
    samples = bleed * rng.standard_normal((1, 60 * 11_025))
    for start, end in spans:
        here = slice(round(start * 11_025), round(end * 11_025))
        samples[:, here] += 0.2 * rng.standard_normal(samples[:, here].shape)
    return Audio(samples.astype(np.float32), 11_025)


def test_the_voices_share_of_a_section() -> None:
    shares = [trait.voice for trait in traits(SECTIONS, vocals((12, 18), (20, 60), bleed=0.005), None)]
    assert shares == pytest.approx([0.0, 0.6, 1.0, 1.0, 1.0, 1.0], abs=0.02)
    assert [trait.voice for trait in traits(SECTIONS, silence(60.0), None)] == [0.0] * 6
    assert [trait.voice for trait in traits(SECTIONS, silence(0.0), None)] == [0.0] * 6
    assert {trait.voice for trait in traits(SECTIONS, None, None)} == {None}


def test_words_belong_to_the_section_that_holds_most_of_them() -> None:
    timed = tuple(Word(9.0 + i, 9.9 + i, word, 1.0) for i, word in enumerate(("Don't", "you,", "ever…")))
    lines = (Line(9.0, 11.9, "Don't you, ever…", timed), Line(41.0, 44.0, "Go away!", ()))
    found = [trait.words for trait in traits(SECTIONS, None, Lyrics("en", lines))]
    assert found == [("don't",), ("you", "ever"), (), (), ("go", "away"), ()]


def test_renaming_changes_only_the_names() -> None:
    lyrics = Lyrics(
        "en",
        tuple(
            Line(start + 1, start + 9, " ".join(text), ())
            for start, text in ((10, FIRST_VERSE), (20, CHORUS), (30, SECOND_VERSE), (40, CHORUS))
        ),
    )
    named = BarwiseStructure().analyze(vocals((10, 50)), Context(structure=SECTIONS, lyrics=lyrics), lambda done: None)
    assert [section.label for section in named.sections] == ["intro", "verse", "chorus", "verse", "chorus", "outro"]
    for one, other in zip(named.sections, SECTIONS.sections, strict=True):
        assert (one.start, one.end, one.confidence, one.group, one.level) == (
            other.start,
            other.end,
            other.confidence,
            other.group,
            other.level,
        )


def test_silence_before_and_after_the_music_is_a_section_of_its_own_and_keeps_its_name() -> None:
    rate = 8_000
    sound = np.random.default_rng(3).uniform(-0.3, 0.3, 20 * rate).astype(np.float32)
    quiet = np.zeros(4 * rate, np.float32)
    audio = Audio(np.concatenate([quiet, sound, quiet])[None], rate)
    sections = (Section(0.0, 14.0, "A", 0.5, 0, -9.0), Section(14.0, 28.0, "B", 0.5, 1, -9.0))
    structure = with_silences(Structure(sections), audio)
    found = [(section.start, section.end, section.label) for section in structure.sections]
    assert found == [
        (0.0, pytest.approx(4.0, abs=0.02), "silence"),
        (pytest.approx(4.0, abs=0.02), 14.0, "A"),
        (14.0, pytest.approx(24.0, abs=0.02), "B"),
        (pytest.approx(24.0, abs=0.02), 28.0, "silence"),
    ]
    names = renamed(structure, ["verse", "chorus"])
    assert [section.label for section in names.sections] == ["silence", "verse", "chorus", "silence"]
    assert len(traits(structure, audio, None)) == 2


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_song_that_starts_at_once_and_fades_out_has_no_silences(seconds: float) -> None:
    rate = 8_000
    sound = np.random.default_rng(3).uniform(-0.3, 0.3, 20 * rate) * np.linspace(1, 0, 20 * rate)
    audio = Audio(np.concatenate([np.zeros(round(seconds * rate)), sound])[None].astype(np.float32), rate)
    structure = Structure((Section(0.0, audio.duration, "A", 0.5, 0, -9.0),))
    assert with_silences(structure, audio) == structure


def test_a_silent_track_is_not_changed() -> None:
    structure = Structure((Section(0.0, 10.0, "A", 0.0),))
    assert with_silences(structure, Audio(np.zeros((2, 80_000), np.float32), 8_000)) == structure
