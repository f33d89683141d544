"""How much of what each caller was answered it may not have read yet.

The bus keeps answers for who does not read, counts them against *us*, and reads nothing more of ours when they are
too much (``max_incoming_bytes`` of dbus-daemon(1), 127 MiB): two callers that never read would silence the service.
So a caller is asked a question now and then (``Peer.Ping``, which the library of any caller answers by itself); since
the bus keeps the order, whoever answers has read all that came before.
"""

from __future__ import annotations

ASK = 1 << 16
"""Bytes after which a caller is asked."""
PER_CALLER = 1 << 22
IN_ALL = 48 << 20


class Unread:
    """Bytes sent to each caller since it last proved that it reads."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        self._total = 0

    def sent(self, caller: str, size: int) -> bool:
        """Count an answer; return whether the caller should be asked."""
        self._bytes[caller] = self._bytes.get(caller, 0) + size
        self._total += size
        return self._bytes[caller] > ASK

    def of(self, caller: str) -> int:
        """Return the bytes that the caller may not have read."""
        return self._bytes.get(caller, 0)

    def read(self, caller: str, size: int) -> None:
        """Count that the caller has read so much."""
        self._total -= size
        self._bytes[caller] -= size
        if not self._bytes[caller]:
            del self._bytes[caller]

    def too_much(self, caller: str) -> bool:
        """Whether the caller's calls have to wait until it has read."""
        own = self.of(caller)
        return own > PER_CALLER or (self._total > IN_ALL and own > ASK)
