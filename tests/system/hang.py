"""The daemon with a fault put into it: after a few ticks one part of it stands still for ever.

Run in place of the daemon, with the name of the part as its argument.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

from osdetectord.__main__ import main
from osdetectord.daemon import Daemon
from osdetectord.sampler import Sampler

TICKS = 3
PARTS: dict[str, tuple[type, str]] = {"loop": (Daemon, "_on_tick"), "collector": (Sampler, "tick")}


def standing_still(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method, which does not return any more after a few calls."""
    calls = itertools.count(1)

    def changed(*args: Any) -> Any:
        while next(calls) > TICKS:
            time.sleep(1)
        return method(*args)

    return changed


part, name = PARTS[sys.argv.pop(1)]
setattr(part, name, standing_still(getattr(part, name)))
sys.exit(main())
