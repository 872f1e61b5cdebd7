"""The `stemtube` command as users type it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.local.suite import free_ports

ROOT = Path(__file__).parents[2]


def stemtube(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STEMTUBE_")}
    path = os.pathsep.join((str(ROOT), str(ROOT / "protos" / "gen")))
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=cwd,
        env={**clean, "PYTHONPATH": path, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command(tmp_path: Path) -> None:
    done = stemtube("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("up", "add", "process", "export", "demo", "models"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["process", "song.mp3"], "who are you?"),
        (["process", "song.mp3", "--password", "x", "--url", "here"], "'here' is not the address of a gateway"),
        (["demo", "no-such-song.mp3"], "there is no file no-such-song.mp3"),
        (["up", "--port-base", "80"], "the port base must be 0 or from 1024"),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = stemtube(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("stemtube: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nobody_answers(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    done = stemtube("models", "list", cwd=tmp_path, STEMTUBE_URL=url, STEMTUBE_PASSWORD="correct horse")
    assert done.returncode == 1
    assert done.stderr == (
        f"stemtube: no StemTube answers at {url}: start it with `stemtube up`, or name another with --url\n"
    )


def test_a_wrong_setting_is_reported_in_one_line(tmp_path: Path) -> None:
    done = stemtube("up", cwd=tmp_path, STEMTUBE_GATEWAY__LISTEN="nowhere")
    assert done.returncode == 1
    assert done.stderr == "stemtube: wrong setting STEMTUBE_GATEWAY__LISTEN: must be host:port\n"


@pytest.mark.long
def test_a_wrong_setting_of_a_service_ends_the_start(tmp_path: Path) -> None:
    done = stemtube("up", "--port-base", "0", "--quiet", cwd=tmp_path, STEMTUBE_AUTH__BCRYPT_COST="many")
    assert done.returncode == 1
    assert (
        "stemtube: auth ended with status 1 while starting: stemtube: wrong setting STEMTUBE_AUTH__BCRYPT_COST"
        in done.stderr
    )


def test_the_admins_password_is_read_for_this_machine_only(tmp_path: Path) -> None:
    (tmp_path / "data" / "secrets").mkdir(parents=True)
    (tmp_path / "data" / "secrets" / "admin-password").write_text("correct horse\n")
    here, elsewhere = f"http://127.0.0.1:{free_ports(1)[0]}", "https://stems.invalid"
    assert "no StemTube answers" in stemtube("models", "list", "--url", here, cwd=tmp_path).stderr
    assert "who are you?" in stemtube("models", "list", "--url", elsewhere, cwd=tmp_path).stderr
