"""The addresses of the suite's processes, and the settings that they get."""

import os
from pathlib import Path

import pytest

from cli.local.suite import SuiteSettings, log_file
from services.common.config import load


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("STEMTUBE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def variables(settings: SuiteSettings, name: str = "gateway") -> dict[str, str]:
    return dict(next(part for part in settings.parts({}) if part.name == name).environment)


def test_defaults_are_those_of_the_design() -> None:
    parts = {part.name: part for part in load(SuiteSettings).parts({})}
    assert [port for part in parts.values() for _, port in part.addresses] == [
        *(50051, 9091, 50052, 9092, 50053, 9093, 50054, 9094),
        *(8080, 9090),
    ]
    assert parts["gateway"].ready_url == "http://127.0.0.1:9090/readyz"
    assert parts["auth"].ready_url == "http://127.0.0.1:9091/readyz"
    order = sorted(parts.values(), key=lambda part: part.stop_order)
    assert [part.name for part in order] == ["gateway", "download", "separation", "analysis", "auth"]


def test_processes_find_each_other_where_they_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_AUTH__LISTEN", "0.0.0.0:6001")
    monkeypatch.setenv("STEMTUBE_GATEWAY__LISTEN", "[::]:6000")
    settings = load(SuiteSettings)
    assert settings.url == "http://[::1]:6000"
    told = variables(settings)
    assert told["STEMTUBE_AUTH__LISTEN"] == "0.0.0.0:6001"
    assert told["STEMTUBE_ADDRESS__AUTH"] == "127.0.0.1:6001"
    assert told["STEMTUBE_AUTH__HEALTH_LISTEN"] == "127.0.0.1:9091"


def test_the_gateways_own_health_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_GATEWAY__HEALTH_LISTEN", "0.0.0.0:9100")
    settings = load(SuiteSettings)
    (gateway,) = (part for part in settings.parts({}) if part.name == "gateway")
    assert gateway.ready_url == "http://127.0.0.1:9100/readyz"
    assert settings.health_urls["gateway"] == "http://127.0.0.1:9100"
    moved = settings.at_ports(7000)
    assert moved.health_urls == {"gateway": "http://127.0.0.1:7001"} | {
        name: f"http://127.0.0.1:{port}"
        for name, port in (("auth", 7003), ("download", 7005), ("separation", 7007), ("analysis", 7009))
    }
    assert variables(moved)["STEMTUBE_GATEWAY__HEALTH_LISTEN"] == "0.0.0.0:7001"


def test_jobs_get_little_time_at_the_end_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_ANALYSIS__GRACE_SECONDS", "7")
    told = variables(load(SuiteSettings))
    assert told["STEMTUBE_SEPARATION__GRACE_SECONDS"] == "1.0"
    assert told["STEMTUBE_ANALYSIS__GRACE_SECONDS"] == "7.0"


def test_the_settings_file_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "stemtube.toml").write_text(
        'data_dir = "elsewhere"\n[gateway]\nlisten = "127.0.0.1:7000"\ncall_seconds = 5\n'
    )
    settings = load(SuiteSettings)
    assert settings.url == "http://127.0.0.1:7000"
    assert variables(settings)["STEMTUBE_DATA_DIR"] == str(tmp_path / "elsewhere")


def test_other_ports() -> None:
    settings = load(SuiteSettings).at_ports(7000)
    ports = [port for part in settings.parts({}) for _, port in part.addresses]
    assert sorted(ports) == list(range(7000, 7010))
    assert settings.url == "http://127.0.0.1:7000"


def test_free_ports_are_all_different() -> None:
    ports = [port for part in load(SuiteSettings).at_ports(0).parts({}) for _, port in part.addresses]
    assert len(set(ports)) == 10
    assert min(ports) >= 1024


def test_only_zeros_become_free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_GATEWAY__LISTEN", "127.0.0.1:0")
    settings = load(SuiteSettings).at_ports(None)
    assert not settings.url.endswith((":0", ":8080"))
    assert variables(settings)["STEMTUBE_AUTH__LISTEN"] == "127.0.0.1:50051"


@pytest.mark.parametrize("base", [80, 65530, -1])
def test_invalid_port_bases_are_refused(base: int) -> None:
    with pytest.raises(ValueError, match="port base"):
        load(SuiteSettings).at_ports(base)


def test_only_auth_learns_the_admins_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_ADMIN_PASSWORD", "correct horse battery")
    parts = {part.name: part.environment for part in load(SuiteSettings).parts(os.environ)}
    knowing = [name for name, environment in parts.items() if "correct horse battery" in environment.values()]
    assert knowing == ["auth"]


def test_each_process_has_its_own_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEMTUBE_NETWORK__TLS_DIR", str(tmp_path))
    for part in load(SuiteSettings).parts(os.environ):
        assert part.environment["STEMTUBE_NETWORK__TLS_DIR"] == str(tmp_path / part.name)


def test_log_files_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.local.suite.LOG_BYTES", 10_000)
    write = log_file(tmp_path / "logs" / "suite.log")
    for number in range(2000):
        write("gateway", f"{number} 100 % of {{something}}")
    kept = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in kept] == ["suite.log", "suite.log.1", "suite.log.2", "suite.log.3"]
    assert sum(path.stat().st_size for path in kept) <= 40_000
    assert kept[0].read_text().splitlines()[-1] == "gateway    1999 100 % of {something}"
