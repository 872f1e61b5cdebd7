"""A container's memory limit covers the limits of all its child processes together."""

import re

import pytest

from gateway.config import GatewaySection
from services.common.config import DecoderSettings
from services.download.config import DownloadSection
from services.download.fetching.sites import MEMORY_BYTES
from tests.deploy.manifests import OVERLAYS, main_container, rendered

MIB, GIB = 2**20, 2**30
# docs/operations.md has the measurements; children that decode do so in another process, whose limit is a setting.
FILE_CHILD, EXPORT_CHILD = 256 * MIB, 128 * MIB
DOWNLOAD_ITSELF, GATEWAY_ITSELF = GIB, GIB
# yt-dlp, and the JavaScript runtime that it may start.
SITE_CHILD = 2 * MEMORY_BYTES


def limit_of(overlay: str, name: str) -> int:
    told = main_container(rendered(f"overlays/{overlay}").deployments[name])["resources"]["limits"]["memory"]
    number, unit = re.fullmatch(r"(\d+)([MG]i)", told).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": MIB, "Gi": GIB}[unit]


def setting(overlay: str, name: str, variable: str, default: int) -> int:
    manifests = rendered(f"overlays/{overlay}")
    return int(manifests.environment(manifests.deployments[name]).get(f"STEMTUBE_{variable}", default))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_fetches_look_ups_and_checks_of_files_fit_into_the_librarys_memory(overlay: str) -> None:
    def setting_or(variable: str, default: int) -> int:
        return setting(overlay, "download", variable, default)

    section = DownloadSection()
    of_sites = setting_or("DOWNLOAD__FETCHES", section.fetches) + setting_or(
        "DOWNLOAD__LOOKUP_CHILDREN", section.lookup_children
    )
    files = setting_or("DOWNLOAD__FILE_CHILDREN", section.file_children)
    assert files, "as many as there are cores is no number"
    decoder = setting_or("DECODER__MEMORY_MIB", DecoderSettings().memory_mib) * MIB
    most = of_sites * SITE_CHILD + files * (FILE_CHILD + decoder) + DOWNLOAD_ITSELF
    assert most <= limit_of(overlay, "download")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_exports_fit_into_the_gateways_memory(overlay: str) -> None:
    children = setting(overlay, "gateway", "GATEWAY__EXPORT_CHILDREN", GatewaySection().export_children)
    decoder = setting(overlay, "gateway", "DECODER__MEMORY_MIB", DecoderSettings().memory_mib) * MIB
    assert children * (EXPORT_CHILD + decoder) + GATEWAY_ITSELF <= limit_of(overlay, "gateway")
