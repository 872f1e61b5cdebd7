"""The packages that an extra of pyproject.toml installs, and a process that has no others.

Run as a program (`python -m tests.deploy.extras EXTRA PACKAGE`) it imports every module of PACKAGE while all
distributions that the extra does not install are hidden, and prints the project's modules that were loaded.
"""

import functools
import importlib
import importlib.metadata as metadata
import json
import pkgutil
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "gateway": "gateway",
    "auth": "services.auth",
    "download": "services.download",
    "separation": "services.separation",
    "analysis": "services.analysis",
}
OURS = ("services", "gateway", "cli", "stemtube")


@functools.cache
def distributions(extra: str) -> frozenset[str]:
    """Canonical names of the distributions that `pip install stemtube[extra]` installs, if they are installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    wanted, seen, found = [*project["dependencies"], *groups[extra]], set(), set()
    while wanted:
        text = wanted.pop()
        if text in seen:
            continue
        seen.add(text)
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == "stemtube":
            wanted += [other for group in requirement.extras for other in groups[group]]
            continue
        extras = requirement.extras or {""}
        if requirement.marker and not any(requirement.marker.evaluate({"extra": each}) for each in extras):
            continue
        found.add(name)
        for needed in metadata.requires(name) or ():
            inner = Requirement(needed)
            if inner.marker is None or any(inner.marker.evaluate({"extra": each}) for each in extras):
                inner.marker = None
                wanted.append(str(inner))
    return frozenset(found)


@functools.cache
def owners() -> dict[str, set[str]]:
    """The distributions of each top-level module."""
    return {
        module: {canonicalize_name(name) for name in names}
        for module, names in metadata.packages_distributions().items()
    }


def is_hidden(module: str, extra: str) -> bool:
    """Whether a module is only in distributions that the extra does not install."""
    top = module.partition(".")[0]
    ours = top in OURS or top in sys.stdlib_module_names  # packages of old backports own it, too
    return not ours and top in owners() and not owners()[top] & distributions(extra)


class Hidden:
    """A finder, before all others, that hides modules."""

    def __init__(self, extra: str) -> None:
        self._extra = extra

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if is_hidden(name, self._extra):
            raise ModuleNotFoundError(f"No module named {name!r} with the extra {self._extra!r} alone", name=name)


def main() -> None:
    extra, package = sys.argv[1:]
    distributions(extra), owners()
    for name in [name for name in sys.modules if is_hidden(name, extra)]:
        del sys.modules[name]
    sys.meta_path.insert(0, Hidden(extra))
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if ".migrations" not in module.name:  # Alembic runs these
            importlib.import_module(module.name)
    print(json.dumps(sorted(name for name in sys.modules if name.startswith(("services", "gateway")))))


if __name__ == "__main__":
    main()
