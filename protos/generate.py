"""Generates the Python code of the contracts: `python protos/generate.py` (or `make protos`).

Messages, typed stubs and gRPC services go to `protos/gen/`. The file `stemtube.binpb` there is the descriptor set with
comments: the gateway makes its OpenAPI document from it, and `make lint` checks it with buf. The build (`setup.py`)
calls this module too.
"""

import os
import shutil
import sys
import sysconfig
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
GENERATED = ROOT / "gen"


def generate(destination: Path = GENERATED, source: Path = ROOT) -> None:
    """Generates the package `stemtube` from `source` below `destination`, and replaces an earlier one.

    Raises:
        RuntimeError: protoc refused a contract; its message is on standard error.
    """
    from grpc_tools import protoc

    annotations = find_spec("google.api.annotations_pb2")
    if annotations is None or annotations.origin is None:
        raise RuntimeError("googleapis-common-protos is not installed")
    google = Path(annotations.origin).parents[2]
    bundled = Path(str(files("grpc_tools"))) / "_proto"
    contracts = sorted(str(path) for path in (source / "stemtube").rglob("*.proto"))
    # protoc looks for its plugins on the path. An environment that is not activated is not on it.
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    fresh = destination.with_name(destination.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    arguments = [
        "protoc",
        *(f"--proto_path={path}" for path in (source, bundled, google)),
        f"--python_out={fresh}",
        f"--grpc_python_out={fresh}",
        f"--mypy_out=quiet:{fresh}",
        f"--mypy_grpc_out=quiet:{fresh}",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={fresh / 'stemtube.binpb'}",
        *contracts,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc refused the contracts")
    package = fresh / "stemtube"
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__init__.py").touch()
    shutil.move(fresh / "stemtube.binpb", package / "stemtube.binpb")
    (package / "py.typed").touch()
    shutil.rmtree(destination, ignore_errors=True)
    fresh.rename(destination)


if __name__ == "__main__":
    try:
        generate()
    except RuntimeError as error:
        sys.exit(str(error))
