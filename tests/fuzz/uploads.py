"""Uploads of damaged files: each becomes a track, or is refused with a reason."""

import random
from collections import Counter

import requests

from tests.fuzz.findings import Tally
from tests.fuzz.media import originals
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target

ANSWER_SECONDS = 60.0


class Fuzzer:
    """Uploads damaged files to a target.

    Args:
        target: gets the files.
        tally: records the findings.
    """

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = tally
        self._http = requests.Session()
        self._http.trust_env = False

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def run(self, seed: int, count: int) -> Counter[str]:
        """Uploads `count` files, each while the previous one is processed.

        Returns:
            The number of accepted files, and of refused ones for each reason.
        """
        headers = {"Authorization": f"Bearer {self._target.account().token}"}
        dice, files = random.Random(seed), list(originals().items())
        outcomes: Counter[str] = Counter()
        for _ in range(count):
            name, whole = dice.choice(files)
            content = mutated(dice, whole, [whole])
            self._tally.inputs += 1
            try:
                answer = self._http.post(
                    f"{self._target.suite.url}/api/v1/tracks/upload",
                    headers=headers,
                    files={"file": (name, content)},
                    timeout=ANSWER_SECONDS,
                )
            except requests.Timeout:
                self._tally.note("hangs", f"an upload of {name}", content)
                continue
            if answer.status_code >= 500:
                self._tally.note("5xx", f"an upload of {name}: {answer.status_code}", content, answer.text)
            outcomes["accepted" if answer.ok else str(answer.json()["details"][0]["reason"])] += 1
        self._target.check(self._tally, "uploads")
        return outcomes
