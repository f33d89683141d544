"""Sends as much as the bus takes, never reading an answer: ``flooder.py SOCKET SECONDS [reply]``."""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

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
    client.socket.settimeout(None)
    many, sent, end = ping * IN_ONE, 0, time.monotonic() + seconds
    client.socket.settimeout(seconds)
    while time.monotonic() < end:
        try:
            client.socket.sendall(many)
        except OSError:
            break
        sent += IN_ONE
    print(sent)


def _swallow(sock: socket.socket) -> None:
    while sock.recv(1 << 16):
        pass


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:] == ["reply"])
