"""Runs backends, and the libraries' own ways, on songs, and keeps their results by song and version."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.accuracy.references import Song
from bench.originals import ORIGINALS
from services.analysis.backends import registry
from services.analysis.backends.base import Context, Result
from services.common import audio
from services.common.samples import Audio
from services.common.weights.store import WeightStore
from services.separation.models import registry as separation
from services.separation.models.base import Options, join

RATE = 44_100
UNMODIFIED = ", unmodified"
_MODELS = {"lyrics": "tiny.en"}


def ways(part: str, store: WeightStore, only: tuple[str, ...], originals: bool) -> list[str]:
    """The ways to find a part that can be used here: backends, each followed by its library's own way."""
    names = only or tuple(name for name in registry.names(part) if not registry.entry(part, name).asks_language_model)
    found = []
    for name in names:
        if registry.availability(part, name, store, _MODELS.get(part, "")).available:
            found.append(name)
            if originals and f"{part}:{name}" in ORIGINALS:
                found.append(name + UNMODIFIED)
    return found


class Systems:
    """Runs ways, each loaded once, and keeps results in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = WeightStore(folder / "models", offline=True)
        self._loaded: dict[str, Any] = {}

    def run(self, part: str, way: str, song: Song) -> Result:
        """The result of a way, as `ways` names it."""
        if way.endswith(UNMODIFIED):
            name = f"{part}:{way.removesuffix(UNMODIFIED)}"
            return self._kept(f"original {name}", song, lambda: self._load(name, ORIGINALS[name])(self._wav(song.file)))
        return self._ours(part, way, song)

    def _ours(self, part: str, name: str, song: Song) -> Result:
        """A backend's result. For the parts that it needs, it gets those of the defaults; lyrics get vocals and mix."""
        entry = registry.entry(part, name)
        needed: dict[str, Any] = {need: self._ours(need, registry.names(need)[0], song) for need in entry.needs}

        def run() -> Result:
            loaded = self._load(
                f"ours {part}:{name}", lambda: registry.load(part, name, self.store, _MODELS.get(part, ""))
            )
            sound = self._vocals(song) if part == "lyrics" else _decode(song.file)
            mix = (lambda: _decode(song.file)) if part == "lyrics" else None
            context = Context(**needed, mix=mix, options={"language": "en"} if part == "lyrics" else {})
            result: Result = loaded.analyze(sound, context, lambda _: None)
            return result

        versions = [entry.version, *(registry.entry(need, registry.names(need)[0]).version for need in entry.needs)]
        return self._kept(f"{part}:{name} {'; '.join(versions)}{', mix' if part == 'lyrics' else ''}", song, run)

    def _load(self, name: str, load: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            self._loaded[name] = load()
        return self._loaded[name]

    def _vocals(self, song: Song) -> Audio:
        path = self._folder / f"{_digest(song.file)}.vocals.flac"
        if not path.exists():
            spleeter = self._load("spleeter", lambda: separation.load("spleeter_2stems", self.store))
            chunks = spleeter.separate(_decode(song.file).samples, Options(), lambda _: None)
            audio.encode(join(chunks, ["vocals"])["vocals"], RATE, path, "flac")
        return _decode(path)

    def _wav(self, file: Path) -> Path:
        """The song as a file that every library can read."""
        path = self._folder / f"{_digest(file)}.wav"
        if not path.exists():
            draft = path.with_suffix(".draft")
            audio.encode(_decode(file).samples, RATE, draft, "wav", bits=16)
            draft.replace(path)
        return path

    def _kept(self, what: str, song: Song, find: Callable[[], Result]) -> Result:
        name = hashlib.sha256(f"{what} {_digest(song.file)}".encode()).hexdigest()
        path = self._folder / f"{name}.pickle"
        if path.exists():
            kept: Result = pickle.loads(path.read_bytes())
            return kept
        result = find()
        draft = path.with_suffix(".draft")
        draft.write_bytes(pickle.dumps(result))
        draft.replace(path)
        return result


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _decode(file: Path) -> Audio:
    return Audio(audio.decode(file, audio.NO_LIMITS, sample_rate_hz=RATE, channels=2), RATE)
