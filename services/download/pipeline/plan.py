"""Plans: the separations and analyses that a job makes, from the checked options of a request."""

from collections.abc import Collection, Mapping
from typing import Any

from services.common.errors import InvalidInputError
from services.common.limits import MAX_LYRICS_TEXT, MAX_OVERLAP, MAX_SHIFTS
from services.common.parts import PART_NAMES, PARTS
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.separation.v1 import separation_pb2

AUTO = "auto"
MAX_SEPARATIONS = 4
# Every model has at least this many.
FEWEST_STEMS = 2

Plan = dict[str, list[dict[str, Any]]]


def make_plan(options: pb.ProcessingOptions | None) -> Plan:
    """Makes a plan (JSON) of a request's options. Without options, it makes everything with automatic choices.

    Raises:
        InvalidInputError: a part is unknown or named twice, or there are too many separations (reason BAD_REQUEST);
            shifts or overlap are out of range (INVALID_OPTION); a text of lyrics is too long or has no words
            (INVALID_TEXT).
    """
    if options is None or not (options.separations or options.analyses):
        options = pb.ProcessingOptions(
            separations=[pb.SeparationChoice()], analyses=[pb.AnalysisChoice(part=part) for part in PART_NAMES]
        )
    if len(options.separations) > MAX_SEPARATIONS:
        raise InvalidInputError(f"at most {MAX_SEPARATIONS} separations at a time", "BAD_REQUEST")
    asked = [choice.part for choice in options.analyses]
    if not set(asked) <= set(PART_NAMES):
        raise InvalidInputError("analyses need a known part: " + ", ".join(PARTS), "BAD_REQUEST")
    if len(set(asked)) < len(asked):
        raise InvalidInputError("analyses must name each part at most once", "BAD_REQUEST")
    for analysis in options.analyses:
        if analysis.text and analysis.part != analysis_pb2.PART_LYRICS:
            raise InvalidInputError("only lyrics can have a text", "BAD_REQUEST")
        if len(analysis.text) > MAX_LYRICS_TEXT:
            raise InvalidInputError(f"the text of lyrics has at most {MAX_LYRICS_TEXT} characters", "INVALID_TEXT")
        if analysis.text and not any(character.isalnum() for character in analysis.text):
            raise InvalidInputError("the text of lyrics has no words", "INVALID_TEXT")
    if any(choice.quality not in separation_pb2.Quality.values() for choice in options.separations):
        raise InvalidInputError("unknown quality", "BAD_REQUEST")
    for choice in options.separations:
        # NaN is in no range.
        if not (0 <= choice.shifts <= MAX_SHIFTS and 0 <= choice.overlap <= MAX_OVERLAP):
            raise InvalidInputError(
                f"shifts must be in [0, {MAX_SHIFTS}] and overlap in [0, {MAX_OVERLAP}]", "INVALID_OPTION"
            )
    return {
        "separations": [
            {
                "model": choice.model or AUTO,
                "stems": list(choice.stems),
                "quality": int(choice.quality),
                "rest": int(choice.rest),
                "shifts": choice.shifts if choice.HasField("shifts") else None,
                "overlap": choice.overlap if choice.HasField("overlap") else None,
            }
            for choice in options.separations
        ],
        "analyses": [
            {
                "part": PART_NAMES[choice.part],
                "backend": choice.backend or AUTO,
                "model": choice.model or AUTO,
                "language": choice.language,
                "text": choice.text,
            }
            for choice in options.analyses
        ],
    }


def complete(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a track's job, with defaults for fields that earlier versions did not write."""
    plan = payload["plan"]
    analyses = [{"text": "", **choice} for choice in plan["analyses"]]
    return {"again": True, "use_cookies": False, **payload, "plan": {**plan, "analyses": analyses}}


def separation_part(number: int) -> str:
    """Name of the part that a separation of a plan makes, by its index."""
    return "separation" if number == 0 else f"separation:{number + 1}"


def part_names(plan: Plan) -> list[str]:
    """Names of the parts of a plan, in the order in which they are shown."""
    asked = {choice["part"] for choice in plan["analyses"]}
    separations = [separation_part(number) for number in range(len(plan["separations"]))]
    return ["acquire", *separations, *(name for name in PARTS if name in asked)]


def is_separated_by_hand(choice: dict[str, Any]) -> bool:
    """Whether the user chose anything for a separation of a plan."""
    return choice["model"] != AUTO or bool(choice["stems"]) or has_named_quality(choice)


def has_named_quality(choice: dict[str, Any]) -> bool:
    """Whether the user chose a quality or another option for a separation."""
    return bool(choice["quality"] or choice["rest"] or choice["shifts"] is not None or choice["overlap"] is not None)


def is_analysed_by_hand(choice: dict[str, Any]) -> bool:
    """Whether anything of a plan's analysis was chosen or given."""
    return choice["backend"] != AUTO or choice["model"] != AUTO or bool(choice["language"] or choice["text"])


def missing_work(
    plan: Plan, stems: Mapping[str, Collection[str]], parts: Collection[str], known: Mapping[str, Collection[str]]
) -> Plan:
    """The part of a plan that still has to be made for a track.

    A choice with an explicit quality, backend, analysis model, language or text is always made again, because existing
    results do not tell how they were made.

    Args:
        plan: the wanted separations and analyses.
        stems: names of the stems that the user has, by model.
        parts: analyses that the user has.
        known: the stems of each known model.
    """
    return {
        "separations": [choice for choice in plan["separations"] if not _is_separated(choice, stems, known)],
        "analyses": [choice for choice in plan["analyses"] if not _is_analysed(choice, parts)],
    }


def remaining_work(plan: Plan, made: Collection[str]) -> Plan:
    """The separations and analyses of a plan whose parts are not in `made`."""
    return {
        "separations": [
            choice for number, choice in enumerate(plan["separations"]) if separation_part(number) not in made
        ],
        "analyses": [choice for choice in plan["analyses"] if choice["part"] not in made],
    }


def _is_separated(
    choice: dict[str, Any], stems: Mapping[str, Collection[str]], known: Mapping[str, Collection[str]]
) -> bool:
    if has_named_quality(choice):
        return False
    models = stems if choice["model"] == AUTO else {choice["model"]} & set(stems)
    if choice["stems"]:
        return any(set(choice["stems"]) <= set(stems[model]) for model in models)
    # A track may have only some of a model's stems.
    return any(len(stems[model]) >= FEWEST_STEMS and set(known.get(model, ())) <= set(stems[model]) for model in models)


def _is_analysed(choice: dict[str, Any], parts: Collection[str]) -> bool:
    return not is_analysed_by_hand(choice) and choice["part"] in parts
