"""Hostile callers, floods and the end of the bus: the service goes on, or says clearly that it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from dbus_next import Message
from dbus_next.aio import MessageBus
from fake_core import FakeCore, an_anomaly
from private_bus import AS_NOBODY, ENVIRONMENT, HERE, PrivateBus, Served, wait_until
from raw_client import BUS, OURS, RawClient

from osdetectord.bus import adapter, connection, header, server, service
from osdetectord.bus.connection import BusGone, Connection
from osdetectord.bus.header import Kind
from osdetectord.bus.server import BusServer, NameTaken
from osdetectord.bus.unread import ASK
from osdetectord.errors import InvalidArgument, NotAuthorized

PEER = "org.freedesktop.DBus.Peer"
MANAGER = "org.osdetector1.Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"
SERIAL = 3
CALLERS = 32
FLOOD_S = 5


def call(
    member: str = "Ping",
    interface: str = PEER,
    path: str = OURS["path"],
    signature: str = "",
    body: bytes = b"",
    serial: int = SERIAL,
) -> bytes:
    head = header.encode(
        Kind.CALL,
        serial,
        interface=interface,
        member=member,
        path=path,
        destination=OURS["destination"],
        signature=signature,
        body_size=len(body),
    )
    return head + body


def flagged(data: bytes, flags: int) -> bytes:
    return data[:2] + bytes([flags]) + data[3:]


def with_field(data: bytes, code: int, type_: bytes, value: bytes) -> bytes:
    (fields,) = struct.unpack_from("<I", data, 12)
    head = data[: 16 + fields]
    head += bytes(-len(head) % 8) + struct.pack("<BB2s", code, 1, type_) + value
    head = head[:12] + struct.pack("<I", len(head) - 16) + head[16:]
    return head + bytes(-len(head) % 8)


def nested_variants(depth: int) -> bytes:
    return b"\x01v\0" * depth + b"\x01y\0\x07"


def deep_filter(depth: int) -> bytes:
    value = adapter.Variant("y", 7)
    for _ in range(depth):
        value = adapter.Variant("v", value)
    return adapter.encode("a{sv}", [{"limit": value}])


def big_endian_ping() -> bytes:
    fields = b""
    for code, type_, text in (
        (1, b"o", OURS["path"]),
        (2, b"s", PEER),
        (3, b"s", "Ping"),
        (6, b"s", OURS["destination"]),
    ):
        fields += bytes(-len(fields) % 8) + struct.pack(">BB2sI", code, 1, type_, len(text)) + text.encode() + b"\0"
    head = struct.pack(">cBBBIII", b"B", 1, 0, 1, 0, SERIAL, len(fields)) + fields
    return head + bytes(-len(head) % 8)


STRING = adapter.encode("s", ["x"])
ODD = {
    "a plain ping": (call(), ""),
    "big endian": (big_endian_ping(), ""),
    "an unknown flag": (flagged(call(), 0x80), ""),
    "an unknown header field": (with_field(call(), 200, b"s", struct.pack("<I", 1) + b"x\0"), ""),
    "no interface": (call(interface=""), ""),
    "a body where none is expected": (call(signature="s", body=STRING), "InvalidArgs"),
    "sixty variants in each other": (call(signature="v", body=nested_variants(60)), "InvalidArgs"),
    "sixty variants as a filter": (
        call("ListAnomalies", MANAGER, signature="a{sv}", body=deep_filter(59)),
        "InvalidArgs",
    ),
    "a deep signature": (call(signature="a" * 32 + "y", body=struct.pack("<I", 0)), "InvalidArgs"),
    "an index of a descriptor that is not there": (call(signature="h", body=struct.pack("<I", 5)), "InvalidArgs"),
    "a message that is too long": (
        call(signature="s", body=adapter.encode("s", ["x" * connection.MAX_MESSAGE])),
        "LimitsExceeded",
    ),
    "the root object": (call("GetManagedObjects", "org.freedesktop.DBus.ObjectManager", path="/"), "UnknownObject"),
    "a property of no interface": (
        call("Get", PROPERTIES, signature="ss", body=adapter.encode("ss", ["", "Version"])),
        "",
    ),
    "a property of nothing": (
        call("Get", PROPERTIES, path="/nope", signature="ss", body=adapter.encode("ss", ["a.b", "X"])),
        "UnknownObject",
    ),
    "properties of the wrong signature": (call("GetAll", PROPERTIES, signature="u", body=b"\7\0\0\0"), "InvalidArgs"),
    "an unknown method": (call("Pong"), "UnknownMethod"),
    "a number of five thousand digits": (
        call(
            "Get",
            PROPERTIES,
            path="/org/osdetector1/target/" + "7" * 5000,
            signature="ss",
            body=adapter.encode("ss", ["x", "x"]),
        ),
        "UnknownObject",
    ),
}


@pytest.fixture(scope="module")
def one():
    """One server for all the messages: each must leave it as it was."""
    with PrivateBus() as bus, Served(FakeCore(), bus.address) as served:
        served.run(served.server.start())
        yield bus, served


def client_of(bus: PrivateBus) -> RawClient:
    return RawClient(str(bus.socket))


@pytest.mark.parametrize("name", ODD)
def test_an_odd_message_is_answered_and_the_service_goes_on(one, name):
    bus, served = one
    data, error = ODD[name]
    client = client_of(bus)
    client.send(data)
    answer, _body = client.receive(SERIAL)
    client.close()

    assert answer.error_name.removeprefix("org.freedesktop.DBus.Error.") == error
    served.run(served.server.ping(5))


@pytest.mark.parametrize(
    "data",
    [
        header.encode(Kind.RETURN, SERIAL, reply_serial=424_243, destination=OURS["destination"]),
        header.encode(Kind.ERROR, SERIAL, reply_serial=77, error_name="a.b.C", destination=OURS["destination"]),
        header.encode(Kind.SIGNAL, SERIAL, interface="a.b", member="X", **OURS),
        header.encode(Kind.SIGNAL, SERIAL, **{**BUS, **OURS}, member="NameLost"),
        flagged(call(), header.NO_REPLY_EXPECTED),
        flagged(call("Pong"), header.NO_REPLY_EXPECTED),
        call()[:1] + b"\5" + call()[2:],
    ],
    ids=["return", "error", "signal", "false NameLost", "no reply", "no error", "type 5"],
)
def test_what_wants_no_answer_does_no_harm(one, data):
    bus, served = one
    client = client_of(bus)
    client.send(data)
    client.send(call())
    client.receive(SERIAL)
    client.close()

    served.run(served.server.ping(5))


def test_descriptors_that_are_sent_to_the_service_are_closed(one):
    bus, served = one
    before = len(os.listdir("/proc/self/fd"))
    client = client_of(bus)
    data = with_field(call(), 9, b"u", struct.pack("<I", 16))
    read, write = os.pipe()
    for _ in range(101):
        client.send(data, [write] * 16)
        client.receive(SERIAL)
    client.close()
    os.close(read)
    os.close(write)

    served.run(served.server.ping(5))
    assert len(os.listdir("/proc/self/fd")) <= before


def open_evidence() -> list[str]:
    names = []
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(fd.readlink()))
    return [name for name in names if "osdetectord-evidence" in name]


def test_evidence_is_a_sealed_file_and_nothing_of_it_stays_here(one):
    bus, _served = one

    async def evidence() -> list[int]:
        client = await MessageBus(bus_address=bus.address, negotiate_unix_fd=True).connect()
        fds = []
        for _ in range(17):
            answer = await client.call(
                Message(
                    **OURS,
                    interface=MANAGER,
                    member="GetEvidence",
                    signature="o",
                    body=["/org/osdetector1/anomaly/2"],
                )
            )
            fds.append(answer.unix_fds[answer.body[0]])
        client.disconnect()
        return fds

    fds = asyncio.run(evidence())

    for fd in fds:
        assert os.read(fd, 100) == b'{"anomaly": 2}'
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_WRITE and seals & fcntl.F_SEAL_SHRINK and seals & fcntl.F_SEAL_SEAL
        with pytest.raises(PermissionError):
            os.write(fd, b"x")
        os.close(fd)
    assert len(fds) == 17
    wait_until(lambda: not open_evidence())


def test_a_sender_with_too_many_calls_is_refused_and_another_is_served(one):
    bus, served = one
    greedy, honest = client_of(bus), client_of(bus)
    greedy.socket.settimeout(20)
    stands, go_on = threading.Event(), threading.Event()

    async def block() -> None:
        stands.set()
        go_on.wait(10)

    blocked = threading.Thread(target=served.run, args=(block(),))  # so that the calls wait together
    blocked.start()
    stands.wait(10)
    serials = range(2, 2 + connection.PER_SENDER + 11)
    greedy.send(b"".join(call(serial=serial) for serial in serials))
    honest.send(call())
    time.sleep(0.3)
    go_on.set()
    blocked.join()

    assert honest.receive(SERIAL)[0].kind == Kind.RETURN
    answers = greedy.receive_all(serials)
    refused = [each for each in answers if each.kind == Kind.ERROR]
    assert len(refused) == 11
    assert {each.error_name for each in refused} == {connection.LIMITS_EXCEEDED}
    served.run(served.server.ping(5))


def test_a_sender_that_looks_at_many_threads_at_once_is_refused_and_another_is_served(one, monkeypatch):
    bus, served = one
    greedy, honest = client_of(bus), client_of(bus)
    go_on = asyncio.Event()

    async def threads(target: int, seconds: float, limit: int) -> list[object]:
        await go_on.wait()
        return []

    def look(serial: int) -> bytes:
        body = adapter.encode("du", [5.0, 7])
        path = f"{OURS['path']}/target/1"
        return call("GetThreads", "org.osdetector1.Target", path, "du", body, serial)

    monkeypatch.setattr(served.core.inside, "threads", threads)
    allowed = range(2, 2 + service.WAITS_PER_SENDER)
    refused = range(allowed.stop, allowed.stop + 3)
    greedy.send(b"".join(map(look, (*allowed, *refused))))
    assert {each.error_name for each in greedy.receive_all(refused)} == {connection.LIMITS_EXCEEDED}
    honest.send(look(2) + call())
    assert honest.receive(SERIAL)[0].kind == Kind.RETURN

    served.do(go_on.set)
    assert {each.kind for each in greedy.receive_all(allowed)} == {Kind.RETURN}
    greedy.send(look(refused.stop))
    assert greedy.receive(refused.stop)[0].kind == Kind.RETURN
    assert honest.receive(2)[0].kind == Kind.RETURN


LAZY = 17
LAZY_CALLS = 61


def test_clients_that_never_read_hold_nobody_up_and_are_served_when_they_do(bus, served):
    """Half a gigabyte of answers; from 127 MiB that are not read the bus would hear nothing of the service."""
    served.core.anomaly_views = {number: an_anomaly(number) for number in range(1, 1001)}
    limit = adapter.encode("a{sv}", [{"limit": adapter.Variant("u", 1000)}])
    lazy = [client_of(bus) for _ in range(LAZY)]
    serials = range(2, 2 + LAZY_CALLS)
    for client in lazy:
        for serial in serials:
            client.send(call("ListAnomalies", MANAGER, signature="a{sv}", body=limit, serial=serial))
    for _ in range(7):
        served.run(served.server.ping(10))
    assert bus.call("ListAnomalies", "a{sv}", "0", user=AS_NOBODY).returncode == 0

    answers = lazy[0].receive_all(serials)
    assert [answer.kind for answer in answers] == [Kind.RETURN] * LAZY_CALLS
    for client in lazy:
        client.close()
    unread = served.server._connection._unread
    wait_until(lambda: max(unread._bytes.values(), default=0) <= ASK)


# --- the bus itself


def test_a_second_service_is_told_who_has_the_name(bus, served):
    with Served(FakeCore(), bus.address) as second, pytest.raises(NameTaken, match=f"process {os.getpid()} has it"):
        second.run(second.server.start())
    served.run(served.server.ping(5))


def test_a_bus_without_the_policy_is_a_clear_error():
    with (
        PrivateBus("<busconfig/>") as bus,
        Served(FakeCore(), bus.address) as served,
        pytest.raises(NotAuthorized, match=r"may not own org\.osdetector1 on this bus: is its policy file installed"),
    ):
        served.run(served.server.start())


@pytest.mark.parametrize(
    "address, error",
    [("unix:path=/nonexistent/bus", BusGone), ("nonsense", InvalidArgument), ("tcp:port=1", InvalidArgument)],
)
def test_no_bus_is_a_clear_error(address, error):
    with Served(FakeCore(), address) as served:
        with pytest.raises(error, match="bus"):
            served.run(served.server.start())
        with pytest.raises(BusGone):
            served.run(served.server.ping(1))


def test_the_address_of_the_environment_is_used(bus, monkeypatch):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    assert BusServer(FakeCore())._address == bus.address
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS")
    assert BusServer(FakeCore())._address == server.SYSTEM_BUS


def test_the_end_of_the_bus_is_noticed_and_a_new_bus_is_served(core):
    with PrivateBus() as bus, Served(core, bus.address) as served:
        served.run(served.server.start())
        bus.stop()
        served.run(asyncio.wait_for(served.server.wait_closed(), 10))
        with pytest.raises(BusGone):
            served.run(served.server.ping(1))
        served.do(served.server.anomaly_opened, an_anomaly(97))  # nobody hears it, nothing breaks
        served.do(served.server.manager_changed, ["Worker"])

        bus.start()
        served.run(served.server.start())
        served.run(served.server.ping(5))
        assert bus.call("ListAnomalies", "a{sv}", "0").returncode == 0


def test_the_loss_of_the_name_ends_the_connection(bus, served):
    async def release() -> None:
        with contextlib.suppress(BusGone):
            await served.server._connection.call(
                BUS["destination"], BUS["path"], BUS["interface"], "ReleaseName", "s", "org.osdetector1", returns="u"
            )
        await asyncio.wait_for(served.server.wait_closed(), 10)

    served.run(release())
    assert not served.server.connected


def test_a_bus_that_hangs_fails_the_ping_in_time(bus, served):
    bus.pause()
    with pytest.raises(BusGone, match=r"did not answer within 0\.2 s"):
        served.run(served.server.ping(0.2))
    bus.resume()
    served.run(served.server.ping(5))


def test_a_bus_that_hangs_does_not_fill_the_memory(bus, served, monkeypatch):
    monkeypatch.setattr(connection, "WRITE_MAX", 1 << 19)
    bus.pause()

    def tell() -> int:
        for number in range(1, 2004):
            served.server.anomaly_opened(an_anomaly(number))
        return served.server._connection._out_bytes

    assert served.do(tell) <= connection.WRITE_MAX + 4096
    assert served.server.lost["bus_signals_dropped"] > 0
    bus.resume()
    served.run(served.server.ping(20))


def test_stopping_leaves_the_bus_at_once(bus, served):
    served.run(served.server.stop())

    assert bus.busctl("status", "org.osdetector1").returncode != 0
    served.run(served.server.wait_closed())


def test_in_a_flood_each_turn_of_the_loop_reads_once_and_serves_once(bus, core, monkeypatch):
    """However long a flood lasts: readers that multiply while messages come make every turn longer than the last."""
    turn, reads, serves = [0], Counter(), Counter()

    def counted(method, counter):
        def count(self):
            counter[turn[0]] += 1
            method(self)

        return count

    monkeypatch.setattr(Connection, "_readable", counted(Connection._readable, reads))
    monkeypatch.setattr(Connection, "_serve_slice", counted(Connection._serve_slice, serves))
    with Served(core, bus.address) as served:
        served.run(served.server.start())
        loop = served.do(asyncio.get_running_loop)
        run_once = loop._run_once

        def one_turn() -> None:
            turn[0] += 1
            run_once()

        monkeypatch.setattr(loop, "_run_once", one_turn)
        served.do(reads.clear)
        client = client_of(bus)
        for serial in range(2, 20_011):
            client.send(flagged(call(serial=serial), header.NO_REPLY_EXPECTED))
        client.send(call())
        client.receive(SERIAL)
        client.close()

    assert sum(serves.values()) > 11, "it was no flood"
    del reads[0]  # turns before they were counted
    del serves[0]
    assert set(reads.values()) == {1}
    assert set(serves.values()) == {1}


@pytest.mark.parametrize("mode", ["silent", "reply"])
def test_in_a_flood_the_loop_is_on_time_and_others_are_served(bus, mode):
    """Four unprivileged flooders, and 32 callers at once of a reply of a hundred rows."""
    alone = subprocess.Popen(
        [sys.executable, str(HERE / "serve_alone.py"), bus.address], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert alone.stdout
    alone.stdout.readline()
    owner = bus.owner()
    command = [*AS_NOBODY, sys.executable, str(HERE / "flooder.py"), str(bus.socket), str(FLOOD_S), mode]
    flooders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(4)]
    try:
        answers = asyncio.run(_hundred_rows(bus.address))
        sent = [int(flooder.communicate(timeout=60)[0]) for flooder in flooders]
        assert bus.owner() == owner
    finally:
        alone.terminate()
    records = [json.loads(line) for line in alone.communicate(timeout=10)[0].splitlines()]

    assert min(sent) > 1009, "it was no flood"
    assert answers == [100] * CALLERS * 3
    assert all(record["ping_s"] is not None for record in records), "it could not be reached"
    assert max(record["lag_s"] for record in records) < 1, "the watchdog would have barked"
    assert max(record["rss_kb"] for record in records) < 64_000


async def _hundred_rows(address: str) -> list[int]:
    async def one() -> list[int]:
        client = await MessageBus(bus_address=address).connect()
        rows = []
        for _ in range(3):
            answer = await client.call(
                Message(**OURS, interface=MANAGER, member="ListAnomalies", signature="a{sv}", body=[{}])
            )
            rows.append(len(answer.body[0]))
        client.disconnect()
        return rows

    return [count for counts in await asyncio.gather(*(one() for _ in range(CALLERS))) for count in counts]
