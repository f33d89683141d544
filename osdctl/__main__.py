"""The command line client: parse, run one command, write what it returns, end with its status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from osdctl import options, output, remote
from osdctl.command import Answer
from osdctl.errors import OsdctlError, Status, UsageError
from osdctl.manager import Connection, Manager
from osdctl.registry import COMMANDS

if TYPE_CHECKING:
    import argparse

_INTERRUPTED = 128 + signal.SIGINT
_PIPE_BROKEN = 128 + signal.SIGPIPE


async def _connect() -> Connection:
    # here, because dbus-next takes longer to import than most commands to run
    try:
        from osdctl import bus
    except ModuleNotFoundError as error:
        raise OsdctlError(
            f"there is no Python module {error.name}", "install it: apt install python3-dbus-next"
        ) from error
    return await bus.connect(os.environ)


async def _run(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    manager = Manager(_connect)
    try:
        result = args.run(args, manager)
        if hasattr(result, "__aiter__"):
            try:
                async for text in result:
                    output.write(text)
            except asyncio.CancelledError:
                pass  # Ctrl-C is the way to end what follows
            return Status.DONE
        answer = await result
        if not isinstance(answer, Answer):
            answer = Answer(answer)
        if args.look.terminal and args.pager and not args.acts and args.look.json == "off":
            output.page(answer.text, environ)
        else:
            output.write(answer.text)
        return answer.status
    finally:
        manager.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run osdctl and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    output.open_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        args = options.parse(COMMANDS, words)
        if args.host is not None:
            # there the same words are read again: one that still named a host would go on from there
            if options.parse(COMMANDS, remote.without_host(words)).host is not None:
                raise UsageError("a host that is not given once and by itself", "write it like -H HOST")
            return remote.run(args.host, words, terminal=sys.stdin.isatty() and sys.stdout.isatty())
        args.look = options.look(args, sys.stdout, os.environ)
        return asyncio.run(_run(args, os.environ))
    except output.CannotWrite as error:
        output.silence()
        output.remark(str(error))
        return error.status
    except OsdctlError as error:
        output.remark(str(error))
        return error.status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        output.silence()  # whoever read standard output has left
        return _PIPE_BROKEN


if __name__ == "__main__":
    sys.exit(main())
