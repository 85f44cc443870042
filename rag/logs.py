"""What the server's log says: a line a request, each with the id that the response carries too.

Lines name the route and never what was asked, unless that is wanted: no address, body or key.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

_notes: ContextVar[dict[str, object]] = ContextVar("notes")
"""Of the request being handled; a thread that works for it has the same dictionary."""

logger = logging.getLogger(__name__)

_WORD = re.compile(r"[^\s\"=]+")


class Style(StrEnum):
    """Whether requests are logged, and as what. Warnings and errors are in each case."""

    OFF = "off"
    TEXT = "text"
    JSON = "json"


def begin(request_id: str) -> None:
    """A request begins: what is logged from here on, in its threads too, has this id."""
    _notes.set({"request_id": request_id})


def note(**fields: object) -> None:
    """Keep `fields` for the lines of the request being handled; outside of one they are dropped."""
    notes().update(fields)


def notes() -> dict[str, object]:
    """What is known of the request being handled."""
    return _notes.get({})


def answered(fields: Mapping[str, object]) -> None:
    """Log that a request was answered."""
    logger.info("request", extra={"fields": fields})


def configure(style: Style) -> None:
    """Have this process log to standard error, unless it logs somewhere already."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style is Style.JSON else Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logger.setLevel(logging.WARNING if style is Style.OFF else logging.INFO)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what is known of the request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        return json.dumps(_fields(record) | _error(self, record), default=str)


class Lines(logging.Formatter):
    """For people: the message, then what is known of the request as name=value, in quotes where a
    value is more than a word. No text of others ends a line, turns it round or is obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`; what else its message has, and an error's traceback, follow it,
        indented."""
        fields = _fields(record)
        message, *more = str(fields.pop("message")).split("\n")
        head = [str(fields.pop(name)) for name in ("time", "level", "logger")]
        known = [f"{name}={_word(value)}" for name, value in fields.items()]
        more += _error(self, record).get("traceback", "").splitlines()
        indented = [f"  {_plain(line)}" for line in more if line]
        return "\n".join([" ".join([*head, _plain(message), *known]), *indented])


def _word(value: object) -> str:
    text = str(value)
    return _plain(text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False))


def _plain(text: str) -> str:
    """`text`, its control characters and all others that do not show escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    about = {"time": at, "level": record.levelname.lower(), "logger": record.name}
    about["message"] = record.getMessage()
    return about | notes() | getattr(record, "fields", {})


def _error(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    if not record.exc_info:
        return {}
    return {"traceback": formatter.formatException(record.exc_info)}
