"""Parts, states and limits are each defined once, and all other lists agree with them. Some words are not used."""

import ast
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.transcoding.comments import read_comments
from services.analysis.config import AutoSettings
from services.common import limits
from services.common.jobs.states import STATE_NUMBERS
from services.common.limits import (
    DEFAULT_FOUND,
    DEFAULT_INVITATION_DAYS,
    DEFAULT_INVITATION_USES,
    DEFAULT_PAGE,
    DEFAULT_TOKEN_DAYS,
    DEFAULT_USERS_PAGE,
    JOIN_SECONDS,
    MAX_CHUNK_BYTES,
    MAX_FOUND,
    MAX_INVITATION_USES,
    MAX_LIFETIME_DAYS,
    MAX_LINK_ENTRIES,
    MAX_LYRICS_TEXT,
    MAX_NOTES,
    MAX_OVERLAP,
    MAX_PAGE,
    MAX_PASSWORD,
    MAX_PLAYLIST_NAME,
    MAX_PLAYLIST_TRACKS,
    MAX_QUERY,
    MAX_SHIFTS,
    MAX_TITLE,
    MAX_TOKEN_NAME,
    MAX_UPLOAD_METADATA,
    MAX_USERNAME,
    MAX_USERS_PAGE,
    MAX_WORK_ITEMS,
    MIN_PASSWORD,
)
from services.common.parts import PARTS, part_json_name
from services.download.importing.service import MAX_USERS
from services.download.pipeline.plan import MAX_SEPARATIONS
from services.download.uploads.service import MAX_FILENAME
from stemtube.analysis.v1 import analysis_pb2
from stemtube.download.v1 import import_pb2, track_pb2
from stemtube.job.v1 import job_pb2

ROOT = Path(__file__).parents[1]
FEWEST = len(PARTS) - 1
FOLDERS = ("bench", "cli", "gateway", "page/src", "services", "songs", "tests")
NOT_WRITTEN_BY_HAND = {"gen", "web", "node_modules", "__pycache__"}
SOURCES = [
    path
    for folder in FOLDERS
    for pattern in ("*.py", "*.ts", "*.tsx")
    for path in sorted((ROOT / folder).rglob(pattern))
    if not NOT_WRITTEN_BY_HAND & set(path.relative_to(ROOT).parts)
]

# Modules with tables that have an entry for each part, and the number of such tables.
TABLES = {
    "bench/accuracy/scores.py": 1,
    "cli/legacy/importing.py": 2,
    "page/src/api/contract.ts": 1,
    "services/download/pipeline/progress.py": 1,
    "services/download/tracks/edits.py": 1,
}
# Numbers in the contracts' comments, by RPC or by message and field.
TOLD: dict[str, tuple[float, ...]] = {
    "CreateApiTokenRequest.name": (MAX_TOKEN_NAME,),
    "CreateApiTokenRequest.lifetime": (DEFAULT_TOKEN_DAYS, MAX_LIFETIME_DAYS),
    "CreateInvitation": (MAX_INVITATION_USES,),
    "CreateInvitationRequest.uses": (DEFAULT_INVITATION_USES, MAX_INVITATION_USES),
    "CreateInvitationRequest.lifetime": (DEFAULT_INVITATION_DAYS, MAX_LIFETIME_DAYS),
    "RegisterRequest.username": (1, MAX_USERNAME),
    "RegisterRequest.password": (MIN_PASSWORD, MAX_PASSWORD),
    "ChangePasswordRequest.new_password": (MIN_PASSWORD, MAX_PASSWORD),
    "ListUsersRequest.page_size": (DEFAULT_USERS_PAGE, MAX_USERS_PAGE),
    "CreateUserRequest.username": (1, MAX_USERNAME),
    "CreateSeparationRequest.shifts": (0, MAX_SHIFTS, 0, MAX_OVERLAP),
    "GetWorkResponse.jobs": (MAX_WORK_ITEMS,),
    "UploadTrack": (MAX_CHUNK_BYTES / 2**20,),
    "AppendUpload": (MAX_CHUNK_BYTES / 2**20,),
    "ImportTrack": (MAX_CHUNK_BYTES / 2**20,),
    "ImportStem": (MAX_CHUNK_BYTES / 2**20,),
    "SearchSongsRequest.query": (MAX_QUERY,),
    "SearchSongsRequest.count": (MAX_FOUND, 0, DEFAULT_FOUND),
    "LookUpLinkResponse.entries": (MAX_LINK_ENTRIES,),
    "UploadHeader.filename": (MAX_FILENAME,),
    "CreateUploadRequest.filename": (MAX_FILENAME,),
    "CreateUploadRequest.metadata": (MAX_UPLOAD_METADATA,),
    "ImportTrackHeader.user_ids": (1, MAX_USERS),
    "ProcessingOptions.separations": (MAX_SEPARATIONS,),
    "ListTracksRequest.page_size": (MAX_PAGE, 0, DEFAULT_PAGE),
    "ListTracksRequest.query": (MAX_QUERY,),
    "UpdateTrackRequest.title": (MAX_TITLE,),
    "UpdateTrackRequest.notes": (MAX_NOTES,),
    "EditPartRequest.chords": (0, JOIN_SECONDS),
    "ListJobsRequest.page_size": (MAX_PAGE, 0, DEFAULT_PAGE),
    "AnalysisChoice.text": (MAX_LYRICS_TEXT,),
    "PartRequest.text": (MAX_LYRICS_TEXT,),
    "CreatePlaylistRequest.name": (MAX_PLAYLIST_NAME,),
    "CreatePlaylistRequest.notes": (MAX_NOTES,),
    "CreatePlaylistRequest.track_ids": (MAX_PLAYLIST_TRACKS,),
    "ListPlaylistsRequest.page_size": (MAX_PAGE, 0, DEFAULT_PAGE),
}
TELLS_A_LIMIT = re.compile(
    r"\b(at most|up to|unless given|first \d+|\d+ to \d+|\d+ means|more than \d+|within \d)", re.IGNORECASE
)

# Words that read like a translation, and names that a newcomer has to look up, with the words to use. An underscore in
# a name counts as a space.
UNWANTED = {
    "again": r"anew|afresh",
    "anyone who": r"who(?:so)?ever",
    "a sentence of its own": r"of which|of whom|that which|what has become of",
    "is created": r"(?:comes?|came) about",
    "legacy": r"forerunners?",
    "has, contains": r"carried",
    "task, maintenance": r"chores?|keeps? house",
    "wake": r"pok(?:es?|ed|ing)",
    "limiter": r"doorkeepers?",
    "silently": r"without ado",
    "without result": r"in vain",
    "later": r"by and by",
    "compute, expect": r"reckon(?:s|ed|ing)?",
    "running": r"under way|underway",
    "no longer": r"(?:is|are|was|were) no more",
    "invalid": r"that (?:is|are) none",
    "repeats": r"(?:comes?|came) round",
    "a simpler word": r"wherein|whereby|thereof|therein|hitherto|henceforth",
}
UNWANTED_WORDS = re.compile("|".join(rf"\b(?:{words})\b" for words in UNWANTED.values()), re.IGNORECASE)


def lists_of_parts(path: Path) -> list[set[str]]:
    """The parts in each collection of a source file that names most of them."""
    text = path.read_text()
    if len(parts_among(re.findall(r"\w+", text))) < FEWEST:
        return []
    if path.suffix == ".py":
        inner = (
            node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", ()) for node in ast.walk(ast.parse(text))
        )
        held = [parts_among(str(item.value) for item in items if isinstance(item, ast.Constant)) for items in inner]
    else:
        held = [parts_among(re.findall(r"\w+", found)) for found in re.findall(r"\[[^\[\]]*\]|\{[^{}]*\}", text)]
    return [parts for parts in held if len(parts) >= FEWEST]


def parts_among(words: Iterable[str]) -> set[str]:
    known = {word: part for part in PARTS for word in (part, part_json_name(part))}
    return {known[word] for word in words if word in known}


def test_parts_are_listed_once() -> None:
    """Tests may list what they expect, and the generated types of the page quote comments."""
    sources = [path for path in SOURCES if path.name != "schema.ts" and ROOT / "tests" not in path.parents]
    found = {str(path.relative_to(ROOT)): lists for path in sources if (lists := lists_of_parts(path))}
    assert found == {path: [set(PARTS)] * count for path, count in TABLES.items()}


@pytest.mark.parametrize(
    "text",
    [
        'X = ("beats", "key", "chords", "structure", "lyrics")',
        '{"PART_BEATS": 1, "PART_KEY": 2, "chords": 3, "structure": 4, "lyrics": 5}',
    ],
)
def test_a_second_list_of_parts_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "more.py").write_text(text)
    (tmp_path / "more.ts").write_text("const X = " + text.removeprefix("X = ").replace("(", "[").replace(")", "]"))
    assert [len(list(lists_of_parts(tmp_path / name))) for name in ("more.py", "more.ts")] == [1, 1]


def test_messages_and_settings_have_a_field_for_each_part() -> None:
    oneofs = (
        analysis_pb2.PartStatus.DESCRIPTOR.oneofs_by_name["result"],
        track_pb2.EditPartRequest.DESCRIPTOR.oneofs_by_name["part"],
        import_pb2.ImportPartRequest.DESCRIPTOR.oneofs_by_name["part"],
    )
    assert [tuple(field.name for field in oneof.fields) for oneof in oneofs] == [PARTS] * len(oneofs)
    assert tuple(AutoSettings.model_fields) == PARTS


def test_comments_of_the_contracts_list_no_parts() -> None:
    listed = ", ".join(PARTS[:3])
    assert [name for name, comment in read_comments().items() if listed in " ".join(comment.split())] == []


def test_states_are_those_of_the_contract() -> None:
    assert {job_pb2.JOB_STATE_UNSPECIFIED, *STATE_NUMBERS.values()} == set(job_pb2.JobState.values())


def told_limits() -> dict[str, tuple[float, ...]]:
    found = {}
    for name, comment in read_comments().items():
        text = " ".join(comment.split())
        numbers = re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])", text)
        if name.startswith("stemtube.") and numbers and TELLS_A_LIMIT.search(text):
            *_, owner, own = name.split(".")
            found[own if owner.endswith("Service") else f"{owner}.{own}"] = tuple(map(float, numbers))
    return found


def test_limits_in_the_comments_of_the_contracts_are_those_that_are_checked() -> None:
    assert told_limits() == {name: tuple(map(float, numbers)) for name, numbers in TOLD.items()}


def test_limits_in_the_documents_are_those_that_are_checked() -> None:
    assert f"Passwords have {MIN_PASSWORD} to {MAX_PASSWORD} characters" in (ROOT / "docs/security.md").read_text()


def test_the_page_has_no_limits_of_its_own() -> None:
    """Lengths of text fields and sizes of pages come from the contracts."""
    own = re.compile(r"maxLength=\{?\"?\d|minLength=\{?\"?\d|pageSize=\d")
    exceptions = {"maxLength={3"}  # a code of ISO 639
    found = {
        f"{path.name}: {match}"
        for path in SOURCES
        if path.suffix == ".tsx" or path.suffix == ".ts"
        for match in own.findall(path.read_text())
        if match not in exceptions
    }
    assert found == set()


def test_a_limit_is_defined_in_one_place() -> None:
    """No module gives a name of `services/common/limits.py` another value."""
    names = "|".join(name for name in vars(limits) if name.isupper())
    assigned = re.compile(rf"^\s*(?:\w+, )*(?:{names})\b(?:, \w+)* = ", re.MULTILINE)
    others = (path for path in SOURCES if path.suffix == ".py" and path != Path(limits.__file__))
    assert [str(path.relative_to(ROOT)) for path in others if assigned.search(path.read_text())] == []


def unwanted_words(text: str) -> list[str]:
    return [found.lower() for found in UNWANTED_WORDS.findall(text.replace("_", " "))]


def test_unwanted_words_are_not_used() -> None:
    documents = [ROOT.glob("*.md"), ROOT.glob("page/*.md"), ROOT.glob("protos/stemtube/**/*.proto")]
    documents += [(ROOT / folder).rglob("*.md") for folder in ("docs", "gateway", "services")]
    sources = {*SOURCES, *itertools.chain(*documents)} - {Path(__file__), ROOT / "page/src/api/schema.ts"}
    found = {str(path.relative_to(ROOT)): words for path in sources if (words := unwanted_words(path.read_text()))}
    assert found == {}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("def test_a_song_is_hashed_anew() -> None:", "anew"),
        ("# The lists, one of which is shown.", "of which"),
        ("/** Whoever comes. */", "whoever"),
        ("Renewed, several more, wherever it is carrying on, of any kind which helps.", ""),
    ],
)
def test_unwanted_words_are_found(text: str, word: str) -> None:
    assert unwanted_words(text) == [word] * bool(word)
