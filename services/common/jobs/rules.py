"""How the jobs of a queue are done, for the parts of a worker."""

from dataclasses import dataclass

from services.common.jobs.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRules:
    """The rules of a queue and of this process.

    Attributes:
        service: name of the service.
        slots: how many jobs this process may run at the same time.
        per_user: how many jobs of one user may run at the same time, in all processes together; 0: any number.
        lease_seconds: a worker that is silent for this long loses its jobs.
        retry: when jobs are tried again.
    """

    service: str
    slots: int
    per_user: int
    lease_seconds: float
    retry: RetryPolicy
