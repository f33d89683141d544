"""journald's native protocol: records with fields, and one line of JSON on stderr where there is no journal.

Protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Final, TextIO

SOCKET: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "osdetectord"

_FIELD = re.compile(r"[^A-Z0-9_]")
_ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Journal:
    """Sends records; a log line never fails the caller.

    Parameters
    ----------
    path
        The journal's socket.
    fallback
        Where records go as lines of JSON while the socket does not answer.
    """

    def __init__(self, path: str = SOCKET, fallback: TextIO | None = None) -> None:
        self._path = path
        self._fallback = fallback
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)

    def send(self, message: str, priority: int, fields: Mapping[str, object]) -> None:
        """Send one record; ``priority`` as in syslog(3), names of fields are made legal, None is left out."""
        record = {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": IDENTIFIER, **fields}
        data = encode(record)
        try:
            self._send(data)
        except OSError:  # no journal, or it is away: the record must not be lost with it
            shown = {k: v for k, v in record.items() if v is not None and k != "SYSLOG_IDENTIFIER"}
            print(json.dumps(shown, default=str, ensure_ascii=True), file=self._fallback or sys.stderr, flush=True)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            descriptor = os.memfd_create("journal", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
            try:
                with open(descriptor, "wb", closefd=False) as file:
                    file.write(data)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _ALL_SEALS)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
                self._socket.sendmsg([b""], rights, 0, self._path)
            finally:
                os.close(descriptor)


def encode(fields: Mapping[str, object]) -> bytes:
    """Return the fields as one datagram; a value with a line break is sent with its length."""
    out = bytearray()
    for key, value in fields.items():
        name = _FIELD.sub("_", key.upper()).lstrip("_0123456789")[:64].encode()
        if not name or value is None:
            continue
        data = str(value).encode("utf-8", "surrogateescape")
        out += name + (b"\n" + struct.pack("<Q", len(data)) + data if b"\n" in data else b"=" + data) + b"\n"
    return bytes(out)
