"""Measures how soon the browser shows and plays a song: `python -m bench.page URL PASSWORD TITLE [--runs N]`.

Uses a running suite as admin, with the Chromium on the PATH. Measures the time to the first paint and until the song
can be played (without and with a cache), the time from pressing play to the first sample that is not silent (after
loading, and immediately after opening), and frames per second while it plays. The sound card's delay is not measured.
"""

import argparse
import shutil
import statistics
from collections.abc import Iterator

import numpy as np
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.page.sound_tap import RATE_HZ, heard_since, put_tap

FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
PLAYING_SECONDS = 10
SLOW_MS = 20.0
# Less than the smallest 16-bit sample at the beginning of a fade-in.
SILENCE = 1e-4

PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
PRESS = """() => addEventListener("pointerdown", () => (window.pressed = performance.now() / 1000), {capture: true})"""
PICTURES = """seconds => new Promise(resolve => {
  const deltas = [];
  let last = performance.now();
  const begin = last;
  const next = now => {
    deltas.push(now - last);
    last = now;
    if (now - begin < seconds * 1000) requestAnimationFrame(next);
    else resolve(deltas.slice(1));
  };
  requestAnimationFrame(next);
})"""


def main() -> None:
    """Prints a line for each figure: median, minimum and maximum of all runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("password")
    parser.add_argument("title")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    figures: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for _ in range(arguments.runs):
            context = _signed_in(browser, arguments.url, arguments.password)
            for name, figure in _measured(context, arguments.title):
                figures.setdefault(name, []).append(figure)
            context.close()
        browser.close()
    for name, values in figures.items():
        print(f"{name:45} {statistics.median(values):7.1f}   {min(values):7.1f} to {max(values):.1f}")


def _signed_in(browser: Browser, url: str, password: str) -> BrowserContext:
    context = browser.new_context(base_url=url, bypass_csp=True, viewport={"width": 1280, "height": 900})
    put_tap(context)
    answer = context.request.post("/api/v1/auth/login", data={"username": "admin", "password": password})
    if not answer.ok:
        raise SystemExit(f"admin cannot sign in: {answer.json()['message']}")
    return context


def _measured(context: BrowserContext, title: str) -> Iterator[tuple[str, float]]:
    page = context.new_page()
    listed = context.request.get("/api/v1/tracks", params={"query": title}).json()["tracks"]
    if not listed:
        raise SystemExit(f"There is no song {title!r}.")
    # Positions within the song, because its beginning may be silent.
    path = f"/songs/{listed[0]['id']}?t="
    duration = listed[0]["durationSeconds"]
    for caching in ("nothing cached", "cached"):
        page.goto(f"{path}{0.2 * duration:.1f}")
        page.get_by_role("button", name="Mute").first.wait_for()
        shown_ms = page.evaluate("performance.now()")
        yield f"first paint, {caching}, ms", page.evaluate(PAINT)
        yield f"the song can be played, {caching}, ms", shown_ms
    page.wait_for_timeout(1500)
    yield "from play to sound, loaded, ms", _until_sound_ms(page)
    deltas = np.asarray(page.evaluate(PICTURES, PLAYING_SECONDS))
    yield "pictures per second while it plays", 1000 / float(deltas.mean())
    yield f"frames later than {SLOW_MS:.0f} ms, per cent", 100 * float((deltas > SLOW_MS).mean())
    yield "longest wait for a picture, ms", float(deltas.max())
    page.goto(f"{path}{0.6 * duration:.1f}")
    page.get_by_role("button", name="Mute").first.wait_for()
    yield "from play to sound, at once after opening, ms", _until_sound_ms(page)


def _until_sound_ms(page: Page) -> float:
    page.evaluate("listen()")
    page.evaluate(PRESS)
    page.get_by_role("button", name="Play", exact=True).click()
    pressed = page.evaluate("window.pressed")
    for _ in range(100):
        page.wait_for_timeout(100)
        for begin, sound in heard_since(page):
            loud = np.flatnonzero(np.abs(sound).max(axis=0) > SILENCE)
            if len(loud):
                return float((begin + loud[0] / RATE_HZ - pressed) * 1000)
    raise SystemExit("Nothing is heard within 10 s.")


if __name__ == "__main__":
    main()
