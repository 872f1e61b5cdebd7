"""The sound of a song during practice."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Page, expect

from services.common import audio
from tests.page.conftest import elsewhere
from tests.page.song_view import Stems, left, mix_of, open_song, play
from tests.page.sound import longest_silence, onsets, place_of, residual_db, semitones_between, tempo_ratio
from tests.page.sound_tap import RATE_HZ, heard, heard_since
from tests.suite.client import Client, Json
from tests.suite.running import PASSWORD, Suite

# Both stems have 24 bits and Web Audio computes in float32: the residual of an exact sum is at -100 dB.
EXACT_DB = -80.0
LOOP = (2, 20)
SEPARATION_MS = 100_000


def test_stems_play_sample_for_sample_together_and_obey_the_mixer(listening: Page, track: Json, stems: Stems) -> None:
    page = listening
    open_song(page, track, "?t=4")
    play(page)
    assert residual_db(left(heard(page, 1.5)), left(mix_of(stems))) < EXACT_DB
    page.get_by_role("button", name="Mute vocals").click()
    page.wait_for_timeout(1000)
    assert residual_db(left(heard(page, 1)), left(stems["accompaniment"])) < EXACT_DB
    page.get_by_role("button", name="Mute vocals").click()
    page.get_by_role("button", name="Solo vocals").click()
    page.get_by_label("Volume of vocals").fill("0.5")
    page.wait_for_timeout(1000)
    assert residual_db(left(heard(page, 1)), left(stems["vocals"] * 0.5)) < EXACT_DB


def test_a_pan_moves_both_channels_of_a_stem_and_is_in_the_saved_mix(
    listening: Page, track: Json, stems: Stems, tmp_path: Path
) -> None:
    page = listening
    open_song(page, track, "?t=4&solo=vocals")
    page.get_by_label("Pan of vocals").fill("-1")
    play(page)
    sound = heard(page, 1)
    assert residual_db(left(sound), stems["vocals"].astype(np.float64).sum(axis=0)) < EXACT_DB
    assert np.abs(sound[1]).max() < 1e-4
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_label("Sound as").select_option("wav")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save The mix with these settings").click()
    download.value.save_as(tmp_path / "mix.wav")
    saved = audio.decode(tmp_path / "mix.wav", audio.NO_LIMITS)
    expected = stems["vocals"].sum(axis=0)
    assert np.abs(saved[0] - expected / max(np.abs(expected).max(), 1)).max() < 1e-5
    assert not saved[1].any()


@pytest.mark.parametrize(("tempo", "pitch"), [(75, 3), (150, -2)])
def test_tempo_and_pitch_are_independent(listening: Page, track: Json, stems: Stems, tempo: int, pitch: int) -> None:
    page = listening
    open_song(page, track, f"?t=3&tempo={tempo}&pitch={pitch}")
    play(page)
    sound, song = left(heard(page, 4)), left(mix_of(stems))
    assert tempo_ratio(sound, song, RATE_HZ, (3, 7)) == pytest.approx(tempo / 100, abs=0.03)
    assert semitones_between(sound, song, RATE_HZ) == pytest.approx(pitch, abs=0.3)


def test_a_loop_repeats_without_a_gap_and_the_trainer_raises_the_tempo(
    listening: Page, track: Json, stems: Stems
) -> None:
    page = listening
    start, end = track["beats"][6]["time"], track["beats"][8]["time"]
    open_song(page, track, f"?t={start}&loop={start:.3f}-{end:.3f}")
    play(page)
    sound = left(heard(page, 2.5 * (end - start)))
    song = left(mix_of(stems))
    first, last = round(round(start, 3) * RATE_HZ), round(round(end, 3) * RATE_HZ)
    looped = np.tile(song[first:last], 6)
    assert residual_db(sound, looped) < -25  # each round begins with a cross-fade of 3 ms
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Speed trainer").click()
    expect(page.get_by_text("Tempo 70 %")).to_be_visible()
    page.get_by_label("Rounds").fill("1")
    page.get_by_label("Step, %").fill("25")
    page.get_by_label("Up to, %").fill("120")
    page.get_by_label("Up to, %").press("Tab")
    expect(page.get_by_text("Tempo 120 %")).to_be_visible()


def test_the_metronome_clicks_on_the_beats(listening: Page, track: Json) -> None:
    page = listening
    open_song(page, track, "?t=4&mute=vocals,accompaniment")
    page.get_by_role("button", name="Metronome").click()
    play(page)
    clicks = onsets(left(heard(page, 3)), RATE_HZ)
    beats = [beat["time"] for beat in track["beats"]]
    assert len(clicks) >= 4
    assert np.diff(clicks) == pytest.approx(float(np.median(np.diff(beats))), abs=0.03)
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_label("Clicks per beat").select_option("2")
    page.wait_for_timeout(600)
    twice = onsets(left(heard(page, 3)), RATE_HZ)
    assert np.median(np.diff(twice)) == pytest.approx(float(np.median(np.diff(beats))) / 2, abs=0.02)


def test_a_bar_is_counted_in_and_the_song_starts_on_the_beat(listening: Page, track: Json, stems: Stems) -> None:
    page = listening
    beats = [beat["time"] for beat in track["beats"]]
    beat = float(np.median(np.diff(beats)))
    # Between two beats: the count still continues into the song's beats.
    place = round((beats[8] + beats[9]) / 2, 1)
    open_song(page, track, f"?t={place}&count=1")
    page.evaluate("listen()")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function(f"heardSeconds({RATE_HZ}) >= 6")
    sound = left(heard_since(page)[-1][1])
    clicks = onsets(sound, RATE_HZ)[:4]
    assert np.diff(clicks) == pytest.approx(beat, abs=0.005)
    song = left(mix_of(stems))
    begin = int((clicks[0] + 5 * beat) * RATE_HZ)
    at = place_of(sound[begin : begin + RATE_HZ], song)
    # The first click is where the beat four before the next one would be.
    assert (at - begin) / RATE_HZ + clicks[0] == pytest.approx(beats[9] - 4 * beat, abs=0.03)
    before = sound[int((clicks[0] + 0.1) * RATE_HZ) : int((clicks[1] - 0.01) * RATE_HZ)]
    assert np.abs(before).max() < 1e-3


@pytest.mark.long  # on a busy machine the browser itself interrupts the sound
def test_stems_join_a_song_that_plays_while_it_is_separated(
    listening: Page, suite: Suite, stems: Stems, tmp_path: Path
) -> None:
    page = listening
    mix = mix_of(stems)
    song = np.tile(mix, 4)[:, : 80 * RATE_HZ]
    path = tmp_path / "Again and again.flac"
    audio.encode(np.ascontiguousarray(song), RATE_HZ, path, "flac")

    async def prepared() -> Json:
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            answer = await client.uploaded(path, {"analyses": [{"part": "PART_KEY"}]})
            await client.end_of(answer["job"]["job"]["id"])
            return dict(answer["track"])

    async def separate(track_id: str) -> None:
        async with Client(suite.url) as client:
            await client.sign_in("admin", PASSWORD)
            status, answer = await client.call(
                "POST", f"/tracks/{track_id}/process", json={"options": {"separations": [{}]}, "requestId": track_id}
            )
            assert status == 200, answer

    track = elsewhere(prepared())
    open_song(page, track, f"?loop={LOOP[0]}-{LOOP[1]}")
    expect(page.get_by_text("There are no stems yet; this is the mix.")).to_be_visible()
    play(page)
    page.evaluate("listen()")
    elsewhere(separate(track["id"]))
    live = page.get_by_text("The stems are still being made")
    live.wait_for(timeout=SEPARATION_MS)  # looks in every frame: it may be over soon
    expect(page.get_by_role("button", name="Mute vocals")).to_be_visible(timeout=SEPARATION_MS)
    expect(live).to_have_count(0, timeout=SEPARATION_MS)
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    page.wait_for_timeout(500)
    sound = together(heard_since(page))
    assert longest_silence(left(sound), RATE_HZ) < longest_silence(left(song), RATE_HZ) + 0.05
    # It is at the same position as if nothing had changed.
    first, last = (left(piece) for piece in (sound[:, :RATE_HZ], sound[:, -RATE_HZ:]))
    run = place_of(last, left(mix)) - place_of(first, left(mix))
    round_samples = (LOOP[1] - LOOP[0]) * RATE_HZ
    off = (run - (sound.shape[1] - RATE_HZ)) % round_samples
    assert min(off, round_samples - off) / RATE_HZ < 0.15


def together(contexts: list[tuple[float, npt.NDArray[np.float32]]]) -> npt.NDArray[np.float32]:
    """The sound of several audio contexts, on one clock."""
    begin = min(at for at, _ in contexts)
    starts = [round((at - begin) * RATE_HZ) for at, _ in contexts]
    length = max(start + sound.shape[1] for start, (_, sound) in zip(starts, contexts, strict=True))
    whole = np.zeros((2, length), np.float32)
    for start, (_, sound) in zip(starts, contexts, strict=True):
        whole[:, start : start + sound.shape[1]] += sound
    return whole


def test_loops_snap_to_beats_or_sections(page: Page, track: Json) -> None:
    open_song(page, track)
    page.get_by_role("list", name="Sections").get_by_role("button").nth(1).dblclick()
    section = track["sections"][1]
    assert loop_of(page) == pytest.approx((section["start"], section["end"]), abs=0.001)
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_label("Loops snap to").select_option("section")
    drag(page, track, section["start"] + 1, section["end"] - 1)
    assert loop_of(page) == pytest.approx((section["start"], section["end"]), abs=0.001)
    page.get_by_label("Loops snap to").select_option("bar")
    drag(page, track, section["start"] + 0.9, section["start"] + 4)
    downbeats = [beat["time"] for beat in track["beats"] if beat["position"] == 1]
    assert all(min(abs(end - downbeat) for downbeat in downbeats) < 0.001 for end in loop_of(page))


def loop_of(page: Page) -> tuple[float, float]:
    page.wait_for_timeout(500)  # the address is updated after a delay
    start, end = parse_qs(urlsplit(page.url).query)["loop"][0].split("-")
    return float(start), float(end)


def drag(page: Page, track: Json, start: float, end: float) -> None:
    """Drags over the waveforms from one second of the song to another."""
    box = page.locator(".overlay").bounding_box()
    assert box
    x = [box["x"] + box["width"] * seconds / track["durationSeconds"] for seconds in (start, end)]
    y = box["y"] + box["height"] - 20
    page.mouse.move(x[0], y)
    page.mouse.down()
    page.mouse.move(x[1], y, steps=5)
    page.mouse.up()
