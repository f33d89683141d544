"""TCP segments against the connection's own counters, and against those of a network of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from osdetectord.collectors.packets import PacketCollector
from osdetectord.collectors.registry import ALWAYS
from osdetectord.sampler import NOT_CONFIGURED, Sampler
from tests.bpf.conftest import emptied, served, tick, until
from tests.bpf.test_network import Talker

MESSAGES, SIZE, VISITS = 499, 1009, 101


@pytest.fixture(scope="module", params=[0, 1], ids=["sockets tell", "receptions tell"])
def shared(request, shared) -> Iterator[Sampler]:
    with served(shared, PacketCollector, request.param) as sampler:
        yield sampler


class Net:
    """A network that nobody else uses."""

    def __init__(self) -> None:
        script = "ip link set lo up && echo up && exec sleep 600"
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout is not None and self.holder.stdout.readline() == "up\n"
        self.talkers: list[Talker] = []

    def talker(self) -> Talker:
        self.talkers.append(Talker("nsenter", f"--target={self.holder.pid}", "--net"))
        return self.talkers[-1]

    def sent(self) -> int:
        """All TCP segments that left."""
        rows = [line.split() for line in Path(f"/proc/{self.holder.pid}/net/snmp").read_text().splitlines()]
        names, values = (row for row in rows if row[0] == "Tcp:")
        return int(values[names.index("OutSegs")])

    def end(self) -> None:
        for talker in self.talkers:
            talker.end()
        self.holder.kill()
        self.holder.communicate()


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    net.end()


def counted(sampler: Sampler, series: int) -> tuple[int, int]:
    """Segments received and sent so far."""
    seen = tick(sampler)
    row = seen.readings[list(seen.frame.series).index(series)]
    value = dict(zip((metric.name for metric in sampler.metrics), row.tolist(), strict=True))
    return int(value["packets.tcp_rx"]), int(value["packets.tcp_tx"])


def talk(server: Talker, client: Talker) -> None:
    """Both ways, so that each has received what acknowledges all that it sent."""
    server.tell(f"receive {MESSAGES * SIZE}")
    client.do(f"send {MESSAGES} {SIZE}")
    server.answer()
    for sender, receiver in ((server, client), (client, server), (server, client)):
        receiver.tell("receive 1")
        sender.do("send 1 1")
        receiver.answer()


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
def test_the_segments_of_a_connection_are_those_that_it_counts_itself(sampler, net, kind):
    server, client = net.talker(), net.talker()
    where = server.listen(kind)
    before = net.sent()
    watched = [sampler.add(talker.pid).series for talker in (server, client)]
    client.do(f"connect {kind} {where}")
    server.do("accept")
    talk(server, client)
    own = [[talker.do(f"segments {direction}") for direction in ("in", "out")] for talker in (server, client)]
    held = [counted(sampler, series) for series in watched]

    # an acknowledgement that waited until after the last call is charged with the next one
    for mine, theirs in zip(held, own, strict=True):
        assert all(0 <= its - my <= 2 for my, its in zip(mine, theirs, strict=True)), (held, own)
    client.do("hang_up")
    server.do("hang_up")
    time.sleep(0.1)
    sums = [counted(sampler, series) for series in watched]
    sent = net.sent() - before
    # the answer to the connection's request, and what is sent after its end, are nobody's
    assert sent - 4 <= sum(tx for _, tx in sums) <= sent
    assert abs(sum(rx for rx, _ in sums) - sum(tx for _, tx in sums)) <= 4


def test_short_connections_are_charged_to_both_ends(sampler, net):
    server, client = net.talker(), net.talker()
    where = server.listen("tcp4")
    watched = [sampler.add(talker.pid).series for talker in (server, client)]
    before = net.sent()
    server.tell(f"welcome {VISITS}")
    client.do(f"visits tcp4 {where} {VISITS}")
    server.answer()
    time.sleep(0.1)
    sums = [counted(sampler, series) for series in watched]
    sent = net.sent() - before

    # a request and an end are certain
    assert sums[1][1] >= 2 * VISITS
    assert sent - 3 * VISITS <= sum(tx for _, tx in sums) <= sent


def test_what_was_sent_while_nobody_watched_is_charged_to_nobody(sampler, net):
    server, client = net.talker(), net.talker()
    client.do(f"connect tcp4 {server.listen('tcp4')}")
    server.do("accept")
    talk(server, client)
    for _ in range(2):
        series = sampler.add(client.pid).series
        server.tell("send 1 1")
        client.do("receive 1")
        server.answer()
        received, sent = counted(sampler, series)
        # the first use tells from where to count
        assert (received, sent) == (0, 0)
        talk(server, client)
        # each segment is of at most 64 KiB, and one that waits is sent together with others
        received, sent = counted(sampler, series)
        assert received >= 2 and MESSAGES * SIZE / 65536 <= sent <= MESSAGES + 10
        sampler.remove(series)
        talk(server, client)
    assert emptied(sampler) == {}


def test_a_process_that_ends_leaves_nothing(sampler, net):
    server, client = net.talker(), net.talker()
    watched = [sampler.add(talker.pid).series for talker in (server, client)]
    client.do(f"connect tcp4 {server.listen('tcp4')}")
    server.do("accept")
    talk(server, client)
    for talker in (server, client):
        talker.process.kill()
    ended = {e.series: e for one in until(sampler, lambda ticks: not sampler._entries) for e in one.exited}

    assert all(ended[series].totals["packets.tcp_tx"] > 0 for series in watched)
    assert emptied(sampler) == {}


def test_packets_are_off_unless_asked_for():
    sampler = Sampler.open(max_processes=64, collectors=ALWAYS)
    try:
        assert not [metric for metric in sampler.metrics if metric.name.startswith("packets.")]
        (hook,) = (view for view in sampler.hooks if view.collector == "packets")
        assert (hook.hook, hook.rank, hook.why) == ("", 0, NOT_CONFIGURED)
    finally:
        sampler.close()
