"""Names formats that are not decoded here, so that a refusal says what a file is and how to convert it."""

import re

from services.common.errors import InvalidInputError

HEAD_BYTES = 2048

_DSD = "convert it to FLAC or WAV, for example with foobar2000 or XLD"
_RENDER = "export its sound as WAV or FLAC from that program"
_PLAY = "render it to WAV or FLAC with a synthesizer"
_FORMATS: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name, advice)
    for pattern, name, advice in (
        (rb"DSD .{8}", "a DSF file (DSD)", _DSD),
        (rb"FRM8.{8}DSD ", "a DSDIFF file (DSD)", _DSD),
        (rb"ajkg", "a Shorten file", "convert it to FLAC, for example with ffmpeg"),
        (rb"OFR ", "an OptimFROG file", "convert it to FLAC or WAV with its own program, ofr"),
        (rb"LA0[234]", "a Lossless Audio file", "convert it to FLAC or WAV with its own program, la"),
        (rb"\.RMF|\.ra\xfd", "a RealAudio file", "convert it to FLAC or MP3, for example with ffmpeg"),
        (rb".{4}ftypaax[c ]|.{4}\x57\x90\x75\x36", "an encrypted Audible book", "use a file without protection"),
        (rb"MThd|RIFF.{4}RMID", "a MIDI file (notes without sound)", _PLAY),
        (rb"XMF_|MMMD|IREZ", "a file of ring tone notes", _PLAY),
        (
            rb"Extended Module: |IMPM|.{44}SCRM|.{1080}(?:M\.K\.|M!K!|FLT[48]|[468]CHN)|MTM\x10",
            "a tracker module",
            _PLAY,
        ),
        (rb"PSID|RSID|NESM\x1a|SNES-SPC700|Vgm |GYMX|HESM|KSSX", "music of a game console or home computer", _PLAY),
        (rb"FLhd", "a project of FL Studio", _RENDER),
        (rb"<REAPER_PROJECT", "a project of REAPER", _RENDER),
        (rb"SQLite format 3\x00.{52}AUDY", "a project of Audacity", _RENDER),
        (rb"<\?xml.{0,500}<(?:!DOCTYPE )?(?:project|audacityproject)[^>]*audacity", "a project of Audacity", _RENDER),
        (rb"<\?xml.{0,500}<(?:!DOCTYPE )?lmms-project", "a project of LMMS", _RENDER),
        (rb"<\?xml.{0,500}<(?:!DOCTYPE )?Session[^>]*", "a project of Ardour", _RENDER),
        (rb"\x03\xab\xcd\xabNCRYPTED|.{0,4}PTX|\x030010111100101011", "a project of Pro Tools", _RENDER),
        (rb"\x18FICHIER GUITAR PRO|BCF[SZ]", "a Guitar Pro file (notes without sound)", _RENDER),
        (rb"<\?xml.{0,800}<(?:!DOCTYPE )?score-(?:partwise|timewise)", "a MusicXML file (notes without sound)", _PLAY),
        (rb"MSCZ|<\?xml.{0,300}<museScore", "a MuseScore file (notes without sound)", _RENDER),
        (
            rb"\x1f\x8b\x08",
            "a compressed file (gzip), perhaps a project of Ableton Live",
            "unpack it, or export its sound",
        ),
        (rb"CAT .{4}REX2", "a REX file", "export it as WAV"),
    )
)


def known_format(head: bytes) -> InvalidInputError | None:
    """The error for a file in a format that is known but not decoded, reason UNSUPPORTED_CODEC; None for any other.

    Args:
        head: the first `HEAD_BYTES` of the file.
    """
    for pattern, name, advice in _FORMATS:
        if pattern.match(head):
            return InvalidInputError(f"this is {name}, which cannot be decoded here: {advice}", "UNSUPPORTED_CODEC")
    return None
