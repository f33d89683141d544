"""``osdctl snoop``: the original's command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from osdetectord import offline
from osdetectord.detection.settings import Settings
from osdetectord.errors import ConfigError, InvalidArgument, NoSuchProcess, OsdetectorError
from osdetectord.snoop import config as configuration
from osdetectord.snoop.config import SnoopConfig
from osdetectord.snoop.program import CannotRun, Launched, Running, Subject, words_of
from osdetectord.snoop.say import PROGRAM, shown, tell
from osdetectord.snoop.session import Session, Summary

CONFIG = Path("config.json")
EXIT_FAILED, EXIT_USAGE, EXIT_NO_SUCH = 1, 2, 4
MOST_FOUND = 10


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = offline.Parser(
        prog=PROGRAM,
        description="Collect what a program does into CSV files, and detect what is not normal in them.",
        allow_abbrev=False,
    )
    subject = result.add_mutually_exclusive_group(required=True)
    subject.add_argument("-c", "--command", metavar="CMD", help="run this command and snoop it to its end")
    subject.add_argument("-p", "--pid", type=int, metavar="PID", help="snoop a process that runs")
    result.add_argument(
        "--configure_file", type=Path, metavar="FILE", help="what to collect (default ./config.json, if there is one)"
    )
    result.add_argument("-i", "--interval", type=float, metavar="S", help="seconds between rows, over the file's")
    result.add_argument("--detectors", type=Path, metavar="FILE", help="how to detect, a detectors.yml")
    result.add_argument("--json", action="store_true", help="write the summary as JSON")
    result.add_argument("-q", "--quiet", action="store_true", help="no summary")
    return result


def configured(options: argparse.Namespace) -> SnoopConfig:
    """Return what to collect; raises ConfigError."""
    here = Path.cwd()
    if options.configure_file is not None:
        config = configuration.load(options.configure_file, here)
    elif CONFIG.exists():
        config = configuration.load(CONFIG, here)
    else:
        config = configuration.defaults(here)
    if options.interval is not None:
        if not configuration.LEAST_S <= options.interval <= configuration.MOST_S:
            raise ConfigError(
                "--interval", options.interval, f"seconds from {configuration.LEAST_S} to {configuration.MOST_S}"
            )
        config = replace(config, interval_s=options.interval)
    if not config.paths():
        raise ConfigError("", "every signal is off", "one of snoop_cpu, snoop_mem, snoop_network, snoop_syscall, "
                          "probes, trace", str(options.configure_file or CONFIG))  # fmt: skip
    return config


def settings_of(path: Path | None) -> Settings:
    """Return how to detect; raises OsdetectorError."""
    return offline.settings_of(argparse.Namespace(config=path, budget=None, warmup=None, detectors=None, interval=1.0))


def told(summary: Summary, config: SnoopConfig) -> str:
    """Return the summary, for people."""
    lines = [f"{PROGRAM}: {summary.how} after {_lasted(summary.seconds)}"]
    lines += [f"  {path}: {rows} row{'s' * (rows != 1)}" for path, rows in summary.files]
    if summary.learned is not None:
        count = len(summary.found)
        said = f"{count} anomal{'y' if count == 1 else 'ies'}" if count else "nothing abnormal"
        if not summary.learned:
            said = "too short to learn what is normal"
        lines.append(f"  {config.outcome}: {said}")
        lines += [f"    {found.number}. {found.line()}" for found in summary.found[:MOST_FOUND]]
        if count > MOST_FOUND:
            lines.append(f"    and {count - MOST_FOUND} more in {config.outcome}/anomalies.csv")
    lines += [f"  no call of {place} was seen: never called, or its binary never mapped" for place in summary.unseen]
    lines += [f"  lost: {count} {cause}" for cause, count in summary.lost.items()]
    return "\n".join(lines)


def _lasted(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def as_json(summary: Summary, config: SnoopConfig) -> str:
    """Return the summary as one line of JSON."""
    return json.dumps(
        {
            "status": summary.status,
            "how": summary.how,
            "seconds": round(summary.seconds, 3),
            "files": {str(path): rows for path, rows in summary.files},
            "outcome": None if config.outcome is None else str(config.outcome),
            "learned": summary.learned,
            "anomalies": [
                {
                    "anomaly": found.number,
                    "file": found.file,
                    "pid": found.who,
                    "comm": found.comm,
                    "kind": found.episode.kind.value,
                    "first": found.first_s,
                    "last": found.last_s,
                    "score": found.episode.score,
                }
                for found in summary.found
            ],
            "unseen": summary.unseen,
            "lost": summary.lost,
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the command's status, or 0 for a process, 1 failed, 2 usage, 4 no such process."""
    options = parser().parse_args(arguments)
    subject: Subject | None = None
    try:
        config, settings = configured(options), settings_of(options.detectors)
        if options.command is not None:
            # root's setuid programs stay what they are when they are traced
            subject = Launched(words_of(options.command), twice=os.geteuid() == 0)
        else:
            subject = Running(options.pid)
        summary = Session(config, subject, settings, tell).run()
    except CannotRun as error:
        tell(str(error))
        return error.status
    except OsdetectorError as error:
        tell(str(error))
        return _status_of(error, subject)
    finally:
        if subject is not None:
            subject.close()
    if options.json:
        sys.stderr.write(as_json(summary, config) + "\n")
    elif not options.quiet:
        for line in told(summary, config).split("\n"):
            sys.stderr.write(f"{shown(line)}\n")
    return summary.status


def _status_of(error: OsdetectorError, subject: Subject | None) -> int:
    # what stands in a file, like a thread that is not there, is no fault of the command line
    if isinstance(error, NoSuchProcess) and subject is None:
        return EXIT_NO_SUCH
    if isinstance(error, ConfigError):
        return EXIT_USAGE if error.key.startswith("--") else EXIT_FAILED
    return EXIT_USAGE if isinstance(error, InvalidArgument) and subject is None else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
