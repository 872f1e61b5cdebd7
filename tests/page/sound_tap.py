"""A tap on the sound that a page sends to the loudspeakers."""

import base64
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from playwright.sync_api import BrowserContext, Page

RATE_HZ = 44_100
OWN = Path(__file__).parent


def put_tap(context: BrowserContext) -> None:
    """Adds the tap to all pages of a context, which must bypass their security policy: it would block the tap."""
    tap = (OWN / "tap.js").read_text()
    context.add_init_script((OWN / "listen.js").read_text().replace("TAP_SOURCE", json.dumps(tap)))


def heard(page: Page, seconds: float) -> npt.NDArray[np.float32]:
    """Records the page's sound from now on: float32 [channels, samples]."""
    page.evaluate("listen()")
    page.wait_for_function(f"heardSeconds({RATE_HZ}) >= {seconds}")
    _, sound = heard_since(page)[-1]
    return sound[:, : int(seconds * RATE_HZ)]


def heard_since(page: Page) -> list[tuple[float, npt.NDArray[np.float32]]]:
    """The sound since `listen()`, by audio context: its start, in seconds of one clock, and the samples."""
    found = []
    for begin, text in page.evaluate("heard()"):
        blocks = np.frombuffer(base64.b64decode(text), np.float32).reshape(-1, 2, 128)
        found.append((float(begin), blocks.swapaxes(0, 1).reshape(2, -1)))
    return found
