"""Lines for people, on the standard error."""

from __future__ import annotations

import sys

PROGRAM = "osdctl snoop"


def tell(text: str) -> None:
    """Say a line to people; what a program named itself can't move their cursor."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    sys.stderr.write(f"{PROGRAM}: {shown}\n")
    sys.stderr.flush()
