"""The last log records of this process, in memory, for admins to read remotely."""

import sys
from collections import deque
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LEVELS = ("debug", "info", "warning", "error", "critical")
# About a megabyte at most, with the bound on a value's length.
KEPT = 1000
MAX_VALUE = 500
NOT_FIELDS = frozenset({"timestamp", "level", "event", "exc_info", "stack_info", "service"})


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as it was logged, with secrets hidden.

    Args:
        time: of the record.
        level: one of `LEVELS`.
        event: the event.
        fields: further facts, as texts; an exception only by its class.
    """

    time: datetime
    level: str
    event: str
    fields: dict[str, str]

    def contains(self, text: str) -> bool:
        """Whether a text, given in lower case, occurs anywhere in the record."""
        return text in f"{self.event} {' '.join(f'{name}={value}' for name, value in self.fields.items())}".casefold()


_records: deque[LogRecord] = deque(maxlen=KEPT)


def remember(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that stores each record; it must follow those that hide secrets and add time and level."""
    known = {name: value for name, value in event.items() if name[0] != "_" and name not in NOT_FIELDS}
    fields = {name: str(value)[:MAX_VALUE] for name, value in known.items()}
    if event.get("exc_info") and (kind := sys.exc_info()[0]):
        fields["fault"] = kind.__name__
    time = datetime.fromisoformat(event["timestamp"])
    _records.append(LogRecord(time, event["level"], str(event["event"])[:MAX_VALUE], fields))
    return event


def recent(level: str = "", text: str = "") -> Iterator[LogRecord]:
    """Yields the last records, newest first.

    Args:
        level: lowest level; empty for all.
        text: to search for, in any case.
    """
    wanted = LEVELS[LEVELS.index(level) if level else 0 :]
    for record in reversed(_records.copy()):
        if record.level in wanted and record.contains(text.casefold()):
            yield record
