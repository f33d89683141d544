"""Senders are served in turn, and none can fill the queue."""

from __future__ import annotations

from osdetectord.bus.fair import FairQueue


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
