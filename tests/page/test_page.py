"""The page as somebody uses it, in a real browser against a real suite."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.page.conftest import RATE_HZ, TITLE, heard
from tests.page.sound import residual_db, semitones_between, tempo_ratio
from tests.suite.client import Json
from tests.suite.running import PASSWORD

AXE = Path(__file__).parents[2] / "page" / "node_modules" / "axe-core" / "axe.min.js"
# Both stems are 24 bit and Web Audio computes in float32; what is left of an exact sum lies 100 dB down.
EXACT_DB = -80.0

Stems = dict[str, npt.NDArray[np.float32]]


def test_somebody_signs_in_adds_a_song_and_watches_it_fill_in(context: BrowserContext, song_file: Path) -> None:
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text(re.compile("password"))
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No songs yet")).to_be_visible()

    page.get_by_label("Song files").set_input_files(song_file)
    card = page.get_by_role("listitem").filter(has_text=TITLE)
    expect(card.get_by_role("progressbar", name="separation")).to_be_visible()
    expect(card.get_by_role("progressbar", name="chords")).to_be_visible()
    expect(card.get_by_role("progressbar")).to_have_count(0, timeout=200_000)
    expect(card).to_contain_text(re.compile(r"G major · 112 BPM · 0:23"))


def open_song(page: Page, track: Json, query: str = "") -> None:
    page.goto(f"/songs/{track['id']}{query}")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


def play(page: Page) -> None:
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    page.wait_for_timeout(600)


def left(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return sound[0].astype(np.float64)


def test_stems_play_sample_for_sample_together(listening: Page, track: Json, stems: Stems) -> None:
    page = listening
    open_song(page, track, "?t=4")
    play(page)
    sound = heard(page, 2)
    assert residual_db(left(sound), left(sum(stems.values()))) < EXACT_DB


def test_mute_solo_and_volume_do_what_they_say(listening: Page, track: Json, stems: Stems) -> None:
    page = listening
    open_song(page, track, "?t=4")
    play(page)
    page.get_by_role("button", name="Mute vocals").click()
    page.wait_for_timeout(300)
    assert residual_db(left(heard(page, 1)), left(stems["accompaniment"])) < EXACT_DB
    page.get_by_role("button", name="Mute vocals").click()
    page.get_by_role("button", name="Solo vocals").click()
    page.get_by_label("Volume of vocals").fill("0.5")
    page.wait_for_timeout(300)
    assert residual_db(left(heard(page, 1)), left(stems["vocals"] * 0.5)) < EXACT_DB


@pytest.mark.parametrize(("tempo", "pitch"), [(75, 0), (100, 3), (150, -2)])
def test_tempo_and_pitch_are_independent(listening: Page, track: Json, stems: Stems, tempo: int, pitch: int) -> None:
    page = listening
    open_song(page, track, f"?t=3&tempo={tempo}&pitch={pitch}")
    play(page)
    sound, song = left(heard(page, 5)), left(sum(stems.values()))
    assert tempo_ratio(sound, song, RATE_HZ, (3, 7)) == pytest.approx(tempo / 100, abs=0.03)
    assert semitones_between(sound, song, RATE_HZ) == pytest.approx(pitch, abs=0.3)


def test_a_loop_comes_round_without_a_gap_and_the_trainer_raises_the_tempo(
    listening: Page, track: Json, stems: Stems
) -> None:
    page = listening
    start, end = track["beats"][6]["time"], track["beats"][8]["time"]
    open_song(page, track, f"?t={start}&loop={start:.3f}-{end:.3f}")
    play(page)
    sound = left(heard(page, 2.5 * (end - start)))
    song = left(sum(stems.values()))
    first, last = round(round(start, 3) * RATE_HZ), round(round(end, 3) * RATE_HZ)
    looped = np.tile(song[first:last], 6)
    assert residual_db(sound, looped) < -25  # each round begins with a cross-fade of 3 ms
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Speed trainer").click()
    page.get_by_label("Rounds").fill("1")
    page.get_by_label("Up to, %").fill("120")
    page.get_by_label("Up to, %").press("Tab")
    expect(page.get_by_text("Tempo 120 %")).to_be_visible()


def test_keys_alone_play_loop_mute_and_show_what_they_do(page: Page, track: Json) -> None:
    open_song(page, track)
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    expect(page.locator(".meter div").first).to_have_attribute("style", re.compile(r"scaleX\(0\.[1-9]"))
    page.keyboard.press("l")
    expect(page.get_by_role("button", name=re.compile("^Loop 0:00"))).to_be_visible()
    page.keyboard.press("1")
    expect(page.get_by_role("button", name="Mute vocals")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("s")
    page.keyboard.press("2")
    expect(page.get_by_role("button", name="Solo accompaniment")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_text("Tempo 95 %")).to_be_visible()
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Metronome")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Space")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("play, pause")
    page.keyboard.press("Escape")
    address = parse_qs(urlsplit(page.url).query)
    assert (address["tempo"], address["mute"], address["solo"]) == (["95"], ["vocals"], ["accompaniment"])
    assert address["loop"][0].startswith("0.000-")


def test_chords_are_transposed_and_the_words_follow(page: Page, track: Json) -> None:
    line = track["lyrics"]["lines"][0]
    open_song(page, track, f"?t={line['start'] + 0.05}&pitch=2&capo=2")
    at_line = next(chord for chord in track["chords"] if chord["start"] <= line["start"] + 0.05 < chord["end"])
    plain = at_line["label"].replace(":maj", "").replace(":min", "m")
    now = page.locator(".big-chord.now button").first
    expect(now).to_have_text(plain)  # two semitones up, two frets down
    page.get_by_label("Capo").select_option("none")
    expect(now).not_to_have_text(plain)
    expect(page.locator(".karaoke li.now")).to_contain_text(line["words"][0]["text"])
    expect(page.locator(".word.now")).to_have_text(re.compile(re.escape(line["words"][0]["text"])))
    page.get_by_role("button", name="Songbook").click()
    expect(page.get_by_role("region", name="Songbook")).to_contain_text(line["words"][-1]["text"])


def test_the_metronome_clicks_on_the_beats(listening: Page, track: Json, stems: Stems) -> None:
    page = listening
    open_song(page, track, "?t=4&mute=vocals,accompaniment")
    page.get_by_role("button", name="Metronome").click()
    play(page)
    sound = np.abs(left(heard(page, 3)))
    onsets = [int(at) for at in np.flatnonzero(sound > 0.2)]
    clicks = [at for at, before in zip(onsets, [-RATE_HZ, *onsets], strict=False) if at - before > RATE_HZ // 10]
    beats = [beat["time"] for beat in track["beats"]]
    assert len(clicks) >= 4
    assert np.diff(clicks) / RATE_HZ == pytest.approx(float(np.median(np.diff(beats))), abs=0.03)


def test_a_chord_a_section_and_a_line_are_corrected_in_place(page: Page, track: Json) -> None:
    open_song(page, track)
    page.locator(".big-chord.now button").first.click()
    page.get_by_label("Chord, as it sounds").fill("F#m7")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.locator(".big-chord.now button").first).to_have_text("F♯m7")
    page.get_by_role("list", name="Sections").get_by_role("button").first.press("e")
    page.get_by_label("Name").fill("overture")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("list", name="Sections").get_by_role("button").first).to_have_text("overture")
    page.get_by_role("button", name=re.compile("^Correct: ")).first.click()
    page.get_by_role("dialog").get_by_label("Words").fill("Somebody sings")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.locator(".karaoke li").first).to_contain_text("Somebody sings")
    page.locator(".big-chord.now button").first.click()
    page.get_by_role("button", name="Drop all corrections").click()
    expect(page.locator(".big-chord.now button").first).not_to_have_text("F♯m7")


def test_a_song_is_found_deleted_and_brought_back(page: Page, track: Json) -> None:
    page.goto("/")
    card = page.get_by_role("listitem").filter(has_text=TITLE)
    page.get_by_label("Title or artist").fill("no such song")
    expect(page.get_by_text("No song fits")).to_be_visible()
    page.get_by_label("Title or artist").fill("morning")
    page.get_by_label("Key", exact=True).select_option("G")
    expect(card).to_be_visible()
    page.get_by_role("button", name=f"Delete {TITLE}").click()
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(card).to_be_visible()


def test_a_stem_is_saved(page: Page, track: Json) -> None:
    open_song(page, track)
    page.get_by_text("Save", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("listitem").filter(has_text="vocals").get_by_role("link", name="flac").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"fLaC"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_is_accessible(page: Page, track: Json, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("/", f"/songs/{track['id']}", "/account", "/admin"):
        page.goto(path)
        expect(page.get_by_role("main")).not_to_contain_text("Loading")
        page.wait_for_timeout(300)
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")
        violations = [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found["violations"]]
        assert not violations, json.dumps(violations, indent=1)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the screen"
