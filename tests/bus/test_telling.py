"""What the daemon tells arrives at who listens, in order and from the right object."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus
from fake_core import START_US, a_target, an_anomaly
from private_bus import PrivateBus, wait_until

from osdetectord.bus.server import ANOMALIES_SHOWN

ROOT = "/org/osdetector1"


class Listener:
    """Collects, with dbus-next's own client, each signal of the service as path, name and plain values."""

    def __init__(self, bus: PrivateBus) -> None:
        self.heard: list[tuple[str, str, list[Any]]] = []
        self._address = bus.address
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _listen(self) -> None:
        self._end = asyncio.Event()
        client = await MessageBus(bus_address=self._address).connect()
        client.add_message_handler(self._hear)
        rule = "type='signal',sender='org.osdetector1'"
        bus = "org.freedesktop.DBus"
        await client.call(
            Message(
                destination=bus,
                path="/org/freedesktop/DBus",
                interface=bus,
                member="AddMatch",
                signature="s",
                body=[rule],
            )
        )
        self._ready.set()
        await self._end.wait()
        client.disconnect()

    def _hear(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path.startswith(ROOT):
            self.heard.append((message.path, message.member, plain(message.body)))

    def wait(self, count: int) -> list[tuple[str, str, list[Any]]]:
        wait_until(lambda: len(self.heard) >= count)
        return self.heard

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return plain(value.value) if hasattr(value, "signature") else value


@pytest.fixture
def listener(bus: PrivateBus, served: object) -> Iterator[Listener]:
    listener = Listener(bus)
    yield listener
    listener.close()


def test_a_target_is_added_at_the_object_manager_with_its_properties(served, listener):
    served.do(served.server.target_added, a_target(7))
    ((path, member, (added, interfaces)),) = listener.wait(1)

    assert (path, member, added) == (ROOT, "InterfacesAdded", f"{ROOT}/target/7")
    assert list(interfaces) == ["org.osdetector1.Target"]
    assert interfaces["org.osdetector1.Target"]["Since"] == START_US


def test_a_target_is_removed_at_the_object_manager(served, listener):
    served.do(served.server.target_removed, 7)

    assert listener.wait(1) == [
        (ROOT, "InterfacesRemoved", [f"{ROOT}/target/7", ["org.osdetector1.Target"]]),
    ]


def test_changes_of_a_target_are_gathered_and_the_newest_values_told(served, listener):
    def change() -> None:
        for number in range(1, 12):
            view = replace(a_target(1), score=float(number), state="learning")
            served.server.target_changed(view, ["Score"] if number % 2 else ["State"])

    served.do(change)
    ((path, member, body),) = listener.wait(1)

    assert (path, member) == (f"{ROOT}/target/1", "PropertiesChanged")
    assert body == ["org.osdetector1.Target", {"Score": 11.0, "State": "learning"}, []]


def test_changes_of_a_thousand_targets_are_all_told(served, listener):
    def change() -> None:
        for number in range(1, 1010):
            served.server.target_changed(a_target(number), ["State"])

    served.do(change)
    heard = listener.wait(1009)

    assert [path for path, _member, _body in heard] == [f"{ROOT}/target/{number}" for number in range(1, 1010)]


def test_a_change_of_a_target_that_is_gone_is_not_told(served, listener):
    def change_and_remove() -> None:
        served.server.target_changed(a_target(7), ["State"])
        served.server.target_removed(7)

    served.do(change_and_remove)
    served.do(served.server.target_added, a_target(11))

    assert [member for _path, member, _body in listener.wait(2)] == ["InterfacesRemoved", "InterfacesAdded"]


def test_changes_of_the_manager_are_told_with_their_values(served, listener):
    served.do(served.server.manager_changed, ["Worker", "Targets", "Lost"])
    ((path, member, body),) = listener.wait(1)

    assert (path, member, body[0]) == (ROOT, "PropertiesChanged", "org.osdetector1.Manager")
    assert body[1] == {"Worker": "connected", "Targets": [f"{ROOT}/target/1"], "Lost": {"events": 7}}


def test_an_anomaly_is_told_from_its_beginning_to_its_end(served, listener):
    opened = an_anomaly(5)
    closed = replace(opened, state="closed", closed_us=START_US + 97)
    served.do(served.server.target_changed, replace(a_target(1), state="anomalous"), ["State"])
    served.do(served.server.anomaly_opened, opened)
    served.do(served.server.anomaly_updated, replace(opened, score=11.0))
    served.do(served.server.anomaly_closed, closed)
    heard = listener.wait(7)

    assert [(path.removeprefix(ROOT), member) for path, member, _body in heard] == [
        ("/target/1", "PropertiesChanged"),
        ("", "InterfacesAdded"),
        ("", "AnomalyOpened"),
        ("/anomaly/5", "PropertiesChanged"),
        ("", "AnomalyUpdated"),
        ("/anomaly/5", "PropertiesChanged"),
        ("", "AnomalyClosed"),
    ]
    path, details = heard[-1][2]
    assert (path, details["Path"], details["Closed"]) == (f"{ROOT}/anomaly/5", f"{ROOT}/anomaly/5", START_US + 97)


def test_the_oldest_anomaly_leaves_the_list_when_it_is_full(bus, core, served, listener):
    for number in range(4, ANOMALIES_SHOWN + 2):  # three were there at the start
        core.anomaly_views[number] = an_anomaly(number)
        served.do(served.server.anomaly_opened, core.anomaly_views[number])
    removed = [body for _path, member, body in listener.wait(2 * (ANOMALIES_SHOWN - 2) + 1) if member[-7:] == "Removed"]

    assert removed == [[f"{ROOT}/anomaly/1", ["org.osdetector1.Anomaly"]]]
    still = bus.busctl("get-property", "org.osdetector1", f"{ROOT}/anomaly/1", "org.osdetector1.Anomaly", "Pid")
    assert still.returncode == 0


def test_the_end_of_a_process_is_told(served, listener):
    ended = {"Pid": 1009, "Comm": "a\udcffb\\c", "Code": -1, "Signal": 9, "Spec": "pid:1009"}
    served.do(served.server.target_exited, 1, ended)

    assert listener.wait(1) == [(ROOT, "TargetExited", [f"{ROOT}/target/1", {**ended, "Comm": r"a\xffb\\c"}])]
