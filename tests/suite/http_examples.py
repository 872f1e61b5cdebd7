"""The examples of docs/http.md, and a shell that runs them."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path

from tests.suite.running import ROOT


def _blocks() -> list[str]:
    """The blocks without a language, with continued lines joined."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "docs/http.md").read_text(), re.MULTILINE | re.DOTALL)
    return [text.replace("\\\n", "") for language, text in fenced if not language]


SIGN_IN, *FURTHER = _blocks()
CALLS = [call for block in FURTHER for call in re.split(r"^(?=curl )", block, flags=re.MULTILINE) if call]


class Shell:
    """Runs examples in a folder.

    Args:
        folder: has curl's settings, and gets its files.
        meanings: values for placeholders in the examples: `TRACK`, `localhost:8080`, ….
    """

    def __init__(self, folder: Path, meanings: Mapping[str, str]) -> None:
        self._before = {*folder.iterdir(), folder / ".curlrc"}
        (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
        self._folder = folder
        self._meanings = meanings
        self._token = ""

    async def sign_in(self) -> None:
        """Runs the first example, and keeps the token for the others."""
        self._token = (await self.run(f"{SIGN_IN}\necho $token")).strip()

    async def run(self, command: str, until: str = "") -> str:
        """Runs a command to its end, or until it has printed a text.

        Returns:
            The output.
        """
        for text, meaning in self._meanings.items():
            command = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", meaning, command)
        environment = {**os.environ, "CURL_HOME": str(self._folder), "token": self._token}
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", command), cwd=self._folder, env=environment, stdout=-1, stderr=-2
        )
        assert process.stdout
        async with asyncio.timeout(60):
            if until:
                printed = await process.stdout.readuntil(until.encode())
                process.terminate()
                await process.wait()
            else:
                printed, _ = await process.communicate()
                assert process.returncode == 0, (command, printed)
        return printed.decode()

    def saved(self) -> dict[str, int]:
        """The bytes of each file that examples have saved, by suffix."""
        return {path.suffix: path.stat().st_size for path in self._folder.iterdir() if path not in self._before}
