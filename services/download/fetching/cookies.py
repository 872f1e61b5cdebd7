"""The operator's cookies: which users' requests use them, and for which sites.

With the cookies a user can access everything that the operator can. So by default they are not used. One setting says
whose links are fetched with them, another whose searches and look-ups use them. They are sent only to hosts that the
settings name. The results belong to the requester alone, and never become part of a shared track or a shared answer.
"""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import structlog

from services.common.rpc.auth import Identity
from services.download.config import DownloadSection

log = structlog.get_logger(__name__)

SEARCHED_HOST = "www.youtube.com"
FILE_HEADER = "# Netscape HTTP Cookie File\n"
HTTP_ONLY = "#HttpOnly_"

Use = Literal["fetches", "lookups"]


class CookieRules:
    """Decides when the operator's cookies are used."""

    def __init__(self, section: DownloadSection) -> None:
        self._has_file = section.cookies_file is not None
        self._hosts = section.cookies_hosts
        self._users = {"fetches": section.cookies_fetches, "lookups": section.cookies_lookups}

    def serve(self, caller: Identity, use: Use, url: str = f"https://{SEARCHED_HOST}") -> bool:
        """Whether cookies are used when this caller fetches or looks up this link."""
        users = self._users[use]
        may = users == "everybody" or (users == "admins" and caller.admin)
        return self.allow(use, url) and may

    def allow(self, use: Use, url: str) -> bool:
        """Whether cookies are used for this link for any user."""
        host = urlsplit(url).hostname or ""
        return self._has_file and self._users[use] != "nobody" and is_of(host, self._hosts)

    def warn(self) -> None:
        """Logs a warning if the settings name a cookies file but never use it."""
        if self._has_file and not (self._hosts and set(self._users.values()) != {"nobody"}):
            log.warning("cookies are not used: set DOWNLOAD__COOKIES_HOSTS and DOWNLOAD__COOKIES_FETCHES")


def is_of(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether a host is one of `hosts`, or a subdomain of one."""
    host = host.lower().rstrip(".")
    return any(host == known or host.endswith(f".{known}") for known in (name.lower().strip(".") for name in hosts))


def copy_cookies(source: Path, hosts: tuple[str, ...], to: Path) -> str:
    """Copies the cookies of some hosts to a file in Netscape's format, and returns its path.

    yt-dlp adds the cookies that sites set to the copy.
    """
    kept = []
    for line in source.read_text().splitlines(keepends=True):
        domain = line.removeprefix(HTTP_ONLY).partition("\t")[0]
        if (line.startswith(HTTP_ONLY) or not line.startswith("#")) and is_of(domain.lstrip("."), hosts):
            kept.append(line if line.endswith("\n") else f"{line}\n")
    to.touch(mode=0o600)
    to.write_text(FILE_HEADER + "".join(kept))
    return str(to)
