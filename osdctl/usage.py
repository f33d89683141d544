"""Whether a command line is right, without doing anything: ``python3 -m osdctl.usage ARGS``, which prints only help."""

from __future__ import annotations

import sys

from osdctl import options, output
from osdctl.errors import UsageError
from osdctl.registry import COMMANDS


def main() -> int:
    """Return 0 for a right command line; a wrong one is told as osdctl tells it."""
    try:
        options.parse(COMMANDS, sys.argv[1:])
    except UsageError as error:
        output.remark(str(error))
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
