"""Helpers for the tests of the song view."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Page, expect

from tests.suite.client import Json

Stems = dict[str, npt.NDArray[np.float32]]

AXE = Path(__file__).parents[2] / "page" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]


def open_song(page: Page, track: Json, query: str = "") -> None:
    page.goto(f"/songs/{track['id']}{query}")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


def play(page: Page) -> None:
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    page.wait_for_timeout(600)


def left(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(sound[0], np.float64)


def mix_of(stems: Stems) -> npt.NDArray[np.float32]:
    return np.asarray(np.sum(list(stems.values()), axis=0), np.float32)


def violations(page: Page) -> list[dict[str, Any]]:
    """Violations of WCAG 2.2 AA that axe-core finds: rules and elements."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)["violations"]
    return [{"rule": each["id"], "elements": [node["html"] for node in each["nodes"]][:3]} for each in found]
