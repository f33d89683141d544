"""The command line: options that every command has, kinds of argument, and errors in one line."""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TextIO

from osdctl import VERSION
from osdctl.command import Command
from osdctl.errors import UsageError
from osdctl.text import Look
from osdctl.when import instant_us, span_us

JSON_MODES = ("short", "pretty", "off")
SPEC_KINDS = ("pid", "unit", "cgroup", "comm", "exe", "user")
_LARGEST_PID, _LARGEST_U32 = 2**31 - 1, 2**32 - 1
_DEFAULTS = {"json": "off", "pager": True, "legend": True, "quiet": False, "host": None}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line with a hint, and to which ``-1h`` is a value."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # what argparse itself does from Python 3.14 on
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        """Raise :class:`UsageError`."""
        raise UsageError(message, f"see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name what is near instead of every command that there is."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            words = " ".join([*self.prog.split()[1:], str(value)])
            near = difflib.get_close_matches(str(value), action.choices, n=1)
            meant = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
            raise UsageError(f"no command {words}", meant)
        super()._check_value(action, value)


def common() -> Parser:
    """Return the options that stand before or behind any command."""
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("options of every command")
    group.add_argument("-H", "--host", metavar="HOST", help="run osdctl on that host, through ssh")
    group.add_argument("--json", choices=JSON_MODES, metavar="MODE", help="write JSON: short, pretty or off")
    group.add_argument("--no-pager", dest="pager", action="store_false", help="do not pipe output into a pager")
    group.add_argument("--no-legend", dest="legend", action="store_false", help="no headers")
    group.add_argument("-q", "--quiet", action="store_true", help="only what was asked for, no hints")
    return options


def parser(commands: Sequence[Command]) -> Parser:
    """Return the parser of the whole command line."""
    shared = common()
    top = Parser(
        prog="osdctl",
        allow_abbrev=False,
        description="Watch processes, learn what is normal for each, and see what is not.",
        epilog="man osdctl says more; osdctl doctor says what is missing",
        parents=[shared],
    )
    top.add_argument("--version", action="version", version=f"osdctl {VERSION}")
    verbs = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for command in commands:
        # a command that hands its arguments on has no options of its own, not even ours
        whole = getattr(command, "PASSES_ON", False)
        verb = verbs.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP[0].upper() + command.HELP[1:] + ".",
            parents=[] if whole else [shared],
            add_help=not whole,
            prefix_chars="\0" if whole else "-",
            allow_abbrev=False,
        )
        command.arguments(verb)
        acts, alone = (getattr(command, name, False) for name in ("ACTS", "ALONE"))
        verb.set_defaults(run=command.run, acts=acts, alone=alone)
    return top


def parse(commands: Sequence[Command], argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line; raises :class:`UsageError`."""
    args = parser(commands).parse_args(argv)
    for name, value in _DEFAULTS.items():
        if not hasattr(args, name):
            setattr(args, name, value)
    return args


def look(args: argparse.Namespace, stdout: TextIO, environ: Mapping[str, str]) -> Look:
    """Decide how to write; NO_COLOR (no-color.org) and TERM=dumb switch colours off."""
    terminal = stdout.isatty()
    size = shutil.get_terminal_size()
    return Look(
        terminal=terminal,
        colour=terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb",
        width=size.columns,
        height=size.lines,
        legend=args.legend,
        quiet=args.quiet,
        json=args.json,
    )


def spec(text: str) -> str:
    """Check that text has the form of a target specification; what it names is the daemon's to judge."""
    kind, colon, value = text.partition(":")
    if not colon and text.isascii() and text.isdecimal():
        pid(text)
        return text
    if not colon or kind not in SPEC_KINDS or not value:
        kinds = ", ".join(f"{kind}:" for kind in SPEC_KINDS)
        raise UsageError(f"no target specification: {text or 'nothing'}", f"write a pid, or one of {kinds} and a name")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"a specification that is not UTF-8: {text}") from error
    if kind == "pid":
        pid(value)
    if kind in ("cgroup", "exe") and not value.startswith("/"):
        raise UsageError(f"not an absolute path: {value}", f"write it like {kind}:/path")
    return text


def pid(text: str) -> int:
    """Argument type of a process id."""
    return _number(text, "pid", _LARGEST_PID)


def tid(text: str) -> int:
    """Argument type of a thread id."""
    return _number(text, "thread id", _LARGEST_PID)


def instant(text: str) -> int:
    """Argument type of ``--since`` and ``--until``."""
    return instant_us(text, datetime.now().astimezone())


def seconds(text: str) -> int:
    """Argument type of a time span; whole seconds, at least one."""
    span = span_us(text)
    if span < 1_000_000:
        raise UsageError(f"a time span below one second: {text}")
    return span // 1_000_000


def count(text: str) -> int:
    """Argument type of how many there may be of something."""
    return _number(text, "count", _LARGEST_U32)


def _number(text: str, what: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(most)) or not 0 < int(text) <= most:
        raise UsageError(f"no {what}: {text or 'nothing'}", f"write a number from 1 to {most}")
    return int(text)


def anomaly_id(text: str) -> int:
    """Argument type of an anomaly's number."""
    digits = text.removeprefix("#")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        raise UsageError(f"no number of an anomaly: {text or 'nothing'}", "osdctl anomalies lists them")
    return int(digits)


def add_times(parser: argparse.ArgumentParser) -> None:
    """Add ``--since`` and ``--until``."""
    parser.add_argument(
        "-S", "--since", type=instant, metavar="TIME", help="from then on: -1h, today, '2026-11-22 14:00'"
    )
    parser.add_argument("-U", "--until", type=instant, metavar="TIME", help="up to then")
