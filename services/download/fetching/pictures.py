"""Pictures of songs: covers in files, and thumbnails of videos. They are never decoded here."""

import hashlib

MAX_PICTURE_BYTES = 5_000_000
CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def picture_name(data: bytes) -> str:
    """The name of a picture: the SHA-256 of its bytes, and its format as suffix."""
    return f"{hashlib.sha256(data).hexdigest()}.{picture_suffix(data)}"


def picture_suffix(data: bytes) -> str:
    """The format of a picture that a browser can show (jpg, png or webp); empty for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""
