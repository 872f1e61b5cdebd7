"""What the application and its requests carry, by typed key."""

import asyncio
from collections.abc import Mapping

import grpc.aio
from aiohttp import web

from gateway.config import GatewaySection
from services.common.config import LimitSettings
from services.common.storage import ObjectStore

SETTINGS = web.AppKey("settings", GatewaySection)
LIMIT = web.AppKey("limit", LimitSettings)
# Channels by the full name of the gRPC service they lead to.
CHANNELS = web.AppKey("channels", Mapping[str, grpc.aio.Channel])
STORE = web.AppKey("store", ObjectStore)
# Set once the gateway begins to stop.
STOPPING = web.AppKey("stopping", asyncio.Event)

REQUEST_ID = web.RequestKey("request_id", str)
