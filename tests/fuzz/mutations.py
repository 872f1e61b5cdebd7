"""Ways to damage a file: bytes, lengths in headers, the order of parts, the head of one with the tail of another."""

import random
import re
from collections.abc import Callable, Sequence

# Names of chunks, atoms, pages and tags; containers store sizes and counts beside them.
_NAMES = re.compile(
    rb"RIFF|WAVE|fmt |data|LIST|fact|ds64|FORM|COMM|SSND|ftyp|moov|mvhd|trak|tkhd|mdia|mdhd|hdlr|minf|stbl|stsd|stts|"
    rb"stsc|stsz|stco|co64|esds|mdat|free|udta|meta|ilst|covr|moof|traf|trun|OggS|OpusHead|OpusTags|vorbis|fLaC|ID3|"
    rb"APIC|Xing|Info|LAME|wvpk|TTA1|caff|desc|kuki|pakt|matroska|webm|\x1a\x45\xdf\xa3|\x18\x53\x80\x67|\x16\x54\xae\x6b|"
    rb"\x1f\x43\xb6\x75|\x30\x26\xb2\x75|\xff[\xe0-\xff]|\x0b\x77"
)
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_HEADER_BYTES = 512
_MOST_AT_ONCE = 4

Mutation = Callable[[random.Random, bytearray], None]


def mutated(dice: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """The content with one to four mutations; sometimes its head before the tail of another file."""
    mutant = bytearray(content)
    if dice.random() < 0.05:
        other = dice.choice(others)
        mutant = bytearray(content[: _place(dice, mutant)] + other[_place(dice, bytearray(other)) :])
    for _ in range(dice.randint(1, _MOST_AT_ONCE)):
        if mutant:
            dice.choice(_MUTATIONS)(dice, mutant)
    return bytes(mutant)


def _place(dice: random.Random, content: bytearray) -> int:
    """The place of a byte, half of the time in the header."""
    return dice.randrange(min(len(content), _HEADER_BYTES if dice.random() < 0.5 else len(content)))


def _random_range(dice: random.Random, content: bytearray) -> slice:
    start = _place(dice, content)
    return slice(start, start + dice.choice((1, 2, 4, 16, 256, 4096, len(content))))


def _flip_bits(dice: random.Random, content: bytearray) -> None:
    for _ in range(dice.choice((1, 1, 3, 30))):
        content[_place(dice, content)] ^= 1 << dice.randrange(8)


def _overwrite_bytes(dice: random.Random, content: bytearray) -> None:
    place = _random_range(dice, content)
    size = len(content[place])
    content[place] = dice.choice((bytes(size), b"\xff" * size, dice.randbytes(size)))


def _number(dice: random.Random) -> bytes:
    width = dice.choice((1, 2, 4, 8))
    value = dice.choice(_NUMBERS) if dice.random() < 0.7 else dice.getrandbits(8 * width)
    return (value % (1 << 8 * width)).to_bytes(width, dice.choice(("little", "big")))


def _overwrite_number(dice: random.Random, content: bytearray) -> None:
    start, number = _place(dice, content), _number(dice)
    content[start : start + len(number)] = number


def _overwrite_size(dice: random.Random, content: bytearray) -> None:
    """A number just before a name, as in MP4, or some bytes after it, as in RIFF and Ogg."""
    if places := [found.span() for found in _NAMES.finditer(content)]:
        start, end = dice.choice(places)
        number = _number(dice)
        at = max(start - len(number), 0) if dice.random() < 0.4 else end + dice.choice((0, 0, 1, 2, 4, 8, 12, 22))
        content[at : at + len(number)] = number


def _cut_end(dice: random.Random, content: bytearray) -> None:
    del content[_place(dice, content) :]


def _cut_out(dice: random.Random, content: bytearray) -> None:
    del content[_random_range(dice, content)]


def _insert_bytes(dice: random.Random, content: bytearray) -> None:
    start = _place(dice, content)
    content[start:start] = dice.randbytes(dice.choice((1, 2, 3, 4, 16, 300)))


def _repeat(dice: random.Random, content: bytearray) -> None:
    place = _random_range(dice, content)
    content[place.start : place.start] = content[place] * dice.choice((1, 2, 8))
    del content[1_000_000:]


def _swap_chunks(dice: random.Random, content: bytearray) -> None:
    places = sorted({found.start() for found in _NAMES.finditer(content)} | {0, len(content)})
    if len(places) >= 4:
        first, second, third = sorted(dice.sample(range(len(places)), 3))
        start, middle, end = places[first], places[second], places[third]
        content[start:end] = content[middle:end] + content[start:middle]


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _overwrite_bytes,
    _overwrite_number,
    _overwrite_size,
    _overwrite_size,
    _cut_end,
    _cut_out,
    _insert_bytes,
    _repeat,
    _swap_chunks,
)
