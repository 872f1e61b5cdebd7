"""Plans for a track with results: only missing parts and explicit choices are made."""

from dataclasses import asdict

import pytest
from google.protobuf.json_format import ParseDict

from services.common.errors import InvalidInputError
from services.common.parts import PARTS
from services.download.pipeline.plan import complete, make_plan, missing_work
from services.download.pipeline.submitting import TrackWork, track_work
from stemtube.download.v1 import track_job_pb2 as pb
from stemtube.job.v1 import job_pb2

KNOWN = {"spleeter_2stems": ["vocals", "accompaniment"], "htdemucs": ["vocals", "drums", "bass", "other"]}
STEMS = {"spleeter_2stems": ["vocals", "accompaniment"], "htdemucs": ["vocals", "drums"]}


def lacking(options: dict[str, object]) -> int:
    """How many of the choices are made for a track that has `STEMS` and all analyses."""
    plan = missing_work(make_plan(ParseDict(options, pb.ProcessingOptions())), STEMS, PARTS, KNOWN)
    return len(plan["separations"]) + len(plan["analyses"])


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"model": "auto"},
        {"model": "spleeter_2stems"},
        {"stems": ["vocals"]},
        {"model": "htdemucs", "stems": ["drums", "vocals"]},
    ],
)
def test_existing_stems_are_not_made_again(choice: dict[str, object]) -> None:
    assert lacking({"separations": [choice]}) == 0


@pytest.mark.parametrize(
    "choice",
    [
        {"quality": "QUALITY_BEST"},
        {"quality": "QUALITY_BALANCED"},
        {"model": "spleeter_2stems", "quality": "QUALITY_BEST"},
        {"model": "htdemucs"},
        {"model": "htdemucs", "stems": ["bass"]},
        {"model": "mdx"},
        {"stems": ["piano"]},
    ],
)
def test_missing_stems_and_those_with_a_quality_are_made(choice: dict[str, object]) -> None:
    assert lacking({"separations": [choice]}) == 1


@pytest.mark.parametrize("choice", [{}, {"backend": "auto", "model": "auto"}])
def test_an_existing_analysis_is_not_made_again(choice: dict[str, object]) -> None:
    assert lacking({"analyses": [{"part": "PART_LYRICS", **choice}]}) == 0


@pytest.mark.parametrize("choice", [{"model": "small"}, {"language": "de"}, {"backend": "whisper"}])
def test_an_analysis_with_an_explicit_choice_is_made_again(choice: dict[str, object]) -> None:
    assert lacking({"analyses": [{"part": "PART_LYRICS", **choice}]}) == 1


def test_nothing_is_missing_with_automatic_choices() -> None:
    assert lacking({}) == 0


def test_everything_is_missing_without_results() -> None:
    plan = make_plan(None)
    assert missing_work(plan, {}, [], {}) == plan
    one_stem = missing_work(plan, {"spleeter_2stems": ["vocals"]}, PARTS, {})
    assert (len(one_stem["separations"]), one_stem["analyses"]) == (1, [])


def test_only_lyrics_take_a_text_and_are_then_made_again() -> None:
    assert lacking({"analyses": [{"part": "PART_LYRICS", "text": "la la"}]}) == 1
    refused = {"BAD_REQUEST": ("PART_KEY", "la"), "INVALID_TEXT": ("PART_LYRICS", "-")}
    for reason, (part, text) in refused.items():
        with pytest.raises(InvalidInputError) as refusal:
            make_plan(ParseDict({"analyses": [{"part": part, "text": text}]}, pb.ProcessingOptions()))
        assert refusal.value.reason == reason


def test_jobs_of_earlier_versions_are_understood() -> None:
    """These had lyrics without a given text, made everything again, and used no cookies."""
    choice = {"part": "lyrics", "backend": "auto", "model": "auto", "language": ""}
    work = track_work(
        {"track_id": "t", "plan": {"separations": [], "analyses": [choice]}, "priority": job_pb2.PRIORITY_BATCH}
    )
    assert work == TrackWork(
        "t", {"separations": [], "analyses": [{**choice, "text": ""}]}, job_pb2.PRIORITY_BATCH, again=True
    )
    assert complete(asdict(work)) == asdict(work)
