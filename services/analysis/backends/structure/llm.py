"""Names sections with a language model; the boundaries are the same as without it."""

import json
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from services.analysis.backends.base import Context, Endpoint, Progress, Structure
from services.analysis.backends.structure.barwise import BarwiseStructure
from services.analysis.backends.structure.language_model import LanguageModelError, Message, ask, parse_json
from services.analysis.backends.structure.names import NAMES, Traits
from services.analysis.backends.structure.traits import renamed, sounding, traits
from services.common.samples import Audio
from services.common.weights.store import WeightStore

_OUTLINED = 0.5
_MOST_WORDS = 60
_ANSWERS = 2
_INSTRUCTIONS = (
    "You name the sections of a song. You are given its sections in order as JSON: start and seconds; sounds_like, a "
    "letter that sections share which sound alike; level_db, loudness below the loudest section; voice, the share of "
    "the time in which somebody sings, if known; words, the beginning of what is sung, if known. A chorus comes back "
    "with the same words and is often the loudest; verses share their music and have different words; a bridge comes "
    "once, late; solo and instrumental are without a voice. "
    f'Answer with JSON and nothing else: {{"labels": [...]}}, one of {", ".join(NAMES)} for each section, in order.'
)


class LlmStructure:
    """Asks the endpoint in the context's option `language_model` (an `Endpoint`)."""

    def __init__(self) -> None:
        self._sections = BarwiseStructure()

    def analyze(self, audio: Audio, context: Context, progress: Progress) -> Structure:
        """See `services.analysis.backends.base.Backend`.

        Raises:
            LanguageModelError: no endpoint is set, it cannot be used, or its answers are not usable.
        """
        endpoint: Endpoint | None = context.options.get("language_model")
        if endpoint is None:
            raise LanguageModelError(
                "No language model is set: the operator names one by STEMTUBE_ANALYSIS__LANGUAGE_MODEL__URL and "
                "…__MODEL.",
                "LANGUAGE_MODEL_NOT_SET",
            )
        if context.structure:
            structure, known = context.structure, traits(context.structure, audio, context.lyrics)
        else:
            structure = self._sections.analyze(audio, context, lambda done: progress(_OUTLINED * done))
            known = traits(structure, None, context.lyrics)
        progress(_OUTLINED)
        if len(known) > 1:
            structure = renamed(structure, _names(endpoint, _description(structure, known)))
        progress(1.0)
        return structure


def _description(structure: Structure, known: Sequence[Traits]) -> list[dict[str, Any]]:
    loudest = max(section.level for section in known)
    described = []
    for section, trait in zip(sounding(structure), known, strict=True):
        facts: dict[str, Any] = {
            "start": round(section.start, 1),
            "seconds": round(trait.seconds, 1),
            "sounds_like": ascii_uppercase[trait.group % len(ascii_uppercase)],
            "level_db": round(trait.level - loudest, 1),
        }
        if trait.voice is not None:
            facts["voice"] = round(trait.voice, 2)
        if trait.words:
            facts["words"] = " ".join(trait.words[:_MOST_WORDS])
        described.append(facts)
    return described


def _names(endpoint: Endpoint, sections: list[dict[str, Any]]) -> list[str]:
    """Asks for names; if the answer is not usable, asks once more with the fault."""
    messages = [Message("system", _INSTRUCTIONS), Message("user", json.dumps(sections, ensure_ascii=False))]
    fault = ""
    for _ in range(_ANSWERS):
        answer = ask(endpoint, messages)
        try:
            return _checked(answer, len(sections))
        except ValueError as error:
            fault = str(error)
            messages += [Message("assistant", answer), Message("user", f"That is not usable: {fault}. Answer again.")]
    raise LanguageModelError(f"The language model's answer is not usable: {fault}.", "LANGUAGE_MODEL_ANSWER")


def _checked(answer: str, count: int) -> list[str]:
    try:
        labels = parse_json(answer)["labels"]
    except (ValueError, TypeError, LookupError):
        raise ValueError('it is not JSON of the form {"labels": [...]}') from None
    if not isinstance(labels, list) or len(labels) != count:
        raise ValueError(f"there must be {count} labels")
    unknown = [label for label in labels if label not in NAMES]
    if unknown:
        raise ValueError("labels must be of " + ", ".join(NAMES))
    return labels


def load(store: WeightStore | None, model: str, device: str) -> LlmStructure:
    """See `services.analysis.backends.base.Loader`."""
    return LlmStructure()
