"""The page as a user sees it, in a real browser with a real suite."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.page.conftest import TITLE
from tests.page.song_view import violations
from tests.suite.client import Json
from tests.suite.running import PASSWORD


def test_a_user_signs_in_adds_a_song_and_watches_its_progress(context: BrowserContext, song_file: Path) -> None:
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
    expect(card.get_by_role("progressbar", name="separation")).to_be_visible(timeout=60_000)
    expect(card.get_by_role("progressbar", name="chords")).to_be_visible()
    expect(card.get_by_role("progressbar")).to_have_count(0, timeout=200_000)
    expect(card).to_contain_text(re.compile(r"G major · 112 BPM · 0:23"))


def test_a_song_is_found_deleted_and_brought_back(page: Page, track: Json) -> None:
    page.goto("/")
    card = page.get_by_role("listitem").filter(has_text=TITLE)
    page.get_by_label("Title or artist").fill("no such song")
    expect(page.get_by_text("No song matches")).to_be_visible()
    page.get_by_label("Title or artist").fill("morning")
    page.get_by_label("Key", exact=True).select_option("G")
    expect(card).to_be_visible()
    page.get_by_role("button", name=f"Delete {TITLE}").click()
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(card).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/songs/{id}", "/songs/{id}?stand=1&words=book", "/account", "/admin"])
def test_every_view_is_accessible(page: Page, track: Json, path: str) -> None:
    page.goto(path.format(**track))
    expect(page.get_by_role("main")).not_to_contain_text("Loading")
    page.wait_for_timeout(300)
    for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 390), ("light", 390)):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 800})
        assert not violations(page), f"{scheme}, {width} pixels"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"wider than {width} pixels"
