"""Pictures of the page for `docs/pictures`, from a suite that runs and has a song.

    .venv/bin/python page/screenshots.py http://127.0.0.1:8080 PASSWORD "Morning Light"

It needs a Chromium on the PATH.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
PLACE_SECONDS = 21
LOADING_MS = 2500


def main(url: str, password: str, title: str) -> None:
    """Takes all pictures, as the user admin."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for scheme in ("light", "dark"):
            context = browser.new_context(base_url=url, color_scheme="dark" if scheme == "dark" else "light")
            answer = context.request.post("/api/v1/auth/login", data={"username": "admin", "password": password})
            if not answer.ok:
                sys.exit(f"admin cannot sign in: {answer.json()['message']}")
            page = context.new_page()
            page.goto("/")
            song = page.get_by_role("link", name=title, exact=True).first.get_attribute("href")
            for name, path in (("library", "/"), ("song", f"{song}?t={PLACE_SECONDS}"), ("admin", "/admin")):
                _take(page, path, DESK, f"{name}-{scheme}")
            _take(page, f"{song}?t={PLACE_SECONDS}", PHONE, f"phone-{scheme}")
            _take(page, f"{song}?t={PLACE_SECONDS}&stand=1", PHONE, f"stand-{scheme}")
        browser.close()


def _take(page: Page, path: str, size: dict[str, int], name: str) -> None:
    page.set_viewport_size({"width": size["width"], "height": size["height"]})
    page.goto(path)
    page.wait_for_timeout(LOADING_MS)
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
