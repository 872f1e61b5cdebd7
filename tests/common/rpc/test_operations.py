"""What admins see of a process, over gRPC."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.common.config import LogSettings
from services.common.errors import InvalidInputError
from services.common.observe.telemetry import configure_logging
from services.common.rpc.auth import TokenVerifier, bearer
from services.common.rpc.client import domain_error, open_channel
from services.common.rpc.draining import Draining
from services.common.rpc.operations_service import Models, with_operations
from services.common.rpc.server import Service, start
from services.common.weights.store import Weights, WeightStore
from stemtube.operations.v1 import operations_pb2 as pb
from stemtube.operations.v1 import operations_pb2_grpc
from tests.common.weights.test_store import CONTENT, Hub, hub

__all__ = ["hub"]
KEY = Ed25519PrivateKey.generate()


def token(admin: bool) -> tuple[tuple[str, str], ...]:
    now = int(time.time())
    claims = {"iss": "stemtube-auth", "aud": "stemtube", "sub": "anna", "kind": "user", "iat": now, "exp": now + 3600}
    return bearer(jwt.encode(claims | {"admin": admin}, KEY, algorithm="EdDSA", headers={"kid": "k1"}))


ADMIN = token(admin=True)


@pytest.fixture
async def stub(hub: Hub, tmp_path: Path) -> AsyncIterator[Any]:
    def find(name: str) -> Weights:
        if name != "tiny":
            raise InvalidInputError("there is no such model", "UNKNOWN_MODEL")
        return hub.weights("file")

    async def keys() -> dict[str, Any]:
        return {"k1": KEY.public_key()}

    models = Models(WeightStore(tmp_path / "models"), find)
    service = with_operations(Service("stemtube.test.v1.Nothing", lambda _server: None), models=models)
    server = await start(
        service,
        listen="127.0.0.1:0",
        health_listen="127.0.0.1:0",
        verifier=TokenVerifier(keys),
        draining=Draining(),
    )
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        yield operations_pb2_grpc.OperationsServiceStub(channel)
    await server.stop(0)


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return domain_error(caught.value).reason


async def test_only_admins_see_anything(stub: Any) -> None:
    metadata = token(admin=False)
    assert await refusal(stub.ListLogRecords(pb.ListLogRecordsRequest(), metadata=metadata)) == "ADMIN_REQUIRED"
    assert await refusal(stub.GetWork(pb.GetWorkRequest(), metadata=metadata)) == "ADMIN_REQUIRED"
    assert await refusal(stub.PullModel(pb.PullModelRequest(), metadata=metadata).read()) == "ADMIN_REQUIRED"


async def test_the_last_log_records_are_told_and_no_secret_is(stub: Any) -> None:
    configure_logging(LogSettings(level="debug"), "test")
    log = structlog.get_logger("test")
    log.info("something begins", track_id="t1", password="hunter2")
    try:
        raise KeyError("hidden detail")
    except KeyError:
        log.exception("something broke", track_id="t2")

    async def found(**wanted: str) -> list[pb.LogRecord]:
        answer = await stub.ListLogRecords(pb.ListLogRecordsRequest(**wanted), metadata=ADMIN)
        return list(answer.records)

    broke, begins = (await found(text="SOMETHING"))[:2]
    assert (begins.event, begins.level, begins.fields["track_id"]) == ("something begins", "info", "t1")
    assert begins.fields["password"] == "(hidden)"
    assert (broke.event, broke.level, broke.fields["fault"]) == ("something broke", "error", "KeyError")
    assert "hidden detail" not in str(broke)
    assert (await found(text="t2", level="error"))[0] == broke
    assert await found(text="t1", level="error") == []
    refused = stub.ListLogRecords(pb.ListLogRecordsRequest(level="loud"), metadata=ADMIN)
    assert await refusal(refused) == "BAD_REQUEST"


async def test_a_model_is_fetched_while_somebody_follows(stub: Any, tmp_path: Path) -> None:
    call = stub.PullModel(pb.PullModelRequest(model="tiny"), metadata=ADMIN)
    fractions = [message.fraction async for message in call]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert (tmp_path / "models" / "family" / "tiny.bin").read_bytes() == CONTENT
    refused = stub.PullModel(pb.PullModelRequest(model="huge"), metadata=ADMIN).read()
    assert await refusal(refused) == "UNKNOWN_MODEL"
    assert await refusal(stub.GetWork(pb.GetWorkRequest(), metadata=ADMIN)) == "NO_JOBS"
