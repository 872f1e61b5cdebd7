"""A link with two users: each sees shared and own results, and neither changes what the other sees."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.common.audio import encode
from services.common.parts import PARTS, part_json_name
from services.download.config import DownloadSection, DownloadSettings
from services.download.tables import OwnStem
from services.download.tracks.messages import track_message
from services.download.tracks.user_tracks import LONG_AGO
from services.download.upkeep.sweep import Sweeper
from songs.small_songs import music
from tests.common.postgres import create_database
from tests.download.conftest import RunningLibrary
from tests.download.song_library import SongLibrary, beats
from tests.download.tracks.shared_link import Link, Options, Services, add_link, analysis, separation

EVERYTHING: Options = {}
BOTH = pytest.mark.parametrize("settings", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DownloadSettings:
    url = create_database() if getattr(request, "param", "sqlite") == "postgresql" else ""
    return DownloadSettings(data_dir=tmp_path / "data", download=DownloadSection(database_url=SecretStr(url)))


@pytest.fixture
async def link(library: RunningLibrary) -> Link:
    services = Services(library)
    library.use(services)
    return await add_link(library, services)


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
async def test_results_of_a_users_choices_are_hidden_from_others(library: RunningLibrary, order: str) -> None:
    services = Services(library)
    library.use(services)

    async def check(options: Options) -> None:
        await check_choice(await add_link(library, services), options, order)

    await asyncio.gather(*(check(options) for options in BY_HAND.values()))
    # Lists have the same values as the tracks.
    for user in ("anna", "ben"):
        listed, _ = await SongLibrary(library.tracks._database).page(user)
        assert len(listed) == len(BY_HAND)
        for data in listed:
            seen = await library.tracks.track(data.track.id, user)
            assert seen is not None
            whole, summary = track_message(seen), track_message(data, summary=True)
            assert (summary.tempo.bpm, summary.stems) == (whole.tempo.bpm, whole.stems)
            assert summary.own_parts == whole.own_parts
            assert data.access is not None
            assert data.access.tempo_bpm == whole.tempo.bpm


async def check_choice(link: Link, options: Options, order: str) -> None:
    if order == "by hand first":
        # Lyrics need vocals, which are separated automatically.
        await link.make("anna", separation())
        before = await link.message("ben")
        await link.make("anna", options)
        assert await link.message("ben") == before
        await link.make("ben", EVERYTHING)
    else:
        await link.make("ben", EVERYTHING)
        await link.make("anna", options, again=order == "by hand again")
    anna, ben = await link.seen("anna"), await link.seen("ben")
    # Ben has only results of automatic choices.
    assert not ben.own
    assert {stem.model for stem in ben.stems} == {"spleeter"}
    assert not any(isinstance(stem, OwnStem) for stem in ben.stems)
    assert ben.analyses.keys() == {"beats", "key", "chords", "structure", "lyrics", "tuning"}
    assert all(part["madeBy"]["backend"] == "auto" for part in ben.analyses.values())
    assert ben.analyses["lyrics"]["lines"][0]["text"] == "heard  auto"
    assert "own words" not in str(await link.message("ben"))
    # Anna has the results of her choices.
    for chosen in options.get("analyses", []):
        part = chosen["part"].removeprefix("PART_").lower()
        assert part in anna.own
        assert anna.analyses[part] != ben.analyses[part]
    if "separations" in options:
        own = [stem for stem in anna.stems if isinstance(stem, OwnStem)]
        assert own
        assert not {stem.audio_key for stem in own} & {stem.audio_key for stem in ben.stems}


async def test_the_first_automatic_results_of_any_user_are_shared(link: Link) -> None:
    await link.make("anna", separation())
    await link.make("ben", analysis("beats"), again=True)
    await link.make("anna", analysis("key"), again=True)
    assert await link.message("anna") == await link.message("ben")
    assert (await link.seen("anna")).analyses.keys() == {"beats", "key"}
    assert not (await link.seen("anna")).own


@BOTH
async def test_results_made_again_are_own_and_the_first_ones_stay_shared(link: Link) -> None:
    await link.make("anna", EVERYTHING)
    before, stems = (await link.seen("ben")).analyses, await link.stems("ben")
    link.services.version = 2
    everything = separation() | {"analyses": [{"part": part_json_name(part)} for part in PARTS]}
    await link.make("ben", everything, again=True)
    assert ((await link.seen("anna")).analyses, await link.stems("anna")) == (before, stems)
    assert (await link.seen("ben")).own == set(PARTS)
    assert not set((await link.stems("ben")).values()) & set(stems.values())
    # A result that equals the shared one ends the own version.
    link.services.version = 1
    await link.make("ben", {**everything, "priority": "PRIORITY_BATCH"}, again=True)
    assert await link.stems("ben") == stems
    assert (await link.seen("ben")).analyses == before
    assert not (await link.seen("ben")).own


async def test_later_automatic_results_are_dropped(link: Link) -> None:
    await link.make("anna", EVERYTHING)
    shared = await link.message("anna")
    link.services.version = 2
    # As from a job that was accepted before anna's job had ended.
    await link.make("ben", EVERYTHING)
    assert await link.message("ben") == await link.message("anna") == shared
    stems = (await link.stems("anna")).values()
    kept = {info.key.removesuffix(".peaks") async for info in link.library.objects.list("stems")}
    assert kept == set(stems), "no quota counts others"


async def test_results_from_own_inputs_are_own(link: Link) -> None:
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


async def test_results_from_corrected_beats_are_own(link: Link) -> None:
    await link.make("ben", analysis("beats"))
    await link.library.user_tracks.edit("anna", link.id, "beats", {**beats(99.0), "beats": [{"time": 1.25}]})
    await link.make("anna", analysis("chords"))
    assert [beat.time for beat in link.services.analyses[-1].parts[0].beats.beats] == [1.25]
    assert "chords" not in (await link.seen("ben")).analyses
    assert "chords" in (await link.seen("anna")).own


async def test_chords_from_chosen_beats_of_the_same_job_are_own(link: Link) -> None:
    options = {
        "analyses": [{"part": "PART_BEATS", "backend": "librosa"}, {"part": "PART_CHORDS"}, {"part": "PART_KEY"}]
    }
    await link.make("anna", options)
    assert (await link.seen("anna")).own == {"beats", "chords"}
    assert (await link.seen("ben")).analyses.keys() == {"key"}


async def test_lyrics_from_own_vocals_are_own(link: Link) -> None:
    await link.make("anna", separation(model="htdemucs") | analysis("lyrics"))
    assert (await link.seen("anna")).own == {"lyrics"}
    assert (await link.seen("ben")).analyses == {}
    assert await link.stems("ben") == {}
    await link.make("ben", separation())
    await link.make("anna", analysis("lyrics", language="fr"))
    assert link.services.analyses[-1].audio_key == (await link.stems("anna"))["htdemucs/vocals"]


async def test_sections_are_named_by_the_lyrics_that_the_user_sees(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    shared = (await link.seen("ben")).analyses["structure"]
    vocals = (await link.stems("ben"))["spleeter/vocals"]
    assert shared["sections"][0]["label"] == f"sung by heard  auto to {vocals}"
    await link.make("anna", analysis("lyrics", text="secret words"))
    assert "secret words" in (await link.seen("anna")).analyses["structure"]["sections"][0]["label"]
    assert (await link.seen("anna")).own == {"lyrics", "structure"}
    assert (await link.seen("ben")).analyses["structure"] == shared
    # Ben's next job does not use anna's words, and names only his own sections.
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
    # They are not named again.
    asked = len(link.services.analyses)
    await link.make("ben", {**analysis("lyrics"), "priority": "PRIORITY_BATCH"}, again=True)
    assert len(link.services.analyses) == asked + 1


@BOTH
async def test_reverting_returns_to_the_shared_version(link: Link) -> None:
    await link.make("ben", analysis("beats"))
    await link.make("anna", analysis("beats", backend="librosa"))
    own, shared = (await link.seen("anna")).analyses["beats"], (await link.seen("ben")).analyses["beats"]
    user_tracks = link.library.user_tracks
    await user_tracks.edit("anna", link.id, "beats", beats(99.0))
    assert (await link.seen("anna")).analyses["beats"]["tempo"]["bpm"] == 99.0
    assert (await link.seen("anna", computed=True)).analyses["beats"] == own
    await user_tracks.revert("anna", link.id, "beats")
    assert (await link.seen("anna")).analyses["beats"] == own
    await user_tracks.revert("anna", link.id, "beats", to_shared=True)
    assert (await link.seen("anna")).analyses["beats"] == shared
    assert not (await link.seen("anna")).own
    tempo = {"max_bpm": shared["tempo"]["bpm"] + 0.1, "min_bpm": shared["tempo"]["bpm"] - 0.1}
    assert len(await SongLibrary(link.library.tracks._database).titles("anna", **tempo)) == 1


@BOTH
async def test_an_edit_tells_whether_the_own_version_was_made_again(link: Link) -> None:
    await link.make("ben", analysis("key"))
    await link.library.user_tracks.edit("anna", link.id, "key", {"tonic": "A", "mode": "minor"})
    assert [edit.computed_since for edit in (await link.seen("anna")).edits.values()] == [False]
    await link.make("ben", analysis("key", backend="librosa"), again=True)
    assert [edit.computed_since for edit in (await link.seen("anna")).edits.values()] == [False]
    await link.make("anna", analysis("key", backend="librosa"), again=True)
    assert [edit.computed_since for edit in (await link.seen("anna")).edits.values()] == [True]


@BOTH
async def test_own_versions_are_removed_with_their_user_only(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    await link.make("anna", separation(model="htdemucs") | analysis("lyrics", text="mine"))
    library, ben = link.library, await link.message("ben")
    anna = await link.message("anna")
    own = [stem.audio_key for stem in (await link.seen("anna")).stems if isinstance(stem, OwnStem)]
    await library.user_tracks.remove("anna", link.id)
    assert await library.trash.empty() == 0
    await library.user_tracks.restore("anna", link.id)
    assert await link.message("anna") == anna
    await library.user_tracks.remove("anna", link.id, for_good=True)
    assert await library.trash.empty("anna", link.id) == 1
    assert await link.message("ben") == ben
    keys = await library.keys()
    assert own
    assert not [key for key in keys if any(key.startswith(gone) for gone in own)]
    assert set((await link.stems("ben")).values()) < set(keys)
    # Own versions do not come back with the user.
    track = (await link.seen("ben")).track
    await library.tracks.add_link("anna", track.source_url or "")
    assert not (await link.seen("anna")).own
    assert await link.stems("anna") == await link.stems("ben")


async def test_everything_is_removed_with_the_last_user(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    await link.make("anna", separation(model="htdemucs"))
    await link.make("ben", separation(model="htdemucs", quality="QUALITY_BEST"))
    for user in ("ben", "anna"):
        await link.library.user_tracks.remove(user, link.id, for_good=True)
        assert await link.library.trash.empty(user, link.id) == 1
    assert await link.library.keys() == []


@BOTH
async def test_objects_that_two_own_versions_share_stay_for_the_other(link: Link) -> None:
    for user in ("anna", "ben"):
        await link.make(user, separation(model="htdemucs"))
    assert await link.stems("anna") == await link.stems("ben")
    await link.make("anna", separation(model="htdemucs", quality="QUALITY_BEST"))
    assert not set((await link.stems("anna")).values()) & set((await link.stems("ben")).values())
    assert set((await link.stems("ben")).values()) < set(await link.library.keys())
    await link.library.user_tracks.remove("anna", link.id, for_good=True)
    await link.library.trash.empty()
    assert set((await link.stems("ben")).values()) < set(await link.library.keys())


@BOTH
async def test_own_stems_count_for_their_user_and_are_kept_by_a_sweep(link: Link) -> None:
    usage, database = link.library.usage, link.library.tracks._database
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
    sweeper = Sweeper(link.library.objects, database, usage, older_than=nothing, stems_older_than=nothing)
    before = await link.library.keys()
    await sweeper.sweep()
    assert await link.library.keys() == before
    (lost,) = [stem.audio_key for stem in (await link.seen("anna")).stems if isinstance(stem, OwnStem)]
    await link.library.objects.delete(lost)
    report = await sweeper.sweep(dry_run=True)
    (missing,) = report.missing
    assert missing.startswith(f"{link.id} {lost} since ")


async def test_a_result_for_a_user_who_removed_the_track_is_not_kept(link: Link) -> None:
    await link.make("ben", EVERYTHING)
    await link.library.user_tracks.remove("anna", link.id, for_good=True)
    assert await link.library.tracks.forget("anna", link.id, LONG_AGO) is not None
    before = await link.message("ben")
    kept = await link.library.versions.keep_part("anna", link.id, "key", {"tonic": "D"}, by_hand=True, again=True)
    assert kept == "not"
    assert await link.message("ben") == before


async def test_results_of_an_upload_are_not_own_versions(library: RunningLibrary, tmp_path: Path) -> None:
    services = Services(library)
    library.use(services)
    path = tmp_path / "song.flac"
    encode(music(2), 44_100, path, "flac")
    track = await library.upload("anna", path)
    upload = Link(library, services, track.id)
    await upload.make("anna", EVERYTHING)
    await upload.make("anna", separation(quality="QUALITY_BEST") | analysis("lyrics", text="mine"), again=True)
    data = await upload.seen("anna")
    assert not data.own
    assert data.analyses["lyrics"]["lines"][0]["text"] == "mine"
    assert "mine" in data.analyses["structure"]["sections"][0]["label"]
    assert not any(isinstance(stem, OwnStem) for stem in data.stems)
    # The objects of the first separation were removed.
    assert {key for key in await library.keys() if key.startswith("stems/")} == {
        key for stem in data.stems for key in (stem.audio_key, stem.peaks_key)
    }
