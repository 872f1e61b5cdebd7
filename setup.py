"""Builds the package: generates the contracts' code, then packages it. The rest is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).resolve().parent
GENERATED = "protos/gen"

runpy.run_path(str(ROOT / "protos" / "generate.py"))["generate"]()

setup(
    packages=[
        *find_namespace_packages(str(ROOT), include=["services*", "gateway*", "cli*", "songs*"]),
        *find_namespace_packages(str(ROOT / GENERATED), include=["stemtube*"]),
    ],
    package_dir={"": ".", "stemtube": f"{GENERATED}/stemtube"},
    package_data={"": ["*.pyi", "py.typed", "*.binpb", "*.json", "*.toml", "web/**"]},
)
