"""Failed parts of a job are retried over HTTP."""

from pathlib import Path

from songs.small_songs import music
from tests.common.audio_files import with_soundfile
from tests.suite.client import Client, part_of, reason, states


async def test_failed_parts_of_a_job_are_retried_with_their_options(client: Client, tmp_path: Path) -> None:
    options = {
        "separations": [{"model": "htdemucs", "quality": "QUALITY_BEST"}],
        "analyses": [{"part": "PART_KEY", "backend": "librosa"}],
    }
    added = await client.uploaded(with_soundfile(tmp_path / "a.wav", music(5)), options)
    job_id = added["job"]["job"]["id"]
    job = await client.end_of(job_id)
    assert states(job) == {"acquire": "succeeded", "separation": "failed", "key": "succeeded"}
    status, answer = await client.call("POST", f"/jobs/{job_id}/retry", json={"requestId": "retry-1"})
    assert status == 200, answer
    again = await client.end_of(answer["job"]["job"]["id"])
    assert states(again) == {"acquire": "succeeded", "separation": "failed"}
    assert (again["trackId"], again["job"]["id"] != job_id) == (added["track"]["id"], True)
    error = part_of(again, "separation")["error"]
    assert (error["reason"], "models pull htdemucs" in error["message"]) == ("WEIGHTS_MISSING", True)
    status, same = await client.call("POST", f"/jobs/{job_id}/retry", json={"requestId": "retry-1"})
    assert (status, same["job"]["job"]["id"]) == (200, again["job"]["id"])


async def test_a_complete_job_is_not_retried(client: Client, ben: Client, tmp_path: Path) -> None:
    options = {"analyses": [{"part": "PART_KEY", "backend": "librosa"}]}
    added = await client.uploaded(with_soundfile(tmp_path / "a.wav", music(5, seed=3)), options)
    job_id = added["job"]["job"]["id"]
    await client.end_of(job_id)
    status, answer = await client.call("POST", f"/jobs/{job_id}/retry", json={})
    assert (status, reason(answer)) == (400, "NOTHING_TO_RETRY")
    status, answer = await ben.call("POST", f"/jobs/{job_id}/retry", json={})
    assert (status, reason(answer)) == (404, "NO_SUCH_JOB")
