"""What the application and its requests carry, by typed key."""

import asyncio
from collections.abc import Mapping

import grpc.aio
from aiohttp import web

from gateway.config import GatewaySection
from services.common.config import LimitSettings
from services.common.rpc.limits import TokenBuckets
from services.common.rpc.peers import TrustedProxies
from services.common.storage.marked_store import MarkedStore
from stemtube.auth.v1 import auth_pb2

SETTINGS = web.AppKey("settings", GatewaySection)
LIMIT = web.AppKey("limit", LimitSettings)
# Channels by the full name of the gRPC service they lead to.
CHANNELS = web.AppKey("channels", Mapping[str, grpc.aio.Channel])
STORE = web.AppKey("store", MarkedStore)
# Set once the gateway begins to stop.
STOPPING = web.AppKey("stopping", asyncio.Event)

PROXIES = web.AppKey("proxies", TrustedProxies)
REQUEST_BUCKETS = web.AppKey("request_buckets", TokenBuckets)

REQUEST_ID = web.RequestKey("request_id", str)
# Where the client is; empty if that is not known.
ADDRESS = web.RequestKey("address", str)
# What services get as `authorization` in place of the request's own.
AUTHORIZATION = web.RequestKey("authorization", str)

AUTH = auth_pb2.DESCRIPTOR.services_by_name["AuthService"].full_name
