"""Mutual TLS between services, with certificates of `stemtube admin make-certs`."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from cli.commands.certs import make_certificates
from services.auth.app import open_auth
from services.common.config import NetworkSettings
from services.common.errors import Code, PreconditionError
from services.common.rpc.client import AuthClient, RemoteError, open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.server import RunningServer, start
from tests.auth.running import auth_settings


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, ("auth", "download"))
    return folder


async def serving(tmp_path: Path, **arguments: Any) -> tuple[Any, RunningServer]:
    context = open_auth(auth_settings(tmp_path))
    service, verifier = await context.__aenter__()
    arguments = {"listen": "127.0.0.1:0", **arguments}
    try:
        server = await start(service, health_listen="127.0.0.1:0", verifier=verifier, draining=Draining(), **arguments)
    except BaseException:
        await context.__aexit__(None, None, None)
        raise
    return context, server


@pytest.fixture
async def auth(tmp_path: Path, certificates: Path) -> AsyncIterator[RunningServer]:
    context, server = await serving(tmp_path, network=NetworkSettings(tls_dir=certificates / "auth"))
    yield server
    await server.stop(0)
    await context.__aexit__(None, None, None)


def secret(tmp_path: Path) -> str:
    return (tmp_path / "secrets" / "service-secret").read_text().strip()


async def test_a_service_is_identified_by_its_certificate(
    auth: RunningServer, certificates: Path, tmp_path: Path
) -> None:
    async with open_channel(f"127.0.0.1:{auth.port}", certificates / "download") as channel:
        assert (await AuthClient(channel, "download", secret(tmp_path)).issue_token())[0]
        with pytest.raises(RemoteError) as refusal:
            await AuthClient(channel, "analysis", secret(tmp_path)).issue_token()
        assert (refusal.value.code, refusal.value.reason) == (Code.UNAUTHENTICATED, "BAD_CREDENTIALS")


async def test_a_caller_without_a_certificate_of_the_authority_is_refused(
    auth: RunningServer, certificates: Path, tmp_path: Path
) -> None:
    make_certificates(tmp_path / "others", ("download",))
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    for name in ("tls.crt", "tls.key"):
        (tmp_path / "mixed" / name).write_bytes((tmp_path / "others" / "download" / name).read_bytes())
    for folder in (None, tmp_path / "others" / "download", tmp_path / "mixed"):
        async with open_channel(f"127.0.0.1:{auth.port}", folder) as channel:
            with pytest.raises(RemoteError) as refusal:
                await AuthClient(channel, "download", secret(tmp_path)).signing_keys()
            assert refusal.value.code is Code.UNAVAILABLE


async def test_a_server_with_another_name_is_refused(auth: RunningServer, certificates: Path, tmp_path: Path) -> None:
    async with open_channel(f"127.0.0.2:{auth.port}", certificates / "download") as channel:
        with pytest.raises(RemoteError) as refusal:
            await AuthClient(channel, "download", secret(tmp_path)).signing_keys()
        assert refusal.value.code is Code.UNAVAILABLE


async def test_plain_text_stays_on_this_machine_unless_told_otherwise(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError) as refusal:
        await serving(tmp_path, listen="0.0.0.0:0")
    assert refusal.value.reason == "NO_TLS"
    assert "STEMTUBE_NETWORK__PLAIN" in refusal.value.message
    context, server = await serving(tmp_path, listen="0.0.0.0:0", network=NetworkSettings(plain=True))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert await AuthClient(channel, "download", secret(tmp_path)).signing_keys()
    await server.stop(0)
    await context.__aexit__(None, None, None)


async def test_a_missing_certificate_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError) as refusal:
        open_channel("127.0.0.1:1", tmp_path)
    assert refusal.value.reason == "NO_CERTIFICATE"
    assert f"{tmp_path / 'ca.crt'} cannot be read" in refusal.value.message


def test_keys_are_for_their_owner_and_an_authority_is_made_once(tmp_path: Path) -> None:
    make_certificates(tmp_path, ("auth",))
    for key in (tmp_path / "ca.key", tmp_path / "auth" / "tls.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    authority, first = (tmp_path / "ca.crt").read_bytes(), (tmp_path / "auth" / "tls.crt").read_bytes()
    assert make_certificates(tmp_path, ("auth",), ["stems.example.org", "10.0.0.7"]) == [tmp_path / "auth"]
    assert (tmp_path / "ca.crt").read_bytes() == authority
    assert (tmp_path / "auth" / "tls.crt").read_bytes() != first
