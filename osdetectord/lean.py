"""Import a library without the optional modules that it would pull in: a daemon pays for them in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Make each import of these modules raise :class:`ImportError` within the block, as if they were not installed.

    A module that was imported before is left in place afterwards.
    """
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: cast(Any, None) for name in names})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
