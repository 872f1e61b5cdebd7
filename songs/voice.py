"""Synthesises a singing voice from phonemes and notes, with only NumPy and SciPy.

A cascade formant synthesiser after Klatt (JASA 67, 1980): a glottal pulse train and breath noise pass through
resonators that move between the targets of the phonemes; fricatives and bursts are filtered noise. The formant targets
are Klatt's for a male voice. Times are seconds, frequencies and bandwidths Hz, pitches MIDI numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter, resample_poly, sosfilt

Signal = npt.NDArray[np.float64]

SAMPLE_RATE_HZ = 44_100
_RATE = 22_050
_HOP = 64
_FRAME_RATE = _RATE / _HOP

# Formants above the three of each phoneme: F4 and F5 are close together, the "singer's formant" that makes a voice
# heard over a band (Sundberg 1974); the others keep the spectrum from falling too fast at this sampling rate.
_UPPER_FORMANTS = (
    (3250.0, 180.0),
    (3700.0, 220.0),
    (4900.0, 500.0),
    (5900.0, 700.0),
    (7100.0, 900.0),
    (8500.0, 1100.0),
)
_NASAL_POLE = (270.0, 100.0)
_NASAL_ZERO_HZ = 450.0


@dataclass(frozen=True, slots=True)
class Phone:
    """One phoneme: its formants, their excitation and, for consonants, its duration."""

    formants: tuple[float, float, float]
    bandwidths: tuple[float, float, float]
    glide: tuple[float, float, float] | None = None
    voicing: float = 1.0
    breath: float = 0.0
    hiss: str = ""
    hiss_level: float = 0.0
    nasal: bool = False
    seconds: float = 0.0
    stop: bool = False
    vowel: bool = False


def _vowel(
    formants: tuple[float, float, float],
    bandwidths: tuple[float, float, float],
    glide: tuple[float, float, float] | None = None,
) -> Phone:
    return Phone(formants, bandwidths, glide, vowel=True)


PHONES: dict[str, Phone] = {
    "IY": _vowel((310, 2050, 2960), (45, 150, 300), (290, 2120, 2960)),
    "IH": _vowel((400, 1850, 2570), (50, 100, 140)),
    "EH": _vowel((530, 1720, 2500), (60, 90, 200)),
    "AE": _vowel((640, 1680, 2430), (70, 120, 250)),
    "AA": _vowel((710, 1180, 2600), (100, 70, 160)),
    "AO": _vowel((590, 940, 2570), (80, 90, 80)),
    "AH": _vowel((620, 1220, 2550), (80, 60, 140)),
    "ER": _vowel((470, 1270, 1560), (90, 60, 110)),
    "UW": _vowel((340, 1150, 2200), (65, 110, 140), (320, 900, 2200)),
    "EY": _vowel((490, 1740, 2520), (65, 100, 150), (330, 2060, 2600)),
    "AY": _vowel((690, 1200, 2550), (90, 80, 120), (390, 1900, 2550)),
    "OW": _vowel((540, 1050, 2300), (75, 70, 75), (430, 850, 2300)),
    "AW": _vowel((680, 1250, 2550), (80, 70, 140), (420, 920, 2350)),
    "W": Phone((290, 610, 2150), (50, 80, 60), voicing=0.8, seconds=0.09),
    "Y": Phone((260, 2070, 3020), (40, 200, 400), voicing=0.8, seconds=0.08),
    "R": Phone((330, 1060, 1400), (70, 100, 120), voicing=0.85, seconds=0.09),
    "L": Phone((330, 1050, 2880), (50, 100, 220), voicing=0.75, seconds=0.08),
    "M": Phone((400, 1150, 2130), (80, 200, 250), voicing=0.7, nasal=True, seconds=0.09),
    "N": Phone((400, 1450, 2470), (80, 250, 300), voicing=0.7, nasal=True, seconds=0.08),
    "NG": Phone((400, 2000, 2700), (80, 250, 300), voicing=0.7, nasal=True, seconds=0.09),
    "HH": Phone((500, 1500, 2500), (200, 150, 200), voicing=0.0, breath=1.0, seconds=0.09),
    "F": Phone((340, 1100, 2080), (200, 120, 150), voicing=0.0, hiss="flat", hiss_level=0.5, seconds=0.11),
    "V": Phone((240, 1100, 2080), (80, 120, 150), voicing=0.5, hiss="flat", hiss_level=0.2, seconds=0.07),
    "DH": Phone((270, 1290, 2540), (80, 100, 170), voicing=0.5, hiss="flat", hiss_level=0.15, seconds=0.06),
    "S": Phone((320, 1500, 2600), (200, 100, 200), voicing=0.0, hiss="s", hiss_level=1.0, seconds=0.12),
    "Z": Phone((240, 1500, 2600), (80, 100, 200), voicing=0.4, hiss="s", hiss_level=0.5, seconds=0.09),
    "P": Phone((400, 1100, 2150), (200, 120, 150), voicing=0.0, hiss="flat", hiss_level=0.6, seconds=0.10, stop=True),
    "B": Phone((200, 1100, 2150), (80, 120, 150), voicing=0.25, hiss="flat", hiss_level=0.3, seconds=0.07, stop=True),
    "T": Phone((400, 1700, 2600), (200, 120, 200), voicing=0.0, hiss="t", hiss_level=1.0, seconds=0.11, stop=True),
    "D": Phone((200, 1700, 2600), (80, 120, 200), voicing=0.25, hiss="t", hiss_level=0.5, seconds=0.07, stop=True),
    "K": Phone((300, 1900, 2500), (200, 150, 250), voicing=0.0, hiss="k", hiss_level=1.0, seconds=0.12, stop=True),
}

# Noise bands (low edge, high edge) of the sounds made between tongue, teeth and lips.
_HISS_BANDS = {"s": (4800.0, 9000.0), "t": (3200.0, 8000.0), "k": (1500.0, 3000.0), "flat": (900.0, 9500.0)}
_HISS_GAIN = {"s": 0.11, "t": 0.16, "k": 0.20, "flat": 0.07}


@dataclass(frozen=True, slots=True)
class Note:
    """One sung syllable: `phones` are names in `PHONES` with exactly one vowel; the vowel begins at `start`."""

    start: float
    end: float
    pitch: float
    phones: tuple[str, ...]
    level: float = 1.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """A period with one setting of the voice."""

    start: float
    end: float
    phone: Phone
    voicing: float
    breath: float
    hiss_level: float


@dataclass(frozen=True, slots=True)
class Sung:
    """A sung part: `voice` float64 [samples] at 44.1 kHz, and when each note's syllable is heard (start, end)."""

    voice: Signal
    syllables: tuple[tuple[float, float], ...]


def sing(notes: Sequence[Note], seconds: float, rng: np.random.Generator) -> Sung:
    """Sings `notes` (in order of time, not overlapping) within a track of `seconds`.

    Consonants before the vowel are sung before the note's start, as singers do, so that the vowel is on the beat.
    """
    pieces, syllables = _schedule(notes)
    frames = int(np.ceil(seconds * _FRAME_RATE)) + 1
    excitation = _excitation(notes, syllables, pieces, frames, rng)
    voice = _even(_vocal_tract(excitation, pieces, frames)) + _hisses(pieces, frames, rng)
    samples = round(seconds * SAMPLE_RATE_HZ)
    voice = resample_poly(voice, SAMPLE_RATE_HZ // _RATE, 1)[:samples]
    return Sung(np.pad(voice, (0, samples - len(voice))), syllables)


def _schedule(notes: Sequence[Note]) -> tuple[list[_Piece], tuple[tuple[float, float], ...]]:
    """Schedules the phonemes of each syllable; also returns the (start, end) of each syllable."""
    split = [_split(note) for note in notes]
    lead = [sum(PHONES[name].seconds for name in onset) for onset, _, _ in split]
    pieces: list[_Piece] = []
    syllables: list[tuple[float, float]] = []
    for index, note in enumerate(notes):
        onset, nucleus, coda = split[index]
        end = note.end
        if index + 1 < len(notes):
            end = min(end, notes[index + 1].start - lead[index + 1])
        tail = sum(PHONES[name].seconds for name in coda)
        squeeze = min(1.0, 0.6 * (end - note.start) / tail) if tail else 1.0
        time = note.start - lead[index]
        syllables.append((time, end))
        for name in onset:
            pieces += _consonant(PHONES[name], time, PHONES[name].seconds, before_vowel=True)
            time += PHONES[name].seconds
        vowel_end = end - tail * squeeze
        pieces.append(_Piece(note.start, vowel_end, PHONES[nucleus], 1.0, 0.0, 0.0))
        time = vowel_end
        for name in coda:
            length = PHONES[name].seconds * squeeze
            pieces += _consonant(PHONES[name], time, length, before_vowel=False)
            time += length
    return pieces, tuple(syllables)


def _split(note: Note) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    at = next(index for index, name in enumerate(note.phones) if PHONES[name].vowel)
    return note.phones[:at], note.phones[at], note.phones[at + 1 :]


def _consonant(phone: Phone, start: float, seconds: float, before_vowel: bool) -> list[_Piece]:
    """The pieces of a consonant: a stop has a closure, a burst and, if voiceless before a vowel, aspiration."""
    if not phone.stop:
        return [_Piece(start, start + seconds, phone, phone.voicing, phone.breath, phone.hiss_level)]
    voiceless = phone.voicing == 0.0
    puff = 0.4 * seconds if voiceless else 0.0
    burst = 0.018
    released = start + seconds - puff
    strength = phone.hiss_level * (1.0 if before_vowel else 0.5)
    pieces = [
        _Piece(start, released - burst, phone, phone.voicing, 0.0, 0.0),
        _Piece(released - burst, released, phone, phone.voicing, 0.2, strength),
    ]
    if puff:
        pieces.append(_Piece(released, released + puff, phone, 0.0, 0.8 if before_vowel else 0.3, 0.1 * strength))
    return pieces


def _span(piece: _Piece) -> slice:
    return slice(max(0, round(piece.start * _FRAME_RATE)), max(0, round(piece.end * _FRAME_RATE)))


def _smooth(track: Signal, seconds: float) -> Signal:
    """A moving average with a Hann window of `seconds` along the first axis; the ends are kept."""
    width = max(3, round(seconds * _FRAME_RATE) | 1)
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    padded = np.pad(track, (width // 2, width // 2), mode="edge")
    return np.convolve(padded, kernel, mode="valid")


def _per_sample(track: Signal) -> Signal:
    """Interpolates values per frame to values per sample."""
    at = np.arange(len(track) * _HOP) / _HOP
    return np.interp(at, np.arange(len(track)) + 0.5, track)


def _excitation(
    notes: Sequence[Note],
    syllables: Sequence[tuple[float, float]],
    pieces: Sequence[_Piece],
    frames: int,
    rng: np.random.Generator,
) -> Signal:
    """The source signal of the vocal tract: glottal pulses at the sung pitch, and breath."""
    voicing, breath, level = np.zeros(frames), np.zeros(frames), np.ones(frames)
    for piece in pieces:
        voicing[_span(piece)] = piece.voicing
        breath[_span(piece)] = piece.breath
    pitch = np.full(frames, notes[0].pitch if notes else 60.0)
    vibrato = np.zeros(frames)
    for note, (start, end) in zip(notes, syllables, strict=True):
        first, last = round(start * _FRAME_RATE), round(end * _FRAME_RATE)
        pitch[first:] = note.pitch
        level[first:] = note.level
        held = np.arange(last - first) / _FRAME_RATE
        vibrato[first:last] = np.clip((held - 0.25) / 0.35, 0.0, 1.0)
    time = np.arange(frames) / _FRAME_RATE
    drift = _smooth(rng.standard_normal(frames), 0.12)
    pitch = _smooth(pitch, 0.07) + 0.3 * _smooth(vibrato, 0.1) * np.sin(2 * np.pi * 5.4 * time) + 0.25 * drift
    pitch_hz = 440.0 * 2.0 ** ((_per_sample(pitch) - 69.0) / 12.0)
    phase = np.cumsum(pitch_hz / _RATE)
    loudness = _per_sample(_smooth(level, 0.08)) * (
        1.0 + 0.04 * _per_sample(_smooth(rng.standard_normal(frames), 0.03))
    )
    pulses = _glottal_pulses(phase)
    noise = rng.standard_normal(len(phase)) * 0.05
    open_glottis = 0.6 + 0.4 * np.cos(2 * np.pi * phase)
    voiced = _per_sample(_smooth(voicing, 0.02)) * loudness * (pulses + 0.12 * noise * open_glottis)
    return voiced + _per_sample(_smooth(breath, 0.012)) * noise


def _glottal_pulses(phase: Signal) -> Signal:
    """The derivative of the glottal flow (KLGLOTT88: Klatt & Klatt, JASA 87, 1990); `phase` counts periods."""
    at = np.mod(phase, 1.0)
    quotient = 0.6
    inside = at < quotient
    flow = np.where(inside, 2.0 * at / quotient - 3.0 * (at / quotient) ** 2, 0.0)
    # A spectral tilt as in a relaxed voice, which also reduces aliasing at this sampling rate.
    return np.asarray(lfilter([0.55, 0.0], [1.0, -0.45], flow))


def _tracks(pieces: Sequence[_Piece], frames: int) -> tuple[Signal, Signal, Signal]:
    """Formants and bandwidths [3, frames] and nasality [frames], gliding from each phoneme to the next."""
    formants = np.zeros((3, frames))
    bandwidths = np.zeros((3, frames))
    nasal = np.zeros(frames)
    filled = 0
    for piece in pieces:
        span = _span(piece)
        phone = piece.phone
        targets = np.array(phone.formants, dtype=float)[:, None]
        along = np.linspace(0.0, 1.0, max(1, span.stop - span.start))[: span.stop - span.start]
        if phone.glide is not None:
            ends = np.array(phone.glide, dtype=float)[:, None]
            targets = targets + (ends - targets) * np.clip((along - 0.45) / 0.5, 0.0, 1.0)
        formants[:, span] = targets
        bandwidths[:, span] = np.array(phone.bandwidths, dtype=float)[:, None]
        nasal[span] = float(phone.nasal)
        # In the pause before a syllable the formants are those of its first sound.
        formants[:, filled : span.start] = np.array(phone.formants, dtype=float)[:, None]
        bandwidths[:, filled : span.start] = np.array(phone.bandwidths, dtype=float)[:, None]
        filled = span.stop
    formants[:, filled:] = formants[:, max(0, filled - 1)][:, None]
    bandwidths[:, filled:] = bandwidths[:, max(0, filled - 1)][:, None]
    formants = np.stack([_smooth(track, 0.055) for track in formants])
    bandwidths = np.stack([_smooth(track, 0.03) for track in bandwidths])
    return formants, bandwidths, _smooth(nasal, 0.03)


def _resonator(frequency: Signal, bandwidth: Signal) -> tuple[Signal, Signal, Signal]:
    """Klatt's digital resonator with unit gain at 0 Hz: y[n] = a x[n] + b y[n-1] + c y[n-2]."""
    c = -np.exp(-2.0 * np.pi * bandwidth / _RATE)
    b = 2.0 * np.exp(-np.pi * bandwidth / _RATE) * np.cos(2.0 * np.pi * frequency / _RATE)
    return 1.0 - b - c, b, c


def _even(voice: Signal) -> Signal:
    """Evens out the loudness of vowels like a compressor: removes 3 of every 5 dB above or below the reference."""
    window = round(0.03 * _RATE)
    power = np.convolve(voice**2, np.hanning(window) / np.hanning(window).sum(), mode="same")
    loud = np.sqrt(power) + 1e-9
    gain = np.minimum(1.0 / loud, 4.0) ** 0.6
    return voice * gain


def _vocal_tract(excitation: Signal, pieces: Sequence[_Piece], frames: int) -> Signal:
    """Passes the excitation through the moving resonators, frame by frame."""
    if not pieces:
        return np.zeros(frames * _HOP)
    formants, bandwidths, nasal = _tracks(pieces, frames)
    poles = [(formants[index], bandwidths[index]) for index in range(3)]
    poles += [(np.full(frames, hz), np.full(frames, width)) for hz, width in _UPPER_FORMANTS]
    sections = np.zeros((frames, len(poles) + 1, 6))
    sections[:, :, 3] = 1.0
    for index, (hz, width) in enumerate(poles):
        a, b, c = _resonator(hz, width)
        sections[:, index, 0] = a
        sections[:, index, 4] = -b
        sections[:, index, 5] = -c
    pole_hz, pole_width = _NASAL_POLE
    a, b, c = _resonator(np.full(frames, pole_hz), np.full(frames, pole_width))
    zero_a, zero_b, zero_c = _resonator(pole_hz + (_NASAL_ZERO_HZ - pole_hz) * nasal, np.full(frames, pole_width))
    sections[:, -1, 0] = a / zero_a
    sections[:, -1, 1] = -zero_b * a / zero_a
    sections[:, -1, 2] = -zero_c * a / zero_a
    sections[:, -1, 4] = -b
    sections[:, -1, 5] = -c
    state = np.zeros((len(poles) + 1, 2))
    out = np.zeros(frames * _HOP)
    sounding = np.zeros(frames, dtype=bool)
    ring_frames = round(0.1 * _FRAME_RATE)
    for piece in pieces:
        span = _span(piece)
        sounding[max(0, span.start - 2) : span.stop + ring_frames] = True
    for frame in np.flatnonzero(sounding):
        block = slice(frame * _HOP, (frame + 1) * _HOP)
        out[block], state = sosfilt(sections[frame], excitation[block], zi=state)
    return out


def _hisses(pieces: Sequence[_Piece], frames: int, rng: np.random.Generator) -> Signal:
    """The noise of fricatives and bursts."""
    out = np.zeros(frames * _HOP)
    for name, band in _HISS_BANDS.items():
        envelope = np.zeros(frames)
        for piece in pieces:
            if piece.phone.hiss == name:
                envelope[_span(piece)] = piece.hiss_level
        shape = butter(2, band, btype="bandpass", fs=_RATE, output="sos")
        noise = sosfilt(shape, rng.standard_normal(len(out)))
        out += _HISS_GAIN[name] * _per_sample(_smooth(envelope, 0.01)) * noise
    return out
