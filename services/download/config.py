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
        1000, ge=1, description="tracks processed at a time; most of them wait for other services, at little cost"
    )
    pipelines_per_user: int = Field(
        16, ge=1, description="tracks of one user processed at a time, and as many more of batch priority"
    )
    fetches: int = Field(12, ge=1, description="links fetched at a time, each by two processes of at most 1 GiB")
    fetches_per_user: int = Field(
        2, ge=1, description="links of one user fetched at a time; only one while half of `fetches` or more are in use"
    )
    fetch_seconds: float = Field(1800.0, gt=0, description="longest time for fetching a link")
    fetch_stall_seconds: float = Field(
        60.0, gt=0, description="a fetch that receives less than 64 KiB in this time ends, and is tried again later"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="hosts that links may lead to although they are not public, JSON list"
    )
    cookies_file: Path | None = Field(
        None,
        description="the operator's cookies in Netscape's format, for sites that require a signed-in user; the next "
        "three settings say when they are used",
    )
    cookies_hosts: tuple[str, ...] = Field(
        (), description='hosts that get these cookies, with their subdomains, JSON list such as ["youtube.com"]'
    )
    cookies_fetches: CookieUsers = Field(
        "nobody",
        description="nobody, admins or everybody: users whose links to these hosts are fetched with the cookies; such "
        "a track is the user's own, not shared with others who add the link",
    )
    cookies_lookups: CookieUsers = Field(
        "nobody",
        description="nobody, admins or everybody: users whose searches and look-ups use the cookies; the answers show "
        "what the operator's account sees",
    )
    proxy: SecretStr = Field(
        SecretStr(""),
        description="http(s):// or socks5:// proxy for fetching; the proxy then decides which addresses are reachable",
    )
    lyrics_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="site with LRCLIB's API, such as https://lrclib.net, which looks up lyrics by title and artist; "
        "empty: no look-ups",
    )
    lookup_seconds: float = Field(60.0, gt=0, description="longest time for a search or the details of a link")
    lookup_days: float = Field(30.0, ge=0, description="how long answers to searches and details of links are kept")
    grace_seconds: float = Field(3.0, description="time for running RPCs to finish when the process is asked to end")
    maintenance_seconds: float = Field(3600.0, gt=0, description="time between two rounds of maintenance")
    upload_hours: float = Field(24.0, gt=0, description="how long an interrupted upload can be resumed")
    unfinished_uploads_per_user: int = Field(1000, ge=1, description="unfinished uploads that a user may have")
    upload_streams_per_user: int = Field(32, ge=1, description="uploads that a user may send at a time")
    upload_streams: int = Field(
        128, ge=2, description="uploads that all users may send to a process at a time; each takes 8 MiB on disk"
    )
    upload_bytes_per_second: float = Field(
        2000.0, ge=0, description="lowest rate of an upload; a slower one is ended; 0: no limit"
    )
    upload_rate_seconds: float = Field(30.0, gt=0, description="time over which that rate is measured")
    conversion_bytes: int = Field(
        10 * 1024**3,
        ge=0,
        description="size of the cache of originals and stems in other formats; beyond it the oldest are removed",
    )
    draft_hours: float = Field(24.0, ge=0, description="age at which objects without a track are removed")
    stem_days: float = Field(
        30.0,
        ge=0,
        description="age at which stems without a track are removed; well above SEPARATION__KEEP_DAYS, so that equal "
        "work is not done again",
    )
    unneeded_days: float = Field(
        7.0,
        ge=0,
        description="how long originals, pictures, peaks and stems stay after a sweep first found that no track needs "
        "them, whatever their age",
    )
    trash_days: float = Field(
        30.0,
        ge=0,
        description="how long such objects that cannot be made again then stay below trash/ in the object store; 0: no "
        "trash",
    )
    missing_days: float = Field(
        30.0, ge=0, description="how long tracks and stems whose file is missing in the object store keep their record"
    )
    adopt_store: bool = Field(
        False,
        description="makes the object store this library's at start, whatever its marker says; for one start, after a "
        "database or a store was replaced on purpose",
    )
    scrub_bytes_per_second: int = Field(
        1_000_000, ge=0, description="rate at which originals are read to compare them with their digests; 0: never"
    )
    scrub_days: float = Field(30.0, gt=0, description="time after which an original is compared again")
    keep_days: float = Field(30.0, description="how long finished jobs are kept")
    grace_days: float = Field(7.0, ge=0, le=3650, description="how long a deleted track can be restored; 0: not at all")
    quota_bytes: int = Field(
        0, ge=0, description="storage for the originals, pictures, stems and peaks of a user's tracks; 0: no limit"
    )
    lookup_children: int = Field(6, ge=1, description="searches and look-ups of links at a time")
    lookup_children_per_user: int = Field(2, ge=1, description="searches and look-ups of one user at a time")
    file_children: int = Field(
        0, ge=0, description="files checked and converted at a time; 0: one per core, but 4 to 8"
    )
    file_children_per_user: int = Field(2, ge=1, description="files of one user checked and converted at a time")
    jobs_per_user: int = Field(1000, ge=1, description="unfinished jobs that a user may have")


class DownloadSettings(Settings):
    """Settings of the download process."""

    download: DownloadSection = DownloadSection()

    @property
    def database_url(self) -> str:
        """URL of the library's database, which also has the job queue."""
        return self.download.database_url.get_secret_value() or self.sqlite_url("download")

    @property
    def limits(self) -> Limits:
        """The longest duration and the largest size of a song."""
        return Limits(max_seconds=self.limit.max_seconds, max_bytes=self.limit.max_bytes)
