"""Mutual TLS between the processes: each has a certificate of the suite's own authority and asks the other for one.

A folder holds `ca.crt`, `tls.crt` and `tls.key`, as cert-manager's secrets do; `stemtube admin make-certs` makes such
folders for a development authority.
"""

from pathlib import Path
from typing import Any

import grpc

from services.common.errors import PreconditionError

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    """Credentials of a server that accepts only clients with a certificate.

    Raises:
        PreconditionError: a file cannot be read (reason NO_CERTIFICATE).
    """
    authority, certificate, key = _read(folder)
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def channel_credentials(folder: Path) -> grpc.ChannelCredentials:
    """Credentials of a client of such servers; their certificates must name the host that the client connects to.

    Raises:
        PreconditionError: a file cannot be read (reason NO_CERTIFICATE).
    """
    authority, certificate, key = _read(folder)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def peer_name(context: Any) -> str | None:
    """Common name in the certificate of an RPC's caller; None without certificates.

    Args:
        context: of the RPC.
    """
    names = context.auth_context().get("x509_common_name")
    return bytes(names[0]).decode(errors="replace") if names else None


def _read(folder: Path) -> tuple[bytes, bytes, bytes]:
    try:
        return (folder / AUTHORITY).read_bytes(), (folder / CERTIFICATE).read_bytes(), (folder / KEY).read_bytes()
    except OSError as error:
        raise PreconditionError(
            f"{error.filename} cannot be read; STEMTUBE_NETWORK__TLS_DIR needs {AUTHORITY}, {CERTIFICATE} and {KEY}.",
            "NO_CERTIFICATE",
        ) from error
