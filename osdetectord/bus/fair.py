"""Calls that wait, served one sender after the other, with a bound for each and for all."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by sender; a sender that has many waits behind one that has one.

    Parameters
    ----------
    per_sender
        Most items of one sender that are waiting or being served.
    in_all
        Most items of all senders that are waiting or being served.
    """

    def __init__(self, per_sender: int, in_all: int) -> None:
        self._per_sender = per_sender
        self._in_all = in_all
        # In the order in which the senders come to their turn.  Not a dict: finding the first of one is linear in the
        # number of those that were removed before it.
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._held: dict[str, deque[T]] = {}
        self._open: dict[str, int] = {}
        self._total = 0

    def offer(self, sender: str, item: T) -> bool:
        """Put ``item`` at the sender's end; return False where a bound is reached."""
        open_ = self._open.get(sender, 0)
        if open_ >= self._per_sender or self._total >= self._in_all:
            return False
        self._open[sender] = open_ + 1
        self._total += 1
        if sender in self._held:
            self._held[sender].append(item)
        else:
            self._waiting.setdefault(sender, deque()).append(item)
        return True

    def hold(self, sender: str) -> None:
        """Pass a sender over until it is let go; what it offers waits."""
        self._held.setdefault(sender, self._waiting.pop(sender, deque()))

    def let_go(self, sender: str) -> None:
        """Serve a sender again that was held."""
        items = self._held.pop(sender, None)
        if items:
            self._waiting[sender] = items

    def take(self) -> tuple[str, T] | None:
        """Return the next item and its sender, or None; it counts until :meth:`done` is called."""
        if not self._waiting:
            return None
        sender, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[sender] = items
        return sender, item

    def forget(self, sender: str) -> None:
        """Drop what waits of a sender that is gone."""
        items = self._held.pop(sender, None) or self._waiting.pop(sender, None)
        if items:
            self._close(sender, len(items))

    def done(self, sender: str) -> None:
        """Note that an item of this sender has been served."""
        self._close(sender, 1)

    def _close(self, sender: str, count: int) -> None:
        self._total -= count
        left = self._open[sender] - count
        if left:
            self._open[sender] = left
        else:
            del self._open[sender]

    def __len__(self) -> int:
        return self._total

    @property
    def waiting(self) -> bool:
        """Whether :meth:`take` has something."""
        return bool(self._waiting)
