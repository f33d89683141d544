"""Resident memory of a process, for what the daemon and its detector say of themselves."""

from __future__ import annotations

import resource
from pathlib import Path


def rss_bytes(pid: int) -> int:
    """Return the resident bytes of a process, 0 where it can't be read; see proc(5), statm."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0
