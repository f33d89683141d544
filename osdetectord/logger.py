"""Where every module gets its logger; :mod:`osdetectord.log` says where the lines go."""

from __future__ import annotations

import sys
from typing import Any, cast

# structlog imports rich, where it is installed, to draw tracebacks: 7 MB that a daemon never uses
_rich = sys.modules.get("rich")
sys.modules["rich"] = cast(Any, None)
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _rich

__all__ = ["get_logger", "structlog"]

get_logger = structlog.get_logger
