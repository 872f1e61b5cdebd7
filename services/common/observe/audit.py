"""The audit log: who signed in, what admins did, what was deleted. Lines of the log with `audit=True`.

Every line already has the request, the RPC and the caller. Secrets are never logged.
"""

import structlog

from services.common.rpc.peers import present_client

log = structlog.get_logger("audit")


def record(action: str, **facts: object) -> None:
    """Writes a line to the audit log.

    Args:
        action: a verb in the past tense.
        facts: ids of its objects.
    """
    log.info(action, audit=True, address=present_client().address, **facts)
