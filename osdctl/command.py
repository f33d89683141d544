"""What a command is: a module with a name, a line of help, its arguments, and ``run``."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Protocol

from osdctl.manager import Manager


@dataclass(frozen=True, slots=True)
class Answer:
    """Output together with an exit status, where it is not 0."""

    text: str
    status: int = 0


class Command(Protocol):
    """A module of :mod:`osdctl.commands`."""

    NAME: str
    HELP: str
    # ACTS = True: it does something and says so, and is not shown in a pager as lists are
    # ALONE = True: it needs no daemon
    # PASSES_ON = True: its arguments are those of another program

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments."""

    def run(self, args: argparse.Namespace, manager: Manager) -> Awaitable[str | Answer] | AsyncIterator[str]:
        """Do it; ``args.look`` says how to write.  A generator's output is written as it comes."""
