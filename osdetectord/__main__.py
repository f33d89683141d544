"""The daemon's command line: serve, or check or show the configuration."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from osdetectord.lean import without

# OpenSSL, for asyncio's TLS and for the digests behind numpy's seeds: 5 MB that a daemon never uses
with without("ssl", "_hashlib"):
    import asyncio

    import numpy  # noqa: F401

from osdetectord import __version__
from osdetectord.config import DIRECTORY, load, problems, show
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError, OsdetectorError

# sysexits.h: what the unit's RestartPreventExitStatus= knows, because starting again would not help
EX_CONFIG = 78
_USUAL = Path()
"""Stands for a directory that is not given."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the command line's values; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="osdetectord", description="Watches processes with eBPF and reports what is not normal for them."
    )
    usual = _directory("CONFIGURATION_DIRECTORY") or DIRECTORY
    parser.add_argument(
        "--config", type=Path, metavar="DIR", default=usual, help=f"configuration directory (default {DIRECTORY})"
    )
    parser.add_argument("--bus", metavar="ADDRESS", help="bus address (default: the system bus)")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        default=_directory("STATE_DIRECTORY"),
        help="where watches, history and what was learnt are kept (default: nothing is)",
    )
    parser.add_argument(
        "--logs",
        type=Path,
        metavar="DIR",
        default=_directory("LOGS_DIRECTORY"),
        help="where samples are recorded, if the configuration wants that (default: where the state is)",
    )
    what = parser.add_mutually_exclusive_group()
    for name, said in (("check", "say whether the configuration is right"), ("show", "print it, defaults included")):
        what.add_argument(
            f"--{name}-config",
            nargs="?",
            const=_USUAL,
            type=Path,
            metavar="DIR",
            help=f"{said}, and end (default: that of --config)",
        )
    parser.add_argument("--version", action="version", version=f"osdetectord {__version__}")
    args = parser.parse_args(arguments)
    for name in ("check_config", "show_config"):
        if getattr(args, name) is _USUAL:
            setattr(args, name, args.config)
    return args


def main() -> int:
    """Run; returns the exit status: 0 done, 1 failed, 2 usage, 78 a wrong configuration."""
    args = parse(sys.argv[1:])
    try:
        if args.check_config is not None:
            found = problems(args.check_config, Settings.parse)
            for problem in found:
                print(f"osdetectord: {problem}", file=sys.stderr)
            if not found:
                print(f"{args.check_config}: ok")
            return EX_CONFIG if found else 0
        if args.show_config is not None:
            print(show(load(args.show_config, Settings.parse)), end="")
            return 0
        _serve(args)
    except OsdetectorError as error:
        print(f"osdetectord: {error}", file=sys.stderr)
        return EX_CONFIG if isinstance(error, ConfigError) else 1
    return 0


def _serve(args: argparse.Namespace) -> None:
    # imported here, so that a look at the configuration needs no bus
    from osdetectord import log
    from osdetectord.daemon import Options, serve
    from osdetectord.journal import Journal

    config = load(args.config, Settings.parse)
    if args.state is not None:
        try:
            args.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise OsdetectorError(f"the state can't be kept in {args.state}: {why}") from None
    journal = Journal()
    log.configure(journal, config.log_level)
    socket = os.environ.get("OSDETECTORD_DETECTOR") or None
    asyncio.run(serve(Options(args.config, args.state, args.logs or args.state, args.bus, socket), config, journal))


def _directory(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None


if __name__ == "__main__":
    sys.exit(main())
