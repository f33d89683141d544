"""Where osdctl writes: standard output, a pager in front of a terminal, and remarks on standard error."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping

from osdctl import called
from osdctl.errors import OsdctlError
from osdctl.text import shown

_PAGER = "less"
_LESS = "FRSX"


def pager_of(environ: Mapping[str, str]) -> list[str]:
    """Return the pager's command line, empty for none: $SYSTEMD_PAGER, $PAGER, less."""
    for name in ("SYSTEMD_PAGER", "PAGER"):
        chosen = environ.get(name)
        if chosen is not None:
            try:
                words = shlex.split(chosen)
            except ValueError:
                return []
            return [] if words in ([], ["cat"]) else words
    return [_PAGER]


class CannotWrite(OsdctlError):
    """Standard output takes no more, because the disk is full for instance."""


def write(text: str) -> None:
    """Write to standard output at once; raises :class:`CannotWrite`."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotWrite(f"cannot write: {(error.strerror or str(error)).lower()}") from error


def silence() -> None:
    """Let standard output lead nowhere, so that Python does not fail once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed() -> None:
    """Give standard streams that were closed by the caller a place that leads nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def page(text: str, environ: Mapping[str, str]) -> None:
    """Write through the pager, or directly where there is none."""
    command = pager_of(environ)
    if not command or not text:
        write(text)
        return
    with_options = {**environ, "LESS": environ.get("SYSTEMD_LESS", environ.get("LESS", _LESS)), "LESSCHARSET": "utf-8"}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a pager is the pager's
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, env=with_options, encoding="utf-8", errors="replace", restore_signals=True
        ) as process:
            try:
                process.communicate(text)
            except BrokenPipeError:
                process.wait()
    except OSError:
        write(text)
    finally:
        signal.signal(signal.SIGINT, before)


def remark(text: str) -> None:
    """Write one line to standard error; foreign characters in it are made harmless, hints fit how we are called."""
    try:
        sys.stderr.write(f"osdctl: {shown(called.here(text))}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
