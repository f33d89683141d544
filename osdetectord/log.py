"""The one way to log: structlog to the journal under systemd, to a console where a person looks."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Any

from osdetectord.journal import Journal
from osdetectord.logger import structlog

_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
_SEVERITY = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _JournalLogger:
    """What structlog writes to under systemd: each event's context becomes fields of the record."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def msg(self, event: str, level: str, fields: MutableMapping[str, Any]) -> None:
        self._journal.send(event, _PRIORITIES[level], fields)

    debug = info = warning = error = critical = msg


def _as_record(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    level = event.pop("level", "info")
    message = str(event.pop("event", ""))
    trace = event.pop("exception", None)
    # our own names carry a prefix, so that no key can pass for a field that the journal trusts
    fields = {f"OSDETECTOR_{key}": value for key, value in event.items()}
    if trace:
        message = f"{message}\n{trace}"
    return (message, level, fields), {}


def under_systemd() -> bool:
    """Return whether stderr is a stream to the journal, as sd_journal_stream_fd(3) lets one tell."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        stat = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(stat.st_dev), str(stat.st_ino))


def configure(journal: Journal, level: str) -> None:
    """Set structlog up for the whole process; ``level`` is one of
    :data:`osdetectord.config.LOG_LEVELS`.

    May be called again with another level.
    """
    common: list[Any] = [
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
    ]
    wrapper = structlog.make_filtering_bound_logger(_SEVERITY[level])
    if under_systemd():
        structlog.configure(
            processors=[*common, _as_record],
            wrapper_class=wrapper,
            logger_factory=lambda *_: _JournalLogger(journal),
        )
        return
    person = sys.stderr.isatty()
    structlog.configure(
        processors=[
            *common,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if person else "iso", utc=False),
            structlog.dev.ConsoleRenderer(colors=person and "NO_COLOR" not in os.environ),
        ],
        wrapper_class=wrapper,
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
