"""What shall be made of a track: the request's options, checked and complete, as a plan that a job keeps."""

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
# That any model gives.
FEWEST_STEMS = 2

Plan = dict[str, list[dict[str, Any]]]


def make_plan(options: pb.ProcessingOptions | None) -> Plan:
    """A plan of separations and analyses, JSON; everything with automatic choices if nothing was asked for.

    Raises:
        InvalidInputError: a part twice, unknown, or more separations than allowed (reason BAD_REQUEST);
            shifts or overlap out of range (INVALID_OPTION); a text of lyrics that is too long or has no words
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
        raise InvalidInputError("each part can be asked for once", "BAD_REQUEST")
    for analysis in options.analyses:
        if analysis.text and analysis.part != analysis_pb2.PART_LYRICS:
            raise InvalidInputError("text is for lyrics", "BAD_REQUEST")
        if len(analysis.text) > MAX_LYRICS_TEXT:
            raise InvalidInputError(f"text of lyrics has at most {MAX_LYRICS_TEXT} characters", "INVALID_TEXT")
        if analysis.text and not any(character.isalnum() for character in analysis.text):
            raise InvalidInputError("text of lyrics has no words", "INVALID_TEXT")
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
    """The payload of a track's job, with what it lacks if an earlier version submitted the job."""
    plan = payload["plan"]
    analyses = [{"text": "", **choice} for choice in plan["analyses"]]
    return {"again": True, "use_cookies": False, **payload, "plan": {**plan, "analyses": analyses}}


def separation_part(number: int) -> str:
    """Name of the part that the separation at this place of a plan is."""
    return "separation" if number == 0 else f"separation:{number + 1}"


def part_names(plan: Plan) -> list[str]:
    """The parts of a plan in the order in which people read them."""
    asked = {choice["part"] for choice in plan["analyses"]}
    separations = [separation_part(number) for number in range(len(plan["separations"]))]
    return ["acquire", *separations, *(name for name in PARTS if name in asked)]


def is_separated_by_hand(choice: dict[str, Any]) -> bool:
    """Whether anything of a plan's separation was chosen."""
    return choice["model"] != AUTO or bool(choice["stems"]) or has_named_quality(choice)


def has_named_quality(choice: dict[str, Any]) -> bool:
    """Whether it was chosen how a separation is made."""
    return bool(choice["quality"] or choice["rest"] or choice["shifts"] is not None or choice["overlap"] is not None)


def is_analysed_by_hand(choice: dict[str, Any]) -> bool:
    """Whether anything of a plan's analysis was chosen or given."""
    return choice["backend"] != AUTO or choice["model"] != AUTO or bool(choice["language"] or choice["text"])


def without(
    plan: Plan, stems: Mapping[str, Collection[str]], parts: Collection[str], known: Mapping[str, Collection[str]]
) -> Plan:
    """What a plan still lacks of a track. What is there was made with whatever was chosen then: explicit choices of a
    quality, a backend, an analysis' model, a language or a text are made again.

    Args:
        plan: what is wanted.
        stems: that are there for the user, by model.
        parts: analyses that are there for the user.
        known: stems that each model gives, as far as known.
    """
    return {
        "separations": [choice for choice in plan["separations"] if not _is_separated(choice, stems, known)],
        "analyses": [choice for choice in plan["analyses"] if not _is_analysed(choice, parts)],
    }


def unmade(plan: Plan, made: Collection[str]) -> Plan:
    """The separations and analyses of a plan whose parts are not among those that were made, as they were chosen."""
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
    # A track can have some of a model's stems only.
    return any(len(stems[model]) >= FEWEST_STEMS and set(known.get(model, ())) <= set(stems[model]) for model in models)


def _is_analysed(choice: dict[str, Any], parts: Collection[str]) -> bool:
    return not is_analysed_by_hand(choice) and choice["part"] in parts
