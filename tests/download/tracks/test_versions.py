"""A link with two owners: each sees the shared results and the own ones, and neither changes what the other sees."""

import asyncio
import hashlib
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from pydantic import SecretStr

from services.common.audio import encode
from services.common.jobs.queue import job_key
from services.download.config import DownloadSection, DownloadSettings
from services.download.pipeline.plan import PARTS, make_plan
from services.download.tables import OwnStem
from services.download.tracks.messages import track_message
from services.download.tracks.repository import AudioFacts, SongFacts
from services.download.tracks.results import TrackData
from services.download.tracks.user_tracks import LONG_AGO
from services.download.upkeep.sweep import Sweeper
from stemtube.analysis.v1 import analysis_pb2
from stemtube.common.v1 import provenance_pb2
from stemtube.download.v1 import download_pb2 as pb
from stemtube.job.v1 import job_pb2
from stemtube.separation.v1 import separation_pb2
from tests.common.audio_files import music
from tests.common.postgres import create_database
from tests.download.conftest import Acquiring
from tests.download.shelves import Shelves, beats

Options = dict[str, Any]
EVERYTHING: Options = {}


BOTH = pytest.mark.parametrize("settings", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DownloadSettings:
    url = create_database() if getattr(request, "param", "sqlite") == "postgresql" else ""
    return DownloadSettings(data_dir=tmp_path / "data", download=DownloadSection(database_url=SecretStr(url)))


class Services:
    """Separation and analysis whose results tell all that they were asked for, and which version made them."""

    def __init__(self, acquiring: Acquiring) -> None:
        self._objects = acquiring.objects
        self.version = 1
        self.analyses: list[analysis_pb2.CreateAnalysisRequest] = []

    async def separate(self, request: Any, _on_update: Any, _on_away: Any) -> separation_pb2.Separation:
        names = request.stems or ["vocals", "accompaniment"]
        folder = f"stems/{self._print(request)}"
        for name in names:
            await self._objects.put(f"{folder}/{name}", name.encode() * 100)
            await self._objects.put(f"{folder}/{name}.peaks", b"peaks")
        return separation_pb2.Separation(
            job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED),
            model="spleeter" if request.model == "auto" else request.model,
            stems=[
                separation_pb2.Stem(
                    name=name, audio_key=f"{folder}/{name}", peaks_key=f"{folder}/{name}.peaks", duration_seconds=2.0
                )
                for name in names
            ],
        )

    async def analyse(self, request: Any, on_update: Any, _on_away: Any) -> analysis_pb2.Analysis:
        self.analyses.append(request)
        statuses = [self._part(request, part) for part in request.parts]
        analysis = analysis_pb2.Analysis(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED), parts=statuses)
        await on_update(analysis)
        return analysis

    def _part(self, request: Any, part: analysis_pb2.PartRequest) -> analysis_pb2.PartStatus:
        status = analysis_pb2.PartStatus(part=part.part, state=job_pb2.JOB_STATE_SUCCEEDED)
        mark = self._print(part, request.audio_key)
        maker = provenance_pb2.Provenance(backend=part.backend, version=mark)
        name = PARTS[part.part]
        getattr(status, name).made_by.CopyFrom(maker)
        match name:
            case "beats":
                status.beats.tempo.bpm = 60.0 + int(mark[:2], 16)
                status.beats.beats.add(time=int(mark[:2], 16) / 256, position=1)
            case "key":
                status.key.tonic, status.key.mode = "C", "minor"
            case "structure":
                words = part.lyrics.lines[0].text if part.lyrics.lines else "nobody"
                label = f"sung by {words} to {request.audio_key}" if part.HasField("structure") else "A"
                status.structure.sections.add(end=2.0, label=label, level=-9.0)
            case "lyrics":
                status.lyrics.lines.add(start=0.5, end=1.0, text=part.text or f"heard {part.language} {part.model}")
        return status

    def _print(self, message: Any, *others: Any) -> str:
        asked = MessageToDict(message)
        for name in ("requestId", "onBehalfOf"):
            asked.pop(name, None)
        return hashlib.sha256(repr((asked, others, self.version)).encode()).hexdigest()[:16]


@dataclass
class Link:
    """A link that anna and ben have."""

    acquiring: Acquiring
    services: Services
    id: str

    async def make(self, user: str, options: Options, *, again: bool = False) -> None:
        plan = make_plan(ParseDict(options, pb.ProcessingOptions()))
        payload = {"track_id": self.id, "plan": plan, "priority": 0, "again": again}
        key = job_key(user, self.id, options, self.services.version)
        record = await self.acquiring.jobs.submit("track", payload, key=key, user=user, subject=self.id)
        ended = await self.acquiring.end_of(record.id)
        assert ended.state == "succeeded", ended.error

    async def seen(self, user: str, **options: Any) -> TrackData:
        data = await self.acquiring.library.track(self.id, user, **options)
        assert data is not None
        return data

    async def message(self, user: str) -> dict[str, Any]:
        """All that a user is told, but for what is said of the user."""
        message: dict[str, Any] = MessageToDict(track_message(await self.seen(user)))
        return message

    async def stems(self, user: str) -> dict[str, str]:
        return {f"{stem.model}/{stem.name}": stem.audio_key for stem in (await self.seen(user)).stems}


async def add_link(acquiring: Acquiring, services: Services) -> Link:
    """A link whose audio has arrived."""
    name = uuid.uuid4().hex
    url = f"https://a.example/{name}"
    facts = AudioFacts(f"originals/{name}", f"peaks/{name}", "", name, "flac", 2.0, 44_100, 2, -12.0)
    for key in (facts.audio_key, facts.peaks_key):
        await acquiring.objects.put(key, b"sound")
    track = await acquiring.library.add_link("anna", url)
    await acquiring.library.set_audio(track.id, SongFacts("Song", "Band"), facts)
    assert (await acquiring.library.add_link("ben", url)).id == track.id
    return Link(acquiring, services, track.id)


@pytest.fixture
async def link(acquiring: Acquiring) -> Link:
    services = Services(acquiring)
    acquiring.use(services)
    return await add_link(acquiring, services)


def analysis(part: str, **choice: str) -> Options:
    return {"analyses": [{"part": f"PART_{part.upper()}", **choice}]}


def separation(**choice: Any) -> Options:
    return {"separations": [choice]}


BY_HAND: dict[str, Options] = {
    "beats": analysis("beats", backend="librosa"),
    "key": analysis("key", backend="librosa"),
    "chords": analysis("chords", backend="btc"),
    "structure": analysis("structure", backend="msaf"),
    "text": analysis("lyrics", text="my own words"),
    "language": analysis("lyrics", language="de"),
    "lyrics' model": analysis("lyrics", model="small"),
    "lyrics' backend": analysis("lyrics", backend="whisper"),
    "model": separation(model="htdemucs"),
    "automatic model by name": separation(model="spleeter"),
    "quality": separation(quality="QUALITY_BEST"),
    "rest": separation(rest="REST_MINUS"),
    "shifts": separation(shifts=0),
    "overlap": separation(overlap=0.5),
    "stems": separation(stems=["vocals"]),
    "two at once": separation(model="htdemucs") | analysis("lyrics", text="my own words"),
}


@pytest.mark.parametrize("order", ["by hand first", "by hand second", "by hand again"])
async def test_what_one_owner_chooses_the_other_does_not_see(acquiring: Acquiring, order: str) -> None:
    services = Services(acquiring)
    acquiring.use(services)

    async def check(options: Options) -> None:
        await check_choice(await add_link(acquiring, services), options, order)

    await asyncio.gather(*(check(options) for options in BY_HAND.values()))
    # Lists tell the same as the tracks.
    for user in ("anna", "ben"):
        listed, _ = await Shelves(acquiring.library._database).page(user)
        assert len(listed) == len(BY_HAND)
        for data in listed:
            seen = await acquiring.library.track(data.track.id, user)
            assert seen is not None
            whole, summary = track_message(seen), track_message(data, summary=True)
            assert (summary.tempo.bpm, summary.stems) == (whole.tempo.bpm, whole.stems)
            assert summary.own_parts == whole.own_parts
            assert data.access is not None
            assert data.access.tempo_bpm == whole.tempo.bpm


async def check_choice(link: Link, options: Options, order: str) -> None:
    if order == "by hand first":
        # Lyrics by hand need vocals, which alone are automatic.
        await link.make("anna", separation())
        before = await link.message("ben")
        await link.make("anna", options)
        assert await link.message("ben") == before
        await link.make("ben", EVERYTHING)
    else:
        await link.make("ben", EVERYTHING)
        await link.make("anna", options, again=order == "by hand again")
    anna, ben = await link.seen("anna"), await link.seen("ben")
    # Ben has what automatic choices give, wholly.
    assert not ben.own
    assert {stem.model for stem in ben.stems} == {"spleeter"}
    assert not any(isinstance(stem, OwnStem) for stem in ben.stems)
    assert ben.analyses.keys() == {"beats", "key", "chords", "structure", "lyrics"}
    assert all(part["madeBy"]["backend"] == "auto" for part in ben.analyses.values())
    assert ben.analyses["lyrics"]["lines"][0]["text"] == "heard  auto"
    assert "own words" not in str(await link.message("ben"))
    # Anna has what she chose.
    for chosen in options.get("analyses", []):
        part = chosen["part"].removeprefix("PART_").lower()
        assert part in anna.own
        assert anna.analyses[part] != ben.analyses[part]
    if "separations" in options:
        own = [stem for stem in anna.stems if isinstance(stem, OwnStem)]
        assert own
        assert not {stem.audio_key for stem in own} & {stem.audio_key for stem in ben.stems}


async def test_the_first_automatic_results_are_shared_whoever_asks(link: Link) -> None:
    await link.make("anna", separation())
    await link.make("ben", analysis("beats"), again=True)
    await link.make("anna", analysis("key"), again=True)
    assert await link.message("anna") == await link.message("ben")
    assert (await link.seen("anna")).analyses.keys() == {"beats", "key"}
    assert not (await link.seen("anna")).own


@BOTH
async def test_what_is_made_again_is_the_users_own_and_the_first_stays_shared(link: Link) -> None:
    await link.make("anna", EVERYTHING)
    before, stems = (await link.seen("ben")).analyses, await link.stems("ben")
    link.services.version = 2
    everything = separation() | {"analyses": [{"part": f"PART_{name.upper()}"} for name in PARTS.values()]}
    await link.make("ben", everything, again=True)
    assert ((await link.seen("anna")).analyses, await link.stems("anna")) == (before, stems)
    assert (await link.seen("ben")).own == set(PARTS.values())
    assert not set((await link.stems("ben")).values()) & set(stems.values())
    # The same result again is the shared one.
    link.services.version = 1
    await link.make("ben", {**everything, "priority": "PRIORITY_BATCH"}, again=True)
    assert await link.stems("ben") == stems
    assert (await link.seen("ben")).analyses == before
    assert not (await link.seen("ben")).own


async def test_automatic_results_that_come_second_do_not_count(link: Link) -> None:
    await link.make("anna", EVERYTHING)
    shared = await link.message("anna")
    link.services.version = 2
    # As of a job that was accepted before anna's had ended.
    await link.make("ben", EVERYTHING)
    assert await link.message("ben") == await link.message("anna") == shared


async def test_own_results_of_own_inputs_are_own(link: Link) -> None:
    await link.make("ben", separation() | analysis("beats"))
    await link.make("anna", analysis("beats", backend="librosa"))
    own_beats = (await link.seen("anna")).analyses["beats"]["beats"]
    await link.make("anna", analysis("chords"))
    asked = link.services.analyses[-1].parts[0]
    assert [beat.time for beat in asked.beats.beats] == [beat.get("time", 0.0) for beat in own_beats]
    assert (await link.seen("anna")).own == {"beats", "chords"}
    assert "chords" not in (await link.seen("ben")).analyses
    await link.make("ben", analysis("chords"))
    asked = link.services.analyses[-1].parts[0]
    shared_beats = (await link.seen("ben")).analyses["beats"]["beats"]
    assert [beat.time for beat in asked.beats.beats] == [beat.get("time", 0.0) for beat in shared_beats]
    assert not (await link.seen("ben")).own


async def test_what_goes_by_corrected_beats_is_own(link: Link) -> None:
    await link.make("ben", analysis("beats"))
    await link.acquiring.user_tracks.edit("anna", link.id, "beats", {**beats(99.0), "beats": [{"time": 1.25}]})
    await link.make("anna", analysis("chords"))
    assert [beat.time for beat in link.services.analyses[-1].parts[0].beats.beats] == [1.25]
    assert "chords" not in (await link.seen("ben")).analyses
    assert "chords" in (await link.seen("anna")).own


async def test_beats_by_hand_make_the_chords_beside_them_own(link: Link) -> None:
    options = {
        "analyses": [{"part": "PART_BEATS", "backend": "librosa"}, {"part": "PART_CHORDS"}, {"part": "PART_KEY"}]
    }
    await link.make("anna", options)
    assert (await link.seen("anna")).own == {"beats", "chords"}
    assert (await link.seen("ben")).analyses.keys() == {"key"}


async def test_lyrics_of_own_vocals_are_own(link: Link) -> None:
    await link.make("anna", separation(model="htdemucs") | analysis("lyrics"))
    assert (await link.seen("anna")).own == {"lyrics"}
    assert (await link.seen("ben")).analyses == {}
    assert await link.stems("ben") == {}
    await link.make("ben", separation())
    await link.make("anna", analysis("lyrics", language="fr"))
    assert link.services.analyses[-1].audio_key == (await link.stems("anna"))["htdemucs/vocals"]


async def test_sections_are_named_by_the_singing_that_their_user_has(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    shared = (await link.seen("ben")).analyses["structure"]
    vocals = (await link.stems("ben"))["spleeter/vocals"]
    assert shared["sections"][0]["label"] == f"sung by heard  auto to {vocals}"
    await link.make("anna", analysis("lyrics", text="secret words"))
    assert "secret words" in (await link.seen("anna")).analyses["structure"]["sections"][0]["label"]
    assert (await link.seen("anna")).own == {"lyrics", "structure"}
    assert (await link.seen("ben")).analyses["structure"] == shared
    # Ben's next job does not take up anna's words, and names what he alone has made again.
    asked = len(link.services.analyses)
    await link.make("ben", analysis("structure", backend="msaf"), again=True)
    assert "secret words" not in str(link.services.analyses[asked:])
    assert (await link.seen("ben")).own == {"structure"}
    assert "secret words" in (await link.seen("anna")).analyses["structure"]["sections"][0]["label"]


async def test_shared_sections_get_their_names_when_the_shared_lyrics_arrive(link: Link) -> None:
    await link.make("anna", separation() | analysis("structure"))
    assert "nobody" in (await link.seen("anna")).analyses["structure"]["sections"][0]["label"]
    await link.make("ben", analysis("lyrics"), again=True)
    label = (await link.seen("anna")).analyses["structure"]["sections"][0]["label"]
    assert "heard  auto" in label
    assert await link.message("anna") == await link.message("ben")
    # Nobody has them named again.
    asked = len(link.services.analyses)
    await link.make("ben", {**analysis("lyrics"), "priority": "PRIORITY_BATCH"}, again=True)
    assert len(link.services.analyses) == asked + 1


@BOTH
async def test_the_way_back_to_the_shared_version(link: Link) -> None:
    await link.make("ben", analysis("beats"))
    await link.make("anna", analysis("beats", backend="librosa"))
    own, shared = (await link.seen("anna")).analyses["beats"], (await link.seen("ben")).analyses["beats"]
    user_tracks = link.acquiring.user_tracks
    await user_tracks.edit("anna", link.id, "beats", beats(99.0))
    assert (await link.seen("anna")).analyses["beats"]["tempo"]["bpm"] == 99.0
    assert (await link.seen("anna", computed=True)).analyses["beats"] == own
    await user_tracks.revert("anna", link.id, "beats")
    assert (await link.seen("anna")).analyses["beats"] == own
    await user_tracks.revert("anna", link.id, "beats", to_shared=True)
    assert (await link.seen("anna")).analyses["beats"] == shared
    assert not (await link.seen("anna")).own
    tempo = {"max_bpm": shared["tempo"]["bpm"] + 0.1, "min_bpm": shared["tempo"]["bpm"] - 0.1}
    assert len(await Shelves(link.acquiring.library._database).titles("anna", **tempo)) == 1


@BOTH
async def test_an_edit_knows_when_the_own_version_was_made_again(link: Link) -> None:
    await link.make("ben", analysis("key"))
    await link.acquiring.user_tracks.edit("anna", link.id, "key", {"tonic": "A", "mode": "minor"})
    assert [edit.computed_since for edit in (await link.seen("anna")).edits.values()] == [False]
    await link.make("ben", analysis("key", backend="librosa"), again=True)
    assert [edit.computed_since for edit in (await link.seen("anna")).edits.values()] == [False]
    await link.make("anna", analysis("key", backend="librosa"), again=True)
    assert [edit.computed_since for edit in (await link.seen("anna")).edits.values()] == [True]


@BOTH
async def test_own_versions_go_with_their_user_and_no_others(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    await link.make("anna", separation(model="htdemucs") | analysis("lyrics", text="mine"))
    acquiring, ben = link.acquiring, await link.message("ben")
    anna = await link.message("anna")
    own = [stem.audio_key for stem in (await link.seen("anna")).stems if isinstance(stem, OwnStem)]
    await acquiring.user_tracks.remove("anna", link.id)
    assert await acquiring.trash.empty() == 0
    await acquiring.user_tracks.restore("anna", link.id)
    assert await link.message("anna") == anna
    await acquiring.user_tracks.remove("anna", link.id, for_good=True)
    assert await acquiring.trash.empty("anna", link.id) == 1
    assert await link.message("ben") == ben
    keys = await acquiring.keys()
    assert own
    assert not [key for key in keys if any(key.startswith(gone) for gone in own)]
    assert set((await link.stems("ben")).values()) < set(keys)
    # Nothing comes back with the user.
    track = (await link.seen("ben")).track
    await acquiring.library.add_link("anna", track.source_url or "")
    assert not (await link.seen("anna")).own
    assert await link.stems("anna") == await link.stems("ben")


async def test_with_the_last_owner_everything_goes(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    await link.make("anna", separation(model="htdemucs"))
    await link.make("ben", separation(model="htdemucs", quality="QUALITY_BEST"))
    for user in ("ben", "anna"):
        await link.acquiring.user_tracks.remove(user, link.id, for_good=True)
        assert await link.acquiring.trash.empty(user, link.id) == 1
    assert await link.acquiring.keys() == []


@BOTH
async def test_objects_that_two_own_versions_share_stay_for_the_other(link: Link) -> None:
    for user in ("anna", "ben"):
        await link.make(user, separation(model="htdemucs"))
    assert await link.stems("anna") == await link.stems("ben")
    await link.make("anna", separation(model="htdemucs", quality="QUALITY_BEST"))
    assert not set((await link.stems("anna")).values()) & set((await link.stems("ben")).values())
    assert set((await link.stems("ben")).values()) < set(await link.acquiring.keys())
    await link.acquiring.user_tracks.remove("anna", link.id, for_good=True)
    await link.acquiring.trash.empty()
    assert set((await link.stems("ben")).values()) < set(await link.acquiring.keys())


@BOTH
async def test_own_stems_count_for_their_user_and_are_kept_by_a_sweep(link: Link) -> None:
    usage, database = link.acquiring.usage, link.acquiring.library._database
    await link.make("ben", EVERYTHING)
    shared = (await usage.of("ben")).used_bytes
    assert (await usage.of("anna")).used_bytes == shared
    await link.make("anna", separation(model="htdemucs", stems=["vocals"]))
    own = len(b"vocals" * 100) + len(b"peaks")
    assert ((await usage.of("anna")).used_bytes, (await usage.of("ben")).used_bytes) == (shared + own, shared)
    assert {user: use.used_bytes for user, use in (await usage.of_all()).items()} == {
        "anna": shared + own,
        "ben": shared,
    }
    assert (await usage.statistics()).stem_count == 3
    nothing = timedelta(0)
    sweeper = Sweeper(link.acquiring.objects, database, usage, older_than=nothing, stems_older_than=nothing)
    before = await link.acquiring.keys()
    await sweeper.sweep()
    assert await link.acquiring.keys() == before
    (lost,) = [stem.audio_key for stem in (await link.seen("anna")).stems if isinstance(stem, OwnStem)]
    await link.acquiring.objects.delete(lost)
    report = await sweeper.sweep(dry_run=True)
    assert report.records == [f"{link.id} {lost}"]


async def test_a_result_for_a_user_who_has_left_is_not_kept(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    await link.acquiring.user_tracks.remove("anna", link.id, for_good=True)
    assert await link.acquiring.library.forget("anna", link.id, LONG_AGO) is not None
    before = await link.message("ben")
    kept = await link.acquiring.versions.keep_part("anna", link.id, "key", {"tonic": "D"}, by_hand=True, again=True)
    assert kept == "not"
    assert await link.message("ben") == before


async def test_results_of_an_upload_are_the_tracks(acquiring: Acquiring, tmp_path: Path) -> None:
    services = Services(acquiring)
    acquiring.use(services)
    path = tmp_path / "song.flac"
    encode(music(2), 44_100, path, "flac")
    track = await acquiring.upload("anna", path)
    upload = Link(acquiring, services, track.id)
    await upload.make("anna", EVERYTHING)
    await upload.make("anna", separation(quality="QUALITY_BEST") | analysis("lyrics", text="mine"), again=True)
    data = await upload.seen("anna")
    assert not data.own
    assert data.analyses["lyrics"]["lines"][0]["text"] == "mine"
    assert "mine" in data.analyses["structure"]["sections"][0]["label"]
    assert not any(isinstance(stem, OwnStem) for stem in data.stems)
    # Nothing of the first separation is left.
    assert {key for key in await acquiring.keys() if key.startswith("stems/")} == {
        key for stem in data.stems for key in (stem.audio_key, stem.peaks_key)
    }
