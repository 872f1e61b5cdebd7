"""The audit log: who signed in, what admins did, what was deleted. Lines of the log with `audit=True`.

Request, RPC and caller are in each line already; what is secret never is.
"""

import structlog

from services.common.rpc.peers import present_client

log = structlog.get_logger("audit")


def record(action: str, **facts: object) -> None:
    """Writes a line.

    Args:
        action: a verb in the past tense.
        facts: ids of its objects.
    """
    log.info(action, audit=True, address=present_client().address, **facts)
