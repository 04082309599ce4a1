"""Structured logs: one JSON object per line, with events and numbers but no patient data."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Final

_FIELDS: Final = (
    "request_id",
    "caller_request_id",
    "route",
    "method",
    "status",
    "code",
    "key",
    "seconds",
    "bytes",
    "num_patients",
    "num_bags",
    "num_pictures",
    "num_corrections",
    "hospital",
    "version",
    "reason",
    "audit",
    "error",
    "where",
)
"""Permitted fields of a line beside its event; all others are dropped."""


class JsonLines(logging.Formatter):
    """Formats records of this package. Error messages are left out: they may quote a request."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats the record as one line of JSON."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.msg if isinstance(record.msg, str) else type(record.msg).__name__,
        }
        content |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        return json.dumps(content, default=str)


def fault_of(error: BaseException) -> dict[str, str]:
    """The type and location of an error, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    return {"error": type(error).__name__, "where": where}


def log_to_stderr() -> None:
    """Sends the log of this package to stderr. Called once when a process starts."""
    logger = logging.getLogger("homnet_serve")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(h.formatter, JsonLines) for h in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
