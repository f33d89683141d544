"""Sends as much as the bus takes, ``flooder.py SOCKET SECONDS silent|reply``: wanting no answer, or one each."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time

from raw_client import RawClient

from osdetectord.bus import header
from osdetectord.bus.header import Kind

IN_ONE = 50


def main(path: str, seconds: float, reply: bool) -> None:
    client = RawClient(path)
    ping = header.encode(
        Kind.CALL,
        3,
        flags=0 if reply else header.NO_REPLY_EXPECTED,
        path="/org/osdetector1",
        interface="org.freedesktop.DBus.Peer",
        member="Ping",
        destination="org.osdetector1",
    )
    if reply:
        threading.Thread(target=_swallow, args=(client.socket,), daemon=True).start()
    client.socket.settimeout(seconds)
    many, sent, end = bytearray(ping * IN_ONE), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for each in range(IN_ONE):  # the bus itself refuses a serial of which the answer is missing
            struct.pack_into("<I", many, each * len(ping) + 8, 2 + sent + each)
        try:
            client.socket.sendall(many)
        except OSError:
            break
        sent += IN_ONE
    print(sent)


def _swallow(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 16):
            pass


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3] == "reply")
