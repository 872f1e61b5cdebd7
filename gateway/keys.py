"""Typed keys of the objects in the application and in its requests."""

import asyncio
from collections.abc import Mapping

import grpc.aio
from aiohttp import web

from gateway.config import GatewaySection
from services.common.config import LimitSettings
from services.common.rpc.limits import TokenBuckets
from services.common.rpc.peers import TrustedProxies
from services.common.storage.marked_store import MarkedStore
from stemtube.auth.v1 import account_pb2, api_token_pb2, session_pb2
from stemtube.download.v1 import media_pb2, track_pb2, upload_pb2

SETTINGS = web.AppKey("settings", GatewaySection)
LIMIT = web.AppKey("limit", LimitSettings)
# Channels by the full name of their gRPC service. Services of one process share a channel.
CHANNELS = web.AppKey("channels", Mapping[str, grpc.aio.Channel])
STORE = web.AppKey("store", MarkedStore)
# Set when the gateway begins to stop.
STOPPING = web.AppKey("stopping", asyncio.Event)

PROXIES = web.AppKey("proxies", TrustedProxies)
REQUEST_BUCKETS = web.AppKey("request_buckets", TokenBuckets)

REQUEST_ID = web.RequestKey("request_id", str)
# The client's address; empty if unknown.
ADDRESS = web.RequestKey("address", str)
# Sent to services as `authorization`, instead of the request's own.
AUTHORIZATION = web.RequestKey("authorization", str)

SESSIONS = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name
ACCOUNTS = account_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name
API_TOKENS = api_token_pb2.DESCRIPTOR.services_by_name["ApiTokenService"].full_name
TRACKS = track_pb2.DESCRIPTOR.services_by_name["TrackService"].full_name
UPLOADS = upload_pb2.DESCRIPTOR.services_by_name["UploadService"].full_name
MEDIA = media_pb2.DESCRIPTOR.services_by_name["MediaService"].full_name
