"""Names for saved files, made from any title: valid on Windows, macOS and Linux, in ZIPs too."""

import re

MAX_NAME_BYTES = 180
"""In UTF-8; file systems allow 255, with the ending."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]+')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
"""Names of devices on Windows, with any ending."""


def file_name(text: str, otherwise: str = "track") -> str:
    """Makes a file name of a title, without anything that a system refuses or understands differently.

    Removes separators and wildcards, control characters and marks that change the direction of writing, dots and spaces
    at both ends, and names of devices.

    Args:
        text: any text.
        otherwise: the name if nothing is left.

    Returns:
        At most 180 bytes of UTF-8; an ending can be added.
    """
    line = "".join(character if character.isprintable() else "_" for character in " ".join(text.split()))
    name = _FORBIDDEN.sub("_", line).strip(". ")
    if _DEVICE.match(name):
        name = f"_{name}"
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(". ") or otherwise
