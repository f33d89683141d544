"""Lines for people, on the standard error."""

from __future__ import annotations

import sys

PROGRAM = "osdctl snoop"


def shown(text: str) -> str:
    """Return a line in which what a program named itself can't move anybody's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def tell(text: str) -> None:
    """Say a line to people."""
    sys.stderr.write(f"{PROGRAM}: {shown(text)}\n")
    sys.stderr.flush()
