"""Compares files with their checksums."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

CHUNK_BYTES = 1 << 20


def matches(path: Path, checksum: str) -> bool:
    """Whether a file has a checksum, written as in `WeightFile.checksum`."""
    kind, _, expected = checksum.partition(":")
    if kind == "sha256":
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest().startswith(expected)


def copy_checked(
    content: IO[bytes], target: Path, sha256: str, size_bytes: int, progress: Callable[[float], None]
) -> bool:
    """Writes a stream to a file and returns whether it has the SHA-256.

    Args:
        content: the stream.
        target: the file to write.
        sha256: the digest in hex.
        size_bytes: expected size, for the progress.
        progress: called with the fraction written.
    """
    digest, written = hashlib.sha256(), 0
    with target.open("wb") as out:
        while chunk := content.read(CHUNK_BYTES):
            out.write(chunk)
            digest.update(chunk)
            written += len(chunk)
            progress(written / size_bytes)
    return digest.hexdigest() == sha256
