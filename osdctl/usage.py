"""Whether a command line is right and wants a daemon, without doing anything: ``python3 -m osdctl.usage ARGS``.

It prints nothing but help.
"""

from __future__ import annotations

import sys

from osdctl import options, output
from osdctl.errors import UsageError
from osdctl.registry import COMMANDS

ALONE = 10
"""Exit status for a command line that wants no daemon, or none here."""


def main() -> int:
    """Return 0 for a command line that wants a daemon; a wrong one is told as osdctl tells it."""
    try:
        args = options.parse(COMMANDS, sys.argv[1:])
    except UsageError as error:
        output.remark(str(error))
        return error.status
    return ALONE if args.alone or args.host is not None else 0


if __name__ == "__main__":
    sys.exit(main())
