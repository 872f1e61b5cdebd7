"""Names for saved files, made from any title: valid on Windows, macOS and Linux, in ZIPs too."""

import re

MAX_NAME_BYTES = 180
"""Of UTF-8; file systems take 255, endings included."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]+')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
"""Windows takes these for devices, with any ending."""


def file_name(text: str, otherwise: str = "track") -> str:
    """A title as a file's name, without what some system refuses or takes for something else.

    That is separators and wildcards, control characters and marks that turn the direction of writing, dots and spaces
    at either end, and names of devices.

    Args:
        text: any.
        otherwise: the name if nothing is left of it.

    Returns:
        At most 180 bytes of UTF-8; an ending can follow.
    """
    line = "".join(character if character.isprintable() else "_" for character in " ".join(text.split()))
    name = _FORBIDDEN.sub("_", line).strip(". ")
    if _DEVICE.match(name):
        name = f"_{name}"
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(". ") or otherwise
