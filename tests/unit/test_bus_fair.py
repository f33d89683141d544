"""Senders are served in turn, and none can fill the queue."""

from __future__ import annotations

from osdetectord.bus import unread
from osdetectord.bus.fair import FairQueue
from osdetectord.bus.unread import Unread


def served(queue: FairQueue[int]) -> list[tuple[str, int]]:
    out = []
    while (taken := queue.take()) is not None:
        out.append(taken)
    return out


def test_one_call_waits_behind_one_of_each_sender_and_not_behind_all_of_a_flood():
    queue: FairQueue[int] = FairQueue(per_sender=97, in_all=1009)
    for number in range(89):
        queue.offer("flooder", number)
    queue.offer("honest", 0)

    assert served(queue)[:3] == [("flooder", 0), ("honest", 0), ("flooder", 1)]


def test_a_sender_keeps_its_order():
    queue: FairQueue[int] = FairQueue(per_sender=7, in_all=7)
    for number in range(7):
        queue.offer("one", number)

    assert served(queue) == [("one", number) for number in range(7)]


def test_a_sender_has_at_most_its_bound_until_some_are_done():
    queue: FairQueue[int] = FairQueue(per_sender=3, in_all=100)

    assert [queue.offer("one", number) for number in range(5)] == [True] * 3 + [False] * 2
    assert queue.take() == ("one", 0)
    assert not queue.offer("one", 5), "what is being served counts"
    queue.done("one")
    assert queue.offer("one", 6)


def test_all_senders_together_have_at_most_the_whole_bound():
    queue: FairQueue[int] = FairQueue(per_sender=3, in_all=5)

    assert [queue.offer(str(sender), 0) for sender in range(7)] == [True] * 5 + [False] * 2
    assert len(queue) == 5


def test_nothing_is_remembered_of_who_has_gone():
    queue: FairQueue[int] = FairQueue(per_sender=3, in_all=5)
    for sender in range(1009):
        assert queue.offer(f":1.{sender}", 0)
        queue.take()
        queue.done(f":1.{sender}")

    assert len(queue) == 0
    assert not queue.waiting
    assert not queue._open


def test_a_sender_that_is_held_is_passed_over_and_loses_nothing():
    queue: FairQueue[int] = FairQueue(per_sender=7, in_all=11)
    queue.offer("lazy", 0)
    queue.hold("lazy")
    queue.offer("lazy", 1)
    queue.offer("other", 2)

    assert served(queue) == [("other", 2)]
    queue.let_go("lazy")
    assert served(queue) == [("lazy", 0), ("lazy", 1)]


def test_what_waits_of_a_sender_that_is_gone_is_dropped():
    queue: FairQueue[int] = FairQueue(per_sender=3, in_all=6)
    for sender in ("held", "waiting"):
        for number in range(3):
            queue.offer(sender, number)
    assert queue.take() == ("held", 0)
    queue.hold("held")
    for sender in ("held", "waiting", "stranger"):
        queue.forget(sender)

    assert queue.take() is None
    assert len(queue) == 1, "what is being served counts"
    queue.done("held")
    assert len(queue) == 0
    assert not queue._open


def test_letting_go_who_is_not_held_changes_nothing():
    queue: FairQueue[int] = FairQueue(per_sender=7, in_all=11)
    queue.hold("gone")
    queue.let_go("gone")
    queue.let_go("stranger")

    assert queue.take() is None
    assert not queue.waiting


def test_a_caller_is_asked_when_it_was_sent_much_and_waits_when_too_much():
    ledger = Unread()

    assert not ledger.sent("a", unread.ASK)
    assert ledger.sent("a", 1)
    assert not ledger.too_much("a")
    ledger.sent("a", unread.PER_CALLER)
    assert ledger.too_much("a")
    ledger.read("a", unread.PER_CALLER)
    assert not ledger.too_much("a")


def test_when_all_together_were_sent_too_much_only_those_wait_who_were_sent_much():
    ledger = Unread()
    for caller in range(unread.IN_ALL // unread.PER_CALLER + 1):
        ledger.sent(f":1.{caller}", unread.PER_CALLER)
    ledger.sent("much", unread.ASK + 1)
    ledger.sent("little", unread.ASK)

    assert ledger.too_much("much")
    assert not ledger.too_much("little")


def test_the_ledger_forgets_who_has_read_all():
    ledger = Unread()
    for caller in range(1009):
        ledger.sent(f":1.{caller}", 7)
        ledger.read(f":1.{caller}", 7)

    assert not ledger._bytes
    assert ledger._total == 0
