"""Where every module gets its logger; :mod:`osdetectord.log` says where the lines go."""

from __future__ import annotations

from osdetectord.lean import without

# structlog would draw tracebacks with rich: 7 MB that a daemon never uses
with without("rich"):
    import structlog

__all__ = ["get_logger", "structlog"]

get_logger = structlog.get_logger
