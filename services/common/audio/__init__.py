"""Audio in and out with PyAV (which contains FFmpeg's libraries): decode, probe, inspect, resample, encode, peaks.

Everything is float32 [channels, samples] in memory. All functions block; call them in a worker thread.
"""

from services.common.audio.conversion import resample
from services.common.audio.covers import picture
from services.common.audio.decoding import Inspection, check, decode, inspect, probe
from services.common.audio.encoding import encode, transcode, writing
from services.common.audio.peaks import PeakMeter, Peaks, peaks_of
from services.common.audio.sandbox import Sandbox
from services.common.audio.types import (
    CONTENT_TYPES,
    EXTENSIONS,
    FORMATS,
    NO_LIMITS,
    AudioInfo,
    Destination,
    Format,
    Limits,
    Note,
    Progress,
    Source,
)
from services.common.samples import Samples

__all__ = [
    "CONTENT_TYPES",
    "EXTENSIONS",
    "FORMATS",
    "NO_LIMITS",
    "AudioInfo",
    "Destination",
    "Format",
    "Inspection",
    "Limits",
    "Note",
    "PeakMeter",
    "Peaks",
    "Progress",
    "Samples",
    "Sandbox",
    "Source",
    "check",
    "decode",
    "encode",
    "inspect",
    "peaks_of",
    "picture",
    "probe",
    "resample",
    "transcode",
    "writing",
]
