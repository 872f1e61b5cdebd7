"""Checks that clients of the last merged contracts still work: `python protos/check_breaking.py path/to/buf`.

The last merged contracts are those of the commit at which the current branch left `origin/main`, or of HEAD if there is
no such branch. Contracts without the file `FIRST` are not compared: their names changed once, before any release.
"""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from generate import GENERATED, ROOT, generate

DESCRIPTORS = Path("stemtube/stemtube.binpb")
FIRST = "protos/stemtube/download/v1/track.proto"


def merged_descriptors(folder: Path) -> Path | None:
    """Generates the descriptors of the last merged contracts; returns None if there are none yet."""
    branched_off = _git("merge-base", "HEAD", "origin/main")
    revision = "HEAD" if branched_off.returncode else branched_off.stdout.decode().strip()
    archive = _git("archive", "--format=zip", revision, "protos/stemtube")
    if archive.returncode:
        return None
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as files:
        if FIRST not in files.namelist():
            return None
        files.extractall(folder)
    generate(folder / "gen", folder / "protos")
    return folder / "gen" / DESCRIPTORS


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT.parent, capture_output=True, check=False)


def main() -> int:
    """Compares both contracts and returns buf's exit status; its findings are on standard output."""
    with tempfile.TemporaryDirectory() as folder:
        before = merged_descriptors(Path(folder))
        if before is None:
            print("no merged contracts to compare with")
            return 0
        command = [
            sys.argv[1],
            "breaking",
            str(GENERATED / DESCRIPTORS),
            "--against",
            str(before),
            "--path",
            "stemtube",
        ]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
