"""Settings of the download service."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from services.common.audio import Limits
from services.common.config import ListenAddress, Section, Settings
from services.common.storage.database import DatabaseUrl

CookieUsers = Literal["nobody", "admins", "everybody"]


class DownloadSection(Section):
    """Settings of this service alone."""

    listen: ListenAddress = Field("127.0.0.1:50052", description="where gRPC listens")
    health_listen: ListenAddress = Field("127.0.0.1:9092", description="where /healthz, /readyz and /metrics listen")
    database_url: DatabaseUrl = Field(
        SecretStr(""),
        description="sqlite:///file or postgresql://user@host/name; empty: DATA_DIR/databases/download.sqlite",
    )
    pipelines: int = Field(
        1000, ge=1, description="tracks in hand; all but those that are fetched wait for other services, at little cost"
    )
    pipelines_per_user: int = Field(
        16, ge=1, description="tracks in hand of one user, and as many more of batch priority; others stay queued"
    )
    fetches: int = Field(
        12, ge=1, description="links that are fetched at a time, by two processes each of at most 1 GiB"
    )
    fetches_per_user: int = Field(
        2, ge=1, description="links of one user that are fetched at a time; the second only while half of all are free"
    )
    fetch_seconds: float = Field(1800.0, gt=0, description="longest time that a link may take to fetch")
    fetch_stall_seconds: float = Field(
        60.0, gt=0, description="a fetch ends when it brings less than 64 KiB in this time; it is tried again later"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="hosts that links may lead to although not public, JSON list"
    )
    cookies_file: Path | None = Field(
        None,
        description="the operator's cookies in Netscape's format, for sites that want to see a person signed in; they "
        "serve nobody until the next three settings say whom",
    )
    cookies_hosts: tuple[str, ...] = Field(
        (), description='hosts, with all below them, that get these cookies, JSON list such as ["youtube.com"]'
    )
    cookies_fetches: CookieUsers = Field(
        "nobody",
        description="nobody, admins or everybody: whose links to these hosts are fetched with the cookies; such a "
        "track is its user's own, not shared with others who add the link",
    )
    cookies_lookups: CookieUsers = Field(
        "nobody",
        description="likewise whose searches and look-ups of links; they show what the operator's account sees",
    )
    proxy: SecretStr = Field(
        SecretStr(""),
        description="http(s):// or socks5:// proxy for fetching; it then decides which addresses may be reached",
    )
    lyrics_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="site with LRCLIB's API, such as https://lrclib.net, that is asked for the words of songs by title "
        "and artist; empty: none is",
    )
    lookup_seconds: float = Field(60.0, gt=0, description="longest time for a search or the details of a link")
    lookup_days: float = Field(30.0, ge=0, description="answers of searches and details of links are kept so long")
    grace_seconds: float = Field(3.0, description="time for RPCs in hand when the process is asked to end")
    maintenance_seconds: float = Field(3600.0, gt=0, description="time between two rounds of maintenance")
    upload_hours: float = Field(24.0, gt=0, description="an upload that has broken off can be gone on with for so long")
    unfinished_uploads_per_user: int = Field(1000, ge=1, description="uploads that a user may have begun in pieces")
    upload_streams_per_user: int = Field(32, ge=1, description="uploads that a user may be sending at once")
    upload_streams: int = Field(
        128, ge=2, description="uploads that all may be sending at once to a process; each takes 8 MiB on disk"
    )
    upload_bytes_per_second: float = Field(
        2000.0, ge=0, description="least rate of an upload; one that is slower is ended, 0: none is"
    )
    upload_rate_seconds: float = Field(30.0, gt=0, description="time over which that rate is measured")
    conversion_bytes: int = Field(
        10 * 1024**3,
        ge=0,
        description="copies of originals and stems in other formats that are kept; beyond, the oldest go",
    )
    draft_hours: float = Field(24.0, ge=0, description="objects without a track are removed when they are so old")
    stem_days: float = Field(
        30.0, ge=0, description="likewise stems; well above SEPARATION__KEEP_DAYS, so that equal work is not done again"
    )
    unneeded_days: float = Field(
        7.0,
        ge=0,
        description="originals, pictures, peaks and stems that no track needs (any more) stay so long after a sweep "
        "first found them so, whatever their age",
    )
    trash_days: float = Field(
        30.0,
        ge=0,
        description="of these, what cannot be made again then stays so long below trash/ in the object store; 0: there "
        "is no trash",
    )
    missing_days: float = Field(
        30.0, ge=0, description="tracks and stems whose file is missing in the object store keep their record so long"
    )
    adopt_store: bool = Field(
        False,
        description="at the start, take the object store for this library's whatever its marker says; for one start, "
        "after a database or a store was replaced on purpose",
    )
    scrub_bytes_per_second: int = Field(
        1_000_000, ge=0, description="rate at which originals are read to compare them with their digests; 0: never"
    )
    scrub_days: float = Field(30.0, gt=0, description="time after which an original is compared again")
    keep_days: float = Field(30.0, description="finished jobs are kept so long")
    grace_days: float = Field(
        7.0, ge=0, le=3650, description="a deleted track can be restored for so long; 0: not at all"
    )
    quota_bytes: int = Field(
        0, ge=0, description="originals, pictures, stems and peaks that a user's tracks may take; 0: no limit"
    )
    lookup_children: int = Field(6, ge=1, description="searches and links that are looked up at the same time")
    lookup_children_per_user: int = Field(2, ge=1, description="of one user, likewise")
    file_children: int = Field(
        0, ge=0, description="files that are checked and converted at the same time; 0: one per core, 4 to 8"
    )
    file_children_per_user: int = Field(2, ge=1, description="of one user, likewise")
    jobs_per_user: int = Field(1000, ge=1, description="unfinished jobs that a user may have")


class DownloadSettings(Settings):
    """Settings of the download process."""

    download: DownloadSection = DownloadSection()

    @property
    def database_url(self) -> str:
        """URL of the library's database, where the pipelines' queue is too."""
        return self.download.database_url.get_secret_value() or self.sqlite_url("download")

    @property
    def limits(self) -> Limits:
        """What a song may be."""
        return Limits(max_seconds=self.limit.max_seconds, max_bytes=self.limit.max_bytes)
