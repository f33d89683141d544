"""The process that is snooped: a program started for it, which waits until it is watched, or one that runs."""

from __future__ import annotations

import ctypes
import errno
import os
import shlex
import shutil
import signal
from collections.abc import Sequence
from typing import NoReturn, Protocol

from osdetectord import proc
from osdetectord.errors import InvalidArgument, OsdetectorError

# as shells do, POSIX.1-2017, 2.8.2
NOT_FOUND, NOT_EXECUTABLE, BY_SIGNAL = 127, 126, 128

INTERRUPTED = 130

CTRL_C_S, STOP_S = 2.0, 10.0
"""A program of ours has so long to end by itself after Ctrl-C, and after another signal."""

# include/uapi/linux/ptrace.h
TRACEME, DETACH = 0, 17

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class CannotRun(OsdetectorError):
    """The program does not start; ``status`` is a shell's for that."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"cannot run {name}: {os.strerror(code).lower()}")
        self.status = NOT_FOUND if code == errno.ENOENT else NOT_EXECUTABLE


class Subject(Protocol):
    """Whom snooping is about."""

    pid: int
    name: str
    descriptor: int
    """Of the process (pidfd): readable when it has ended."""
    fresh: bool
    """Whether its program has not run yet, and what it will map is not mapped."""

    def load(self) -> None:
        """Let it become its program, where it is to wait once more before that runs."""

    def start(self) -> None:
        """Let it go."""

    def interrupt(self, number: int) -> float:
        """Hand a signal that we got on, where it is ours; seconds in which it may end by itself."""

    def ended(self) -> tuple[int, str]:
        """Exit status for us, and how it ended, for people."""

    def left(self) -> tuple[int, str]:
        """The same where it goes on without us."""

    def close(self) -> None:
        """Let go of it; what has not been started never runs."""


def words_of(command: str) -> list[str]:
    """Return the words of a command; raises InvalidArgument, and CannotRun if there is no such program."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidArgument(f"command {command!r}: {str(error).lower()}") from None
    if not words:
        raise InvalidArgument("the command is empty, expected a program and its arguments")
    if shutil.which(words[0]) is None:
        raise CannotRun(words[0], errno.EACCES if os.path.exists(words[0]) and "/" in words[0] else errno.ENOENT)
    return words


class Launched:
    """A child that waits between its fork and its execution.

    Parameters
    ----------
    words
        Program and arguments.
    twice
        Whether it waits again between its execution and its first instruction, so that its functions can be
        probed.  It is a tracee then (ptrace), which a user's setuid program notices, root's does not.
    """

    def __init__(self, words: Sequence[str], twice: bool) -> None:
        self.name = os.path.basename(words[0])
        self._words, self._twice = words, twice
        self._status: int | None = None
        self._started = False
        self.fresh = True
        wait_fd, self._go_fd = os.pipe()
        self._error_fd, failed_fd = os.pipe()  # closed by a successful execution
        self.pid = os.fork()
        if self.pid == 0:
            _become(words, wait_fd, self._go_fd, failed_fd, twice)
        os.close(wait_fd)
        os.close(failed_fd)
        self.descriptor = os.pidfd_open(self.pid)

    def load(self) -> None:
        """Let it execute its program and stop there, if it is to; raises :class:`CannotRun`."""
        if not self._twice:
            return
        self._execute()
        _, status = os.waitpid(self.pid, 0)
        if not os.WIFSTOPPED(status):
            self._status = os.waitstatus_to_exitcode(status)

    def start(self) -> None:
        """Let it go; raises :class:`CannotRun`."""
        self._started, self.fresh = True, False
        if self._go_fd >= 0:
            self._execute()
        elif self._status is None:
            _ptrace(DETACH, self.pid, None, None)

    def _execute(self) -> None:
        os.write(self._go_fd, b"!")
        self._close_go()
        failure = os.read(self._error_fd, 16)
        if failure:
            raise CannotRun(self._words[0], int(failure))

    def interrupt(self, number: int) -> float:
        if number == signal.SIGINT:
            # Ctrl-C goes to all that the terminal runs
            return CTRL_C_S
        if self._status is None:
            os.kill(self.pid, number)
        return STOP_S

    def ended(self) -> tuple[int, str]:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self._status < 0:
            return BY_SIGNAL - self._status, f"{self.name}[{self.pid}] was killed by signal {-self._status}"
        return self._status, f"{self.name}[{self.pid}] exited with status {self._status}"

    def left(self) -> tuple[int, str]:
        return INTERRUPTED, f"interrupted; {self.name}[{self.pid}] goes on"

    def close(self) -> None:
        if not self._started and self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.ended()
        if self._go_fd >= 0:
            self._close_go()
        os.close(self._error_fd)
        os.close(self.descriptor)

    def _close_go(self) -> None:
        os.close(self._go_fd)
        self._go_fd = -1


def _become(words: Sequence[str], wait_fd: int, go_fd: int, failed_fd: int, twice: bool) -> NoReturn:
    """Wait for the word to go, then become the program; in the child, where nothing may be raised."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.close(go_fd)
        if os.read(wait_fd, 1):
            if twice and _ptrace(TRACEME, 0, None, None):
                raise OSError(ctypes.get_errno(), "")
            os.execvp(words[0], list(words))
    except OSError as error:
        os.write(failed_fd, str(error.errno).encode())
    finally:
        os._exit(NOT_FOUND)


class Running:
    """A process that runs already; raises as :func:`osdetectord.proc.identify`."""

    def __init__(self, pid: int) -> None:
        process = proc.identify(pid)
        self.pid, self.fresh = pid, False
        self.name = proc.info(process).comm
        self.descriptor = os.pidfd_open(pid)

    def load(self) -> None:
        """It has its program."""

    def start(self) -> None:
        """It runs."""

    def interrupt(self, number: int) -> float:
        return 0.0

    def ended(self) -> tuple[int, str]:
        return 0, f"{self.name}[{self.pid}] has ended"

    def left(self) -> tuple[int, str]:
        return 0, f"{self.name}[{self.pid}] goes on"

    def close(self) -> None:
        os.close(self.descriptor)
