"""Structured logs: text for people, one JSON object a line for machines, with where in the job it happened."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

CONTEXT = ("job", "operator", "subtask", "epoch", "checkpoint", "worker")
"""The fields that say where; pass them as `extra={...}`."""


class TextFormatter(logging.Formatter):
    """`12:00:01 INFO message (job=…, checkpoint=…)`."""

    is_json = False

    def format(self, record: logging.LogRecord) -> str:
        where = ", ".join(f"{name}={value}" for name, value in _context(record).items())
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{stamp} {record.levelname} {record.getMessage()}"
        return f"{text} ({where})" if where else text


class JsonFormatter(logging.Formatter):
    """`{"time": …, "level": …, "message": …, "job": …, …}`; time in milliseconds since the epoch."""

    is_json = True

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": int(record.created * 1000),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_context(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logging(level: int | str = logging.INFO, *, as_json: bool = False) -> None:
    """Sends streamcore's logs to stderr in one of the two forms."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger = logging.getLogger("streamcore")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _context(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in CONTEXT if getattr(record, name, None) is not None}
