"""Signing in and out: takes passwords and refresh tokens, and returns an access token and two HttpOnly cookies."""

import contextlib
import json
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from google.protobuf import json_format

from gateway.errors import error_response, from_rpc
from gateway.keys import ACCOUNTS, CHANNELS, SESSIONS, SETTINGS
from gateway.session.credentials import (
    ACCESS_COOKIE,
    REFRESH_COOKIE,
    call_metadata,
    forget_cookies,
    keep_cookie,
    trace_metadata,
)
from gateway.transcoding.messages import fill, read_json
from services.common.errors import Code, StemTubeError, UnauthenticatedError
from stemtube.auth.v1 import account_pb2, account_pb2_grpc, session_pb2, session_pb2_grpc, user_pb2

USER = user_pb2.User.DESCRIPTOR


async def login(request: web.Request) -> web.Response:
    """POST /api/v1/auth/login: {username, password} → {accessToken, expiresIn, user}, and both cookies.

    The new session replaces the one in the browser's cookie, which ends.

    Raises:
        InvalidInputError: the body is malformed (reason BAD_REQUEST).
        grpc.aio.AioRpcError: auth refuses it: UNAUTHENTICATED, reason BAD_CREDENTIALS.
    """
    message = fill(session_pb2.LoginRequest(), await read_json(request))
    answer = await _sessions(request).Login(
        message, timeout=request.app[SETTINGS].call_seconds, metadata=trace_metadata(request)
    )
    await _end_replaced(request)
    return _signed_in(request, answer.session)


async def register(request: web.Request) -> web.Response:
    """POST /api/v1/auth/register: {username, password, email, invitation} → as `login`.

    Raises:
        InvalidInputError: the body is malformed (reason BAD_REQUEST).
        grpc.aio.AioRpcError: auth refuses it.
    """
    message = fill(account_pb2.RegisterRequest(), await read_json(request))
    seconds = request.app[SETTINGS].call_seconds
    answer = await _accounts(request).Register(message, timeout=seconds, metadata=trace_metadata(request))
    await _end_replaced(request)
    return _signed_in(request, answer.session)


async def change_password(request: web.Request) -> web.Response:
    """POST /api/v1/auth/password: {oldPassword, newPassword, endApiTokens} → as `login`; all earlier sessions end.

    Raises:
        InvalidInputError: the body is malformed (reason BAD_REQUEST).
        grpc.aio.AioRpcError: auth refuses it.
    """
    message = fill(account_pb2.ChangePasswordRequest(), await read_json(request))
    seconds = request.app[SETTINGS].call_seconds
    answer = await _accounts(request).ChangePassword(message, timeout=seconds, metadata=call_metadata(request))
    return _signed_in(request, answer.session)


async def refresh(request: web.Request) -> web.Response:
    """POST /api/v1/auth/refresh: new tokens for the refresh token in the cookie; deletes an invalid cookie."""
    try:
        token = request.cookies.get(REFRESH_COOKIE)
        if not token:
            raise UnauthenticatedError("Nobody is signed in here.", "BAD_REFRESH_TOKEN")
        message = session_pb2.RefreshRequest(refresh_token=token)
        answer = await _sessions(request).Refresh(
            message, timeout=request.app[SETTINGS].call_seconds, metadata=trace_metadata(request)
        )
    except (StemTubeError, grpc.aio.AioRpcError) as caught:
        error = from_rpc(caught) if isinstance(caught, grpc.aio.AioRpcError) else caught
        response = error_response(error)
        if error.code is Code.UNAUTHENTICATED:
            forget_cookies(request, response)
        return response
    return _signed_in(request, answer.session)


async def logout(request: web.Request) -> web.Response:
    """POST /api/v1/auth/logout: ends the session of the refresh token in the cookie; always deletes the cookies."""
    response = web.json_response({})
    if token := request.cookies.get(REFRESH_COOKIE):
        try:
            await _end_session_of(request, token)
        except grpc.aio.AioRpcError as caught:
            response = error_response(from_rpc(caught))
    forget_cookies(request, response)
    return response


async def _end_replaced(request: web.Request) -> None:
    """Ends the browser's previous session; this may fail, because nobody has its tokens any more."""
    if token := request.cookies.get(REFRESH_COOKIE):
        with contextlib.suppress(grpc.aio.AioRpcError):
            await _end_session_of(request, token)


async def _end_session_of(request: web.Request, refresh_token: str) -> None:
    await _sessions(request).Logout(
        session_pb2.LogoutRequest(refresh_token=refresh_token),
        timeout=request.app[SETTINGS].call_seconds,
        metadata=trace_metadata(request),
    )


def _sessions(request: web.Request) -> Any:
    return session_pb2_grpc.SessionServiceStub(request.app[CHANNELS][SESSIONS])


def _accounts(request: web.Request) -> Any:
    return account_pb2_grpc.AccountServiceStub(request.app[CHANNELS][ACCOUNTS])


def _signed_in(request: web.Request, session: session_pb2.Session) -> web.Response:
    seconds = session.expires_in.ToTimedelta().total_seconds()
    user = json_format.MessageToDict(session.user, always_print_fields_with_no_presence=True)
    content = {"accessToken": session.access_token, "expiresIn": seconds, "user": user}
    response = web.Response(text=json.dumps(content, ensure_ascii=False), content_type="application/json")
    keep_cookie(request, response, ACCESS_COOKIE, session.access_token, seconds)
    refresh_seconds = session.refresh_expires_in.ToTimedelta().total_seconds()
    keep_cookie(request, response, REFRESH_COOKIE, session.refresh_token, refresh_seconds)
    return response


routes = [
    web.post("/api/v1/auth/login", login),
    web.post("/api/v1/auth/register", register),
    web.post("/api/v1/auth/password", change_password),
    web.post("/api/v1/auth/refresh", refresh),
    web.post("/api/v1/auth/logout", logout),
]

_SIGNED_IN = {
    "description": "Signed in. Two HttpOnly, SameSite=Strict cookies hold the access token and the refresh token.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SignedIn"}}},
}
_NOT_SIGNED_IN = {"$ref": "#/components/responses/Error"}


def _body(schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"required": True, "content": content}


OPENAPI: dict[str, Any] = {
    "/api/v1/auth/login": {
        "post": {
            "operationId": "Login",
            "tags": ["AuthService"],
            "summary": "Signs a user in.",
            "security": [],
            "requestBody": _body("Credentials"),
            "responses": {"200": _SIGNED_IN, "401": _NOT_SIGNED_IN, "default": _NOT_SIGNED_IN},
        }
    },
    "/api/v1/auth/register": {
        "post": {
            "operationId": "Register",
            "tags": ["AuthService"],
            "summary": "Creates an account, if the settings allow that, and signs in.",
            "security": [],
            "requestBody": _body("Registration"),
            "responses": {"200": _SIGNED_IN, "403": _NOT_SIGNED_IN, "409": _NOT_SIGNED_IN, "default": _NOT_SIGNED_IN},
        }
    },
    "/api/v1/auth/password": {
        "post": {
            "operationId": "ChangePassword",
            "tags": ["AuthService"],
            "summary": "Changes the password, ends all sessions and API tokens, and signs in again.",
            "requestBody": _body("NewPassword"),
            "responses": {"200": _SIGNED_IN, "401": _NOT_SIGNED_IN, "default": _NOT_SIGNED_IN},
        }
    },
    "/api/v1/auth/refresh": {
        "post": {
            "operationId": "Refresh",
            "tags": ["AuthService"],
            "summary": "Exchanges the refresh token in the cookie for new tokens.",
            "security": [{"refreshCookie": []}],
            "responses": {"200": _SIGNED_IN, "401": _NOT_SIGNED_IN, "default": _NOT_SIGNED_IN},
        }
    },
    "/api/v1/auth/logout": {
        "post": {
            "operationId": "Logout",
            "tags": ["AuthService"],
            "summary": "Ends the session of the refresh token in the cookie, and deletes both cookies.",
            "security": [],
            "responses": {
                "200": {
                    "description": "Signed out.",
                    "content": {"application/json": {"schema": {"type": "object", "maxProperties": 0}}},
                },
                "default": _NOT_SIGNED_IN,
            },
        }
    },
}
OPENAPI_SCHEMAS: dict[str, Any] = {
    "Credentials": {
        "type": "object",
        "properties": {"username": {"type": "string"}, "password": {"type": "string", "format": "password"}},
        "required": ["username", "password"],
        "additionalProperties": False,
    },
    "Registration": {
        "type": "object",
        "properties": {
            "username": {"type": "string", "minLength": 1, "maxLength": 64},
            "password": {"type": "string", "format": "password", "minLength": 8, "maxLength": 1024},
            "email": {"type": "string", "description": "Can be left out."},
            "invitation": {"type": "string", "description": "Where one is needed (/api/v1/auth/registration)."},
        },
        "required": ["username", "password"],
        "additionalProperties": False,
    },
    "NewPassword": {
        "type": "object",
        "properties": {
            "oldPassword": {"type": "string", "format": "password"},
            "newPassword": {"type": "string", "format": "password", "minLength": 8, "maxLength": 1024},
            "endApiTokens": {"type": "boolean", "default": True, "description": "With false, API tokens stay valid."},
        },
        "required": ["oldPassword", "newPassword"],
        "additionalProperties": False,
    },
    "SignedIn": {
        "type": "object",
        "properties": {
            "accessToken": {"type": "string", "description": "For Authorization: Bearer; browsers need not keep it."},
            "expiresIn": {"type": "number", "description": "Seconds until the access token expires."},
            "user": {"$ref": "#/components/schemas/stemtube.auth.v1.User"},
        },
        "required": ["accessToken", "expiresIn", "user"],
    },
}
