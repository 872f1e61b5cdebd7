import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from services.common.config import (
    ListenAddress,
    Section,
    Settings,
    describe,
    load,
    secret_file,
    split_address,
    write_private,
)


class ToolSection(Section):
    size: int = Field(3, ge=1, description="how big")
    key: SecretStr = Field(SecretStr(""), description="opens it")


class ToolSettings(Settings):
    tool: ToolSection = ToolSection()


@pytest.fixture(autouse=True)
def empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STEMTUBE_")]:
        monkeypatch.delenv(name)


def test_without_any_setting_all_is_in_the_data_directory(tmp_path: Path) -> None:
    settings = load(ToolSettings)
    assert settings.weights_dir == Path("data/models")
    assert settings.storage_url == (tmp_path / "data" / "objects").as_uri()
    assert settings.sqlite_url("tool") == f"sqlite:///{tmp_path}/data/databases/tool.sqlite"
    assert (tmp_path / "data" / "databases").is_dir()


def test_the_environment_comes_before_secret_files_and_these_before_the_toml_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stemtube.toml").write_text(
        "data_dir = 'from-toml'\noffline = true\n[tool]\nsize = 5\nkey = 'from-toml'\n[other]\nunknown = 1\n"
    )
    monkeypatch.setenv("STEMTUBE_SECRETS_DIR", str(tmp_path / "secrets"))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "STEMTUBE_TOOL__KEY").write_text("from-file\n")
    (tmp_path / "secrets" / "STEMTUBE_SERVICE_SECRET").write_text("shared\n")
    monkeypatch.setenv("STEMTUBE_DATA_DIR", "from-environment")
    settings = load(ToolSettings)
    assert settings.data_dir == Path("from-environment")
    assert settings.offline
    assert settings.tool.size == 5
    assert settings.tool.key.get_secret_value() == "from-file"
    assert settings.shared_service_secret() == "shared"


def test_a_mounted_kubernetes_secret_is_a_secrets_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kubernetes mounts links to a dated folder, so that all files of a secret change at once.
    dated = tmp_path / "secrets" / "..2026_11_23_08_00_00.1"
    dated.mkdir(parents=True)
    (dated / "STEMTUBE_TOOL__KEY").write_text("mounted")
    (tmp_path / "secrets" / "..data").symlink_to(dated.name)
    (tmp_path / "secrets" / "STEMTUBE_TOOL__KEY").symlink_to("..data/STEMTUBE_TOOL__KEY")
    monkeypatch.setenv("STEMTUBE_SECRETS_DIR", str(tmp_path / "secrets"))
    assert load(ToolSettings).tool.key.get_secret_value() == "mounted"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("STEMTUBE_TOOL__SIZE", "0", "STEMTUBE_TOOL__SIZE: "),
        ("STEMTUBE_TOOL__SIZE", "big", "STEMTUBE_TOOL__SIZE: "),
        ("STEMTUBE_TOOL__SIEZ", "1", "STEMTUBE_TOOL__SIEZ: "),
        ("STEMTUBE_LOG__LEVEL", "loud", "STEMTUBE_LOG__LEVEL: "),
        ("STEMTUBE_TOOL", "{", '"tool"'),
        ("STEMTUBE_CONFIG", "absent.toml", "STEMTUBE_CONFIG: no file absent.toml"),
        ("STEMTUBE_CONFIG", "wrong.toml", "Expected '='"),
        ("STEMTUBE_SECRETS_DIR", "absent", "absent"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    (tmp_path / "wrong.toml").write_text("offline yes")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as end:
        load(ToolSettings)
    line = str(end.value.code)
    assert line.startswith("stemtube: wrong setting")
    assert told in line
    assert "\n" not in line


def test_a_wrong_setting_does_not_repeat_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMTUBE_TOOL__SIZE", "hunter2")
    with pytest.raises(SystemExit) as end:
        load(ToolSettings)
    assert "hunter2" not in str(end.value.code)


def test_settings_cannot_be_changed() -> None:
    settings = load(ToolSettings)
    with pytest.raises(ValidationError):
        settings.offline = True  # type: ignore[misc]


def test_help_lists_every_setting_with_its_default_and_meaning() -> None:
    lines = "\n".join(describe(ToolSettings))
    assert "STEMTUBE_DATA_DIR=data\n" in lines
    assert "STEMTUBE_MODELS_DIR=\n" in lines
    assert "STEMTUBE_TOOL__SIZE=3\n      how big" in lines
    assert "STEMTUBE_TOOL__KEY=\n      opens it" in lines
    assert "None" not in lines
    assert "Undefined" not in lines


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:50051", ("127.0.0.1", 50051)), ("[::1]:0", ("::1", 0)), ("separation:80", ("separation", 80))],
)
def test_an_address_has_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert TypeAdapter(ListenAddress).validate_python(address) == address


@pytest.mark.parametrize("address", ["", "50051", ":50051", "host:", "host:http", "host:65536", "a@b:1", "host:1/x"])
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ListenAddress).validate_python(address)


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secrets" / "service-secret"
    with ThreadPoolExecutor(8) as threads:
        secrets = set(threads.map(lambda _: secret_file(path), range(8)))
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 40
    assert [file.name for file in path.parent.iterdir()] == ["service-secret"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not Path("/proc/sys/kernel/ostype").exists(), reason="needs a folder where root cannot write")
def test_a_secret_is_read_where_nothing_can_be_written() -> None:
    assert secret_file(Path("/proc/sys/kernel/ostype")) == "Linux"


def test_a_private_file_replaces_one_that_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "admin-password"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as opened_by_another:
        write_private(path, "new")
        assert opened_by_another.read() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
