"""A song with known truth is uploaded over HTTP, and its results are right."""

import io
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import mir_eval
import numpy as np
import pytest

from services.common import audio
from services.common.audio import Samples
from services.common.jobs.states import FINISHED_JSON_NAMES
from services.common.parts import PARTS, part_json_name
from songs.small_songs import music
from songs.song import DemoSong
from stemtube.auth.v1 import session_pb2, session_pb2_grpc
from stemtube.download.v1 import (
    track_job_pb2,
    track_job_pb2_grpc,
    track_pb2,
    track_pb2_grpc,
    upload_pb2,
    upload_pb2_grpc,
)
from stemtube.job.v1 import job_pb2
from tests.download.site import Site
from tests.suite.client import Client, Json, states
from tests.suite.http_examples import CALLS, Shell
from tests.suite.running import PASSWORD, Suite

JOB_PARTS = ["acquire", "separation", *PARTS]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """The results of the first test, for the later ones."""
    return {}


async def test_an_upload_is_followed_live_until_every_part_is_there(
    client: Client, song: DemoSong, song_file: Path, results: dict[str, Any]
) -> None:
    jobs: list[Json] = []
    changed: Counter[str] = Counter()
    async with client.events() as socket:
        while json.loads((await socket.receive(timeout=10)).data) != {"snapshotEnd": {}}:
            pass  # events of other tests' jobs
        answer = await client.uploaded(song_file)
        track_id, job_id = answer["track"]["id"], answer["job"]["job"]["id"]
        async for message in socket:
            event = json.loads(message.data)
            if event.get("trackChanged", {}).get("trackId") == track_id:
                changed[event["trackChanged"]["part"]] += 1
            elif event.get("job", {}).get("job", {}).get("id") == job_id:
                jobs.append(event["job"])
                if event["job"]["job"]["state"] in FINISHED_JSON_NAMES:
                    break
    assert states(jobs[-1]) == dict.fromkeys(JOB_PARTS, "succeeded"), jobs[-1]
    # Sections are found, and at the end renamed by the singing.
    assert changed == Counter(JOB_PARTS) + Counter(["structure"])
    overall = [job["job"]["progress"] for job in jobs]
    assert overall == sorted(overall)
    assert overall[-1] == 1
    for name in JOB_PARTS[1:]:
        fractions = [part["progress"] for job in jobs for part in job["parts"] if part["name"] == name]
        assert fractions == sorted(fractions)
        assert len(set(fractions)) > 2 or name not in ("separation", "beats", "chords"), f"{name} showed no progress"
    results["job"] = job_id
    results["track"] = (await client.get(f"/tracks/{track_id}"))["track"]
    assert results["track"]["title"] == "Morning Light"
    assert results["track"]["durationSeconds"] == pytest.approx(song.duration, abs=0.01)


def test_tempo_beats_and_key_are_right(song: DemoSong, results: dict[str, Any]) -> None:
    track = results["track"]
    assert track["tempo"]["bpm"] == pytest.approx(song.truth.tempo_bpm, rel=0.02)
    found = np.array([beat["time"] for beat in track["beats"]])
    assert mir_eval.beat.f_measure(np.array([time for time, _ in song.truth.beats]), found) > 0.9
    assert track["beatsPerBar"] == 4
    assert (track["key"]["tonic"], track["key"]["mode"]) == song.truth.key
    assert track["madeBy"]["beats"]["version"]


def test_chords_cover_the_song_and_agree_with_the_truth(song: DemoSong, results: dict[str, Any]) -> None:
    chords = results["track"]["chords"]
    _assert_covers(chords, song.duration)
    assert all(chord["triad"].split(":")[0] == re.split("[:/]", chord["label"])[0] for chord in chords)
    reference = np.array([[start, end] for start, end, _ in song.truth.chords])
    estimate = np.array([[chord["start"], chord["end"]] for chord in chords])
    scores = mir_eval.chord.evaluate(
        reference, [label for _, _, label in song.truth.chords], estimate, [chord["label"] for chord in chords]
    )
    assert scores["majmin"] > 0.8, scores


def test_sections_cover_the_song_and_meet_its_boundaries(song: DemoSong, results: dict[str, Any]) -> None:
    sections = results["track"]["sections"]
    _assert_covers(sections, song.duration)
    reference = np.array([[start, end] for start, end, _ in song.truth.sections])
    estimate = np.array([[section["start"], section["end"]] for section in sections])
    _, _, f_measure = mir_eval.segment.detection(reference, estimate, window=3.0, trim=True)
    assert f_measure > 0.6
    assert results["track"]["madeBy"]["structure"]["backend"] == "barwise"


def test_lyrics_are_words_inside_the_song(song: DemoSong, results: dict[str, Any]) -> None:
    lyrics = results["track"]["lyrics"]
    words = [word for line in lyrics["lines"] for word in line["words"]]
    assert lyrics["language"] == "en"
    assert len(words) >= 8
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= song.duration
    sung = {word.lower().strip(",.") for _, _, word in song.truth.words}
    heard = {word["text"].lower().strip(",.?!") for word in words}
    assert len(sung & heard) >= 4, (sung, heard)


async def test_stems_sum_to_the_mix_and_the_vocals_are_found(
    client: Client, song: DemoSong, results: dict[str, Any]
) -> None:
    stems = {stem["name"]: stem for stem in results["track"]["stems"]}
    assert set(stems) == {"vocals", "accompaniment"}
    decoded: dict[str, Samples] = {}
    for name, stem in stems.items():
        status, content, headers = await client.bytes(stem["audio"].removeprefix("/api/v1"))
        assert (status, headers["Content-Type"]) == (200, "audio/flac")
        decoded[name] = audio.decode(io.BytesIO(content), audio.NO_LIMITS) / stem["gain"]
        assert decoded[name].shape == song.mix.shape
        assert not stem["silent"]
        assert "htdemucs" in stem["madeBy"]["substitution"]
        _, peaks, _ = await client.bytes(stem["peaks"].removeprefix("/api/v1"))
        assert len(audio.Peaks.from_bytes(peaks).pairs) == pytest.approx(song.duration * 100, rel=0.02)
    rest = song.mix - decoded["vocals"] - decoded["accompaniment"]
    assert _power(rest) < _power(song.mix) * 1e-6
    truth = song.stems["vocals"]
    gain = _sdr(truth, decoded["vocals"]) - _sdr(truth, song.mix)
    assert gain > 5, f"vocals gained {gain:.1f} dB of SDR over the mix"


async def test_ranges_and_other_formats_of_a_stem(client: Client, results: dict[str, Any], song: DemoSong) -> None:
    path = results["track"]["stems"][0]["audio"].removeprefix("/api/v1")
    status, whole, headers = await client.bytes(path)
    assert (status, headers["Accept-Ranges"]) == (200, "bytes")
    assert "private" in headers["Cache-Control"]
    status, part, _ = await client.bytes(path, Range="bytes=100-299")
    assert (status, part) == (206, whole[100:300])
    status, _, _ = await client.bytes(path, **{"If-None-Match": headers["ETag"]})
    assert status == 304
    for name, content_type in audio.CONTENT_TYPES.items():
        status, content, headers = await client.bytes(f"{path}?format={name}")
        assert (status, headers["Content-Type"]) == (200, content_type)
        info = audio.check(io.BytesIO(content), audio.NO_LIMITS)
        assert info.duration_seconds == pytest.approx(song.duration, abs=0.05)
    status, original, _ = await client.bytes(f"/tracks/{results['track']['id']}/audio")
    assert status == 200
    assert np.abs(audio.decode(io.BytesIO(original), audio.NO_LIMITS) - song.mix).max() < 1e-6


async def test_the_same_file_again_gives_the_finished_track_at_once(
    client: Client, song_file: Path, results: dict[str, Any]
) -> None:
    answer = await client.uploaded(song_file)
    assert answer["track"]["id"] == results["track"]["id"]
    job = await client.end_of(answer["job"]["job"]["id"], 20)
    assert states(job) == {"acquire": "succeeded"}
    listed = (await client.get("/tracks?page_size=200"))["tracks"]
    assert [track["id"] for track in listed].count(results["track"]["id"]) == 1


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
async def test_the_examples_in_the_http_documentation_work(
    suite: Suite, client: Client, site: Site, results: dict[str, Any], tmp_path: Path
) -> None:
    song = tmp_path / "song.mp3"
    audio.encode(music(4, seed=71), 44_100, song, "mp3")
    meanings = {"…": PASSWORD, "JOB": results["job"], "TRACK": results["track"]["id"]}
    meanings |= {"localhost:8080": suite.url.removeprefix("http://"), "https://example.org/song.mp3": site.put(song)}
    shell = Shell(tmp_path, meanings)
    await shell.sign_in()
    printed = [await shell.run(call, "snapshotEnd" if "/events" in call else "") for call in CALLS]
    answers = [json.loads(text) for text in printed if text.startswith("{")]
    token, uploaded, linked, track, found = answers
    assert token["secret"]
    assert track["track"]["id"] in {track["id"] for track in found["tracks"]}
    await client.call("DELETE", f"/me/tokens/{token['apiToken']['id']}")
    for added in (uploaded, linked):  # no test needs its results
        await client.call("POST", f"/jobs/{added['job']['job']['id']}/cancel", json={})
    watched, events = (text for text in printed if text.startswith(("data:", "event:", "id:")))
    assert "JOB_STATE_SUCCEEDED" in watched
    assert "snapshotEnd" in events
    assert sorted(shell.saved()) == [".cho", ".mp3"]


async def test_a_part_is_computed_again_with_another_backend(client: Client, results: dict[str, Any]) -> None:
    track_id = results["track"]["id"]
    options = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}
    status, answer = await client.call("POST", f"/tracks/{track_id}/process", json={"options": options})
    assert status == 200, answer
    job = await client.end_of(answer["job"]["job"]["id"])
    assert states(job) == {"acquire": "succeeded", "key": "succeeded"}
    track = (await client.get(f"/tracks/{track_id}"))["track"]
    assert track["key"]["madeBy"]["backend"] == "librosa"
    assert track["chords"] == results["track"]["chords"]


async def test_a_song_is_processed_by_grpc_alone(suite: Suite, song: DemoSong, song_file: Path) -> None:
    address = "127.0.0.1:{}".format
    async with (
        grpc.aio.insecure_channel(address(suite.ports["auth"])) as auth,
        grpc.aio.insecure_channel(address(suite.ports["download"])) as download,
    ):
        login = session_pb2.LoginRequest(username="ben", password=PASSWORD)
        session = (await session_pb2_grpc.SessionServiceStub(auth).Login(login)).session
        metadata = (("authorization", f"Bearer {session.access_token}"),)

        def requests() -> Any:
            yield upload_pb2.UploadTrackRequest(header=upload_pb2.UploadHeader(filename="by grpc.flac"))
            content = song_file.read_bytes()
            for start in range(0, len(content), 1 << 18):
                yield upload_pb2.UploadTrackRequest(chunk=content[start : start + (1 << 18)])

        uploaded = await upload_pb2_grpc.UploadServiceStub(download).UploadTrack(requests(), metadata=metadata)
        jobs = track_job_pb2_grpc.TrackJobServiceStub(download)
        watch = jobs.WatchJob(track_job_pb2.WatchJobRequest(job_id=uploaded.job.job.id), metadata=metadata)
        seen = [answer.job async for answer in watch]
        assert seen[-1].job.state == job_pb2.JOB_STATE_SUCCEEDED
        request = track_pb2.GetTrackRequest(track_id=uploaded.track.id)
        track = (await track_pb2_grpc.TrackServiceStub(download).GetTrack(request, metadata=metadata)).track
        assert track.tempo.bpm == pytest.approx(song.truth.tempo_bpm, rel=0.02)
        assert [stem.name for stem in track.stems] == ["vocals", "accompaniment"]
        assert track.lyrics.lines


async def test_models_and_backends_are_listed(client: Client) -> None:
    models = {model["name"]: model for model in (await client.get("/models"))["models"]}
    assert models["spleeter_2stems"]["default"]
    assert not models["htdemucs"]["availability"]["available"]
    assert "htdemucs" in models["htdemucs"]["availability"]["unavailableReason"]
    backends = (await client.get("/backends"))["backends"]
    assert {backend["part"] for backend in backends} == {part_json_name(part) for part in PARTS}
    whisper = next(backend for backend in backends if backend["name"] == "whisper")
    assert [model["name"] for model in whisper["models"] if model["default"]] == ["tiny.en"]


async def test_the_gateway_describes_itself(suite: Suite) -> None:
    async with aiohttp.ClientSession(suite.url) as session:
        async with session.get("/api/v1/openapi.json") as answer:
            paths = (await answer.json())["paths"]
        assert {"/api/v1/tracks", "/api/v1/tracks/upload", "/api/v1/events", "/api/v1/me"} <= set(paths)
        for path in ("/healthz", "/readyz", "/api/docs"):
            async with session.get(path) as answer:
                assert answer.status == 200


def _assert_covers(spans: list[Json], duration: float) -> None:
    assert spans[0]["start"] == 0
    assert spans[-1]["end"] == pytest.approx(duration, abs=0.01)
    for earlier, later in itertools.pairwise(spans):
        assert earlier["end"] == pytest.approx(later["start"], abs=1e-6)


def _power(samples: Samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def _sdr(reference: Samples, estimate: Samples) -> float:
    return 10 * float(np.log10(_power(reference) / _power(reference - estimate)))
