"""A program that waits between its fork and its exec, so that it can be watched from its first instruction."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from osdctl.errors import OsdctlError

# as shells do, POSIX.1-2017, 2.8.2
NOT_FOUND, NOT_EXECUTABLE, BY_SIGNAL = 127, 126, 128


class CannotRun(OsdctlError):
    """The program does not start; ends osdctl with a shell's status for that."""

    def __init__(self, name: str, error: int) -> None:
        super().__init__(f"cannot run {name}: {os.strerror(error).lower()}")
        self.status = NOT_FOUND if error == 2 else NOT_EXECUTABLE


class Child:
    """A child process, waiting for :meth:`start`."""

    def __init__(self, words: Sequence[str]) -> None:
        self.status = 0
        self._signal = 0
        self._name = words[0]
        self._reaped = False
        wait_fd, self._go_fd = os.pipe()
        self._error_fd, failed_fd = os.pipe()  # closed by a successful exec
        self.pid = os.fork()
        if self.pid == 0:
            _become(words, wait_fd, self._go_fd, failed_fd)
        os.close(wait_fd)
        os.close(failed_fd)

    def start(self) -> None:
        """Let it go; raises :class:`CannotRun` if there is no such program."""
        os.write(self._go_fd, b"!")
        os.close(self._go_fd)
        self._go_fd = -1
        failure = os.read(self._error_fd, 16)
        if failure:
            raise CannotRun(self._name, int(failure))

    def abandon(self) -> None:
        """End it before it has begun."""
        if self._go_fd >= 0:
            os.close(self._go_fd)
        os.close(self._error_fd)
        os.waitpid(self.pid, 0)

    def send(self, number: signal.Signals) -> None:
        """Hand a signal on."""
        if not self._reaped:
            os.kill(self.pid, number)

    async def wait(self) -> None:
        """Wait for its end and take its exit status."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self._reaped = True
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._error_fd)
        self._signal = max(0, -status)
        self.status = status if status >= 0 else BY_SIGNAL - status

    def told(self) -> str:
        """Return how it ended, for people."""
        if self._signal:
            return f"{self._name}[{self.pid}] was killed by signal {self._signal}"
        return f"{self._name}[{self.pid}] exited with status {self.status}"


def _become(words: Sequence[str], wait_fd: int, go_fd: int, failed_fd: int) -> NoReturn:
    """Wait for the word to go, then become the program; in the child, where nothing may be raised."""
    try:
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(go_fd)
        if os.read(wait_fd, 1):
            os.execvp(words[0], list(words))
    except OSError as error:
        os.write(failed_fd, str(error.errno).encode())
    finally:
        os._exit(NOT_FOUND)
