"""Users of another installation (import.proto)."""

from typing import Any

from services.auth.users.importing import UserImporter
from services.common.observe import audit
from services.common.rpc.auth import require_admin
from stemtube.auth.v1 import import_pb2 as pb
from stemtube.auth.v1 import import_pb2_grpc


class UserImportService(import_pb2_grpc.UserImportServiceServicer):
    """The servicer; the contract says what its RPC does and how it can end."""

    def __init__(self, importer: UserImporter) -> None:
        self._importer = importer

    async def ImportUsers(self, request: pb.ImportUsersRequest, _context: Any) -> pb.ImportUsersResponse:
        me = require_admin()
        users = await self._importer.add(request, by=me)
        audit.record("users imported", dry_run=request.dry_run, asked=len(users))
        return pb.ImportUsersResponse(users=users)
