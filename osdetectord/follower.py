"""A reader of lines at the other end of a socket: it is never waited for, and what it was too slow for is counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

MAX_WAITING = 1 << 22
"""Bytes that wait for a slow reader; what comes after them is left out."""


class Follower:
    """Our end of a stream of lines.  Everything happens in the event loop.

    Parameters
    ----------
    gone
        Called once, when the reader has closed its end or everything was sent after :meth:`end`.
    """

    def __init__(self, gone: Callable[[Follower], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._waiting = bytearray()
        self._missed = 0
        self._writing = self._ending = self._closed = False
        self._loop.add_reader(self._socket, self._readable)

    def give(self) -> int:
        """Return the reader's end, once, which is the caller's to close."""
        return self._theirs.detach()

    def send(self, lines: Sequence[bytes]) -> None:
        """Send lines, without their line breaks, as far as there is room."""
        for line in lines:
            if len(self._waiting) + len(line) >= MAX_WAITING:
                self._missed += 1
                continue
            if self._missed:
                self._waiting += b'{"missed":%d}\n' % self._missed
                self._missed = 0
            self._waiting += line + b"\n"
        self._write()

    def end(self) -> None:
        """Close when what waits has been sent."""
        if self._missed:
            self._waiting += b'{"missed":%d}\n' % self._missed
            self._missed = 0
        self._ending = True
        self._write()

    def close(self) -> None:
        """Close at once."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._theirs.close()
        self._gone(self)

    def _readable(self) -> None:
        try:
            said = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self.close()

    def _write(self) -> None:
        if self._closed:
            return
        try:
            while self._waiting:
                del self._waiting[: self._socket.send(self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._waiting and not self._writing:
            self._loop.add_writer(self._socket, self._write)
        elif not self._waiting and self._writing:
            self._loop.remove_writer(self._socket)
        self._writing = bool(self._waiting)
        if self._ending and not self._waiting:
            self.close()
