"""A bus client of bytes: it can say what no library would."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from osdetectord.bus import header
from osdetectord.bus.header import Header, Kind

BUS = {"path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus", "destination": "org.freedesktop.DBus"}
OURS = {"path": "/org/osdetector1", "destination": "org.osdetector1"}


class RawClient:
    """Connects and says hello; then sends and receives messages as they are."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self._received = b""
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        self._line()
        self.socket.sendall(b"NEGOTIATE_UNIX_FD\r\n")
        self._line()
        self.socket.sendall(b"BEGIN\r\n" + header.encode(Kind.CALL, 1, member="Hello", **BUS))
        answer, body = self.receive(1)
        assert answer.kind == Kind.RETURN
        (size,) = struct.unpack_from("<I", body)
        self.name = body[4 : 4 + size].decode()

    def _line(self) -> None:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.socket.recv(1)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes, and descriptors with the first of them."""
        sent = socket.send_fds(self.socket, [data], list(fds)) if fds else 0
        self.socket.sendall(data[sent:])

    def receive(self, reply_serial: int) -> tuple[Header, bytes]:
        """Return the answer to a call; what else comes is thrown away."""
        while True:
            parsed, body = self._next()
            if parsed.reply_serial == reply_serial:
                return parsed, body

    def receive_all(self, reply_serials: Sequence[int]) -> list[Header]:
        """Return the headers of the answers to calls, in the order in which they come."""
        left, headers = set(reply_serials), []
        while left:
            parsed, _body = self._next()
            if parsed.reply_serial in left:
                left.remove(parsed.reply_serial)
                headers.append(parsed)
        return headers

    def _next(self) -> tuple[Header, bytes]:
        while len(self._received) < header.FIXED or len(self._received) < sum(header.lengths(self._received)):
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the bus closed the connection")
            self._received += data
        head, body = header.lengths(self._received)
        message, self._received = self._received[: head + body], self._received[head + body :]
        parsed = header.parse(message)
        if parsed.kind == Kind.CALL and parsed.member == "Ping":  # as every library does
            answer = header.encode(Kind.RETURN, 1 << 31, reply_serial=parsed.serial, destination=parsed.sender)
            self.socket.sendall(answer)
        return parsed, message[head:]

    def close(self) -> None:
        """Leave the bus."""
        self.socket.close()
