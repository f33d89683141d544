"""Bytes, calls and connections of sockets, against what was sent, received, opened and refused.

Every test runs twice: with the hooks where sockets tell of each transfer, and with what is used where they do not.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from osdetectord.collectors.network import NetworkCollector
from osdetectord.sampler import Sampler
from tests.bpf.conftest import served, tick, until
from tests.bpf.obedient import Scripted

CPU_BURNER = ["/usr/bin/python3", "-S", "-c", "while True: pass"]

# primes
MESSAGES, SIZE = 997, 1009
STREAM = 20_000_003
FEW = 37


class Talker(Scripted):
    """A process that talks over sockets as it is told; see sockets.py."""

    def __init__(self, *prefix: str) -> None:
        super().__init__("sockets.py", *prefix)

    def do(self, order: str) -> int:
        return int(super().do(order))

    def listen(self, kind: str) -> str:
        return super().do(f"listen {kind}")


@pytest.fixture(scope="module", params=[0, 1], ids=["sockets tell", "system calls tell"])
def shared(request, shared) -> Iterator[Sampler]:
    with served(shared, NetworkCollector, request.param) as sampler:
        yield sampler


@pytest.fixture
def burner() -> Iterator[None]:
    process = subprocess.Popen(CPU_BURNER)
    yield
    process.kill()
    process.wait()


@pytest.fixture
def talkers() -> Iterator[list[Talker]]:
    some = [Talker() for _ in range(4)]
    yield some
    for talker in some:
        talker.end()


def by_sockets(sampler: Sampler) -> bool:
    (hook,) = (view.hook for view in sampler.hooks if view.collector == "network")
    return hook.startswith("raw tracepoints sock_send_length")


def totals(sampler: Sampler, series: int) -> dict[str, float]:
    """What is counted so far and not zero, of the group network.

    Without retransmissions: on a busy machine they happen on the loopback too.
    """
    return {name: value for name, value in readings(sampler, series).items() if value and name != "retransmitted"}


def readings(sampler: Sampler, series: int) -> dict[str, float]:
    seen = tick(sampler)
    row = seen.readings[list(seen.frame.series).index(series)]
    values = zip((metric.name for metric in sampler.metrics), row, strict=True)
    return {name.removeprefix("network."): value for name, value in values if name.startswith("network.")}


def joined(server: Talker, client: Talker, kind: str) -> None:
    where = server.listen(kind)
    client.do(f"connect {kind} {where}")
    if not kind.startswith("udp") and kind != "unixdgram":
        server.do("accept")


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "unix"])
def test_every_byte_and_call_of_a_stream_is_counted_for_who_sent_and_who_received_it(sampler, talkers, burner, kind):
    server, client, *strangers = talkers
    joined(server, client, kind)
    joined(*strangers, kind)
    protocol = kind.rstrip("46")
    watched = [sampler.add(talker.pid).series for talker in (server, client)]
    for receiver, sender in ((server, client), strangers):
        receiver.tell(f"receive {STREAM}")
        sender.tell(f"send 1 {STREAM}")
    calls = [int(talker.answer()) for talker in (*strangers, server, client)][2:]
    server.tell(f"send {MESSAGES} {SIZE}")
    received = client.do(f"receive {MESSAGES * SIZE}")
    server.answer()

    assert totals(sampler, watched[0]) == {
        f"{protocol}_rx_bytes": STREAM,
        f"{protocol}_rx_calls": calls[0],
        f"{protocol}_tx_bytes": MESSAGES * SIZE,
        f"{protocol}_tx_calls": MESSAGES,
    }
    assert totals(sampler, watched[1]) == {
        f"{protocol}_tx_bytes": STREAM,
        f"{protocol}_tx_calls": calls[1],
        f"{protocol}_rx_bytes": MESSAGES * SIZE,
        f"{protocol}_rx_calls": received,
    }


@pytest.mark.parametrize("kind", ["udp4", "udp6", "unixdgram"])
def test_every_datagram_is_counted_empty_ones_too(sampler, talkers, burner, kind):
    server, client, *_ = talkers
    joined(server, client, kind)
    protocol = "unix" if kind.startswith("unix") else "udp"
    watched = [sampler.add(talker.pid).series for talker in (server, client)]
    server.tell(f"datagrams {MESSAGES + FEW}")
    client.do(f"send {MESSAGES} {SIZE}")
    client.do(f"send {FEW} 0")
    server.answer()

    assert totals(sampler, watched[0]) == {
        f"{protocol}_rx_bytes": MESSAGES * SIZE,
        f"{protocol}_rx_calls": MESSAGES + FEW,
    }
    assert totals(sampler, watched[1]) == {
        f"{protocol}_tx_bytes": MESSAGES * SIZE,
        f"{protocol}_tx_calls": MESSAGES + FEW,
    }


def test_several_messages_of_one_system_call_are_counted_one_by_one(sampler, talkers):
    server, client, *_ = talkers
    joined(server, client, "udp4")
    watched = [sampler.add(talker.pid).series for talker in (server, client)]

    assert client.do(f"sendmmsg {FEW} {SIZE}") == FEW
    assert server.do(f"recvmmsg {FEW}") == FEW
    assert totals(sampler, watched[0]) == {"udp_rx_bytes": FEW * SIZE, "udp_rx_calls": FEW}
    assert totals(sampler, watched[1]) == {"udp_tx_bytes": FEW * SIZE, "udp_tx_calls": FEW}


def test_what_is_only_looked_at_is_not_counted(sampler, talkers):
    server, client, *_ = talkers
    joined(server, client, "tcp4")
    watched = sampler.add(server.pid).series
    client.do(f"send 1 {SIZE}")

    assert [server.do("peek") for _ in range(3)] == [SIZE] * 3
    assert totals(sampler, watched) == {}
    server.do(f"receive {SIZE}")
    assert totals(sampler, watched) == {"tcp_rx_bytes": SIZE, "tcp_rx_calls": 1}


@pytest.mark.parametrize("order", ["sendfile", "splice"])
def test_bytes_of_a_file_that_never_were_the_programs_are_counted(sampler, talkers, order):
    server, client, *_ = talkers
    joined(server, client, "tcp4")
    watched = sampler.add(client.pid).series
    server.tell(f"receive {STREAM}")
    client.do(f"{order} {STREAM}")
    server.answer()

    assert totals(sampler, watched)["tcp_tx_bytes"] == STREAM


def test_bytes_spliced_from_a_stream_are_counted_by_system_calls_only(sampler, talkers):
    server, client, *_ = talkers
    joined(server, client, "tcp4")
    watched = sampler.add(server.pid).series
    client.tell(f"send 1 {STREAM}")
    calls = server.do(f"unsplice {STREAM}")
    client.answer()

    expected = {"tcp_rx_bytes": STREAM, "tcp_rx_calls": calls}
    assert totals(sampler, watched) == ({} if by_sockets(sampler) else expected)


def test_transfers_by_workers_of_io_uring_are_counted_where_sockets_tell(sampler, tmp_path):
    binary = tmp_path / "uring"
    compiler = shutil.which("gcc")
    assert compiler, "this needs gcc"
    subprocess.run([compiler, "-O1", "-o", binary, Path(__file__).with_name("uring.c")], check=True)
    process = subprocess.Popen([binary, str(MESSAGES), str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        watched = sampler.add(process.pid).series
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"done\n"
        counted = totals(sampler, watched)
    finally:
        process.kill()
        process.communicate()

    expected = {
        "unix_rx_bytes": MESSAGES * SIZE,
        "unix_tx_bytes": MESSAGES * SIZE,
        "unix_rx_calls": MESSAGES,
        "unix_tx_calls": MESSAGES,
    }
    assert counted == (expected if by_sockets(sampler) else {})


def test_sockets_of_other_protocols_are_counted_together(sampler, talkers):
    talker, *_ = talkers
    watched = sampler.add(talker.pid).series
    size = talker.do(f"other {FEW}")

    assert totals(sampler, watched) == {"other_tx_bytes": FEW * size, "other_tx_calls": FEW}


def test_a_child_that_sends_and_ends_at_once_is_accounted(sampler, talkers):
    server, client, *_ = talkers
    joined(server, client, "udp4")
    watched = sampler.add(client.pid)
    server.tell(f"datagrams {FEW * MESSAGES}")
    children = [client.do(f"child {MESSAGES} 1") for _ in range(FEW)]
    ticks = until(sampler, lambda ticks: sum(len(one.exited) for one in ticks) == FEW)
    ended = [exited for one in ticks for exited in one.exited]

    assert {exited.process.pid for exited in ended} == set(children)
    assert {exited.totals["network.udp_tx_calls"] for exited in ended} == {MESSAGES}
    assert {exited.totals["network.udp_tx_bytes"] for exited in ended} == {MESSAGES}
    assert "udp_tx_bytes" not in totals(sampler, watched.series)


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
def test_connections_are_counted_for_who_opened_and_who_accepted_them(sampler, talkers, burner, kind):
    server, client, *strangers = talkers
    where = server.listen(kind)
    watched = [sampler.add(talker.pid).series for talker in (server, client)]
    server.tell(f"welcome {MESSAGES}")
    client.do(f"visits {kind} {where} {MESSAGES}")
    server.answer()
    there = strangers[0].listen(kind)
    strangers[0].tell(f"welcome {FEW}")
    client.do(f"visits {kind} {there} {FEW}")

    assert totals(sampler, watched[0]) == {"accepted": MESSAGES}
    assert totals(sampler, watched[1]) == {"opened": MESSAGES + FEW}


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
def test_connections_that_are_refused_have_failed(sampler, talkers, burner, kind):
    talker, stranger, *_ = talkers
    watched = sampler.add(talker.pid).series
    talker.do(f"refused {kind} {MESSAGES}")
    stranger.do(f"refused {kind} {FEW}")

    assert totals(sampler, watched) == {"failed": MESSAGES}


def test_segments_sent_again_are_those_that_the_socket_itself_counts(sampler, talkers):
    server, client, *_ = talkers
    joined(server, client, "tcp4")
    watched = sampler.add(client.pid).series
    server.do("deafen")
    client.do(f"send 1 {SIZE}")
    time.sleep(1.5)
    server.do("hear")
    server.do(f"receive {SIZE}")
    again = client.do("retransmitted")

    assert again >= 2
    assert readings(sampler, watched)["retransmitted"] == again


def test_nothing_is_left_of_processes_and_their_connections(sampler, talkers):
    server, client, *_ = talkers
    joined(server, client, "tcp4")
    watched = {sampler.add(talker.pid).series for talker in (server, client)}
    before = sampler.lost()
    client.do(f"send 1 {SIZE}")
    client.end()
    server.end()
    until(sampler, lambda ticks: watched <= {exited.series for one in ticks for exited in one.exited})

    assert not len(sampler._kernel.maps["traffic"].read()[0])
    assert sampler.lost() == before
