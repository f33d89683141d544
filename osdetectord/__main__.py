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


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the command line's values; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="osdetectord", description="Watches processes with eBPF and reports what is not normal for them."
    )
    parser.add_argument("--config", type=Path, metavar="DIR", help=f"configuration directory (default {DIRECTORY})")
    parser.add_argument("--bus", metavar="ADDRESS", help="bus address (default: the system bus)")
    parser.add_argument("--state", type=Path, metavar="DIR", default=_directory("STATE_DIRECTORY"))
    parser.add_argument("--logs", type=Path, metavar="DIR", default=_directory("LOGS_DIRECTORY"))
    what = parser.add_mutually_exclusive_group()
    usual = _directory("CONFIGURATION_DIRECTORY") or DIRECTORY
    what.add_argument("--check-config", nargs="?", const=usual, type=Path, metavar="DIR")
    what.add_argument("--show-config", nargs="?", const=usual, type=Path, metavar="DIR")
    parser.add_argument("--version", action="version", version=f"osdetectord {__version__}")
    return parser.parse_args(arguments)


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

    directory = args.config or _directory("CONFIGURATION_DIRECTORY") or DIRECTORY
    config = load(directory, Settings.parse)
    journal = Journal()
    log.configure(journal, config.log_level)
    if args.state is not None:
        args.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = os.environ.get("OSDETECTORD_DETECTOR") or None
    asyncio.run(serve(Options(directory, args.state, args.logs or args.state, args.bus, socket), config, journal))


def _directory(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None


if __name__ == "__main__":
    sys.exit(main())
