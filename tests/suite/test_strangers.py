"""Every RPC and every HTTP route without a token."""

import pytest

from services.common.errors import Code
from services.common.rpc.client import open_channel
from tests.suite.client import Client
from tests.suite.every_call import arguments, fill, reflected, refusal
from tests.suite.running import SERVICES, Suite

PUBLIC = {
    f"/stemtube.auth.v1.{name}"
    for name in (
        "SessionService/Login",
        "SessionService/Refresh",
        "SessionService/Logout",
        "AccountService/Register",
        "AccountService/GetRegistration",
        "ApiTokenService/ExchangeApiToken",
        "AccessTokenService/IssueServiceToken",
        "AccessTokenService/ListSigningKeys",
    )
}


@pytest.mark.parametrize("service", SERVICES)
async def test_every_rpc_but_the_public_ones_refuses_a_stranger(suite: Suite, service: str) -> None:
    async with open_channel(f"127.0.0.1:{suite.ports[service]}") as channel:
        methods = await reflected(channel)
        assert len(methods) >= 5
        answered = set()
        for method in methods:
            path = f"/{method.containing_service.full_name}/{method.name}"
            if path in PUBLIC:
                answered.add(path)
                continue
            for token in ("", "nonsense"):
                code, _ = await refusal(channel, method, b"", token)
                assert code is Code.UNAUTHENTICATED, path
        assert answered == {path for path in PUBLIC if service == "auth"}


async def test_every_route_but_the_public_ones_refuses_a_stranger(suite: Suite) -> None:
    async with Client(suite.url) as stranger:
        document = await stranger.get("/openapi.json")
        operations = [
            (verb.upper(), path, operation)
            for path, verbs in document["paths"].items()
            for verb, operation in verbs.items()
        ]
        # The server's capabilities, which tus asks for by OPTIONS, are public.
        operations = [one for one in operations if one[0] != "OPTIONS"]
        public = {path for _, path, operation in operations if operation.get("security") == []}
        names = ("auth/login", "auth/logout", "auth/register", "auth/registration", "page/errors")
        assert public == {f"/api/v1/{name}" for name in names}
        for verb, path, operation in operations:
            if path in public or not path.startswith("/api/v1/"):
                continue
            below = fill(path.removeprefix("/api/v1"), {})
            if "101" in operation["responses"]:
                status, _, _ = await stranger.bytes(below, Accept="text/event-stream")
            else:
                status, _ = await stranger.call(verb, below, **arguments(verb, path, operation))
            assert status == 401, f"{verb} {path}"
