"""An analysis whose audio is missing when its worker starts, as when a volume is not mounted."""

import asyncio
from contextlib import aclosing

import pytest

from services.analysis.config import AnalysisSettings
from services.analysis.service import KIND
from services.common.jobs.queue import JobQueue
from songs.small_songs import Song
from tests.analysis.work import AUDIO, choice, put


@pytest.mark.long
async def test_a_worker_waits_for_audio_that_is_temporarily_missing(
    settings: AnalysisSettings,
    song: Song,
    jobs: JobQueue,
) -> None:
    """The audio was there when the job was accepted, so its absence is temporary and must not fail the job."""
    payload = {"audio_key": AUDIO, "parts": [choice("key", "librosa")]}
    job = await jobs.submit(KIND, payload, key="k", user="anna")
    async with asyncio.timeout(60):
        while (await jobs.get(job.id)).attempts < 2:
            await asyncio.sleep(0.1)
    await put(settings, song.audio.samples)
    async with asyncio.timeout(120), aclosing(jobs.watch(job.id)) as changes:
        end = [record async for record in changes][-1]
    assert (end.state, end.error) == ("succeeded", None)
