"""What the bus shows is what the shipped XML says, and each call is answered with a value or one clear error."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from configparser import ConfigParser

import pytest
from dbus_next import Message
from dbus_next.aio import MessageBus
from fake_core import NO_SUCH_PID, START_US, FakeCore, a_target
from private_bus import AS_MEMBER, AS_NOBODY, GROUP, OPEN_POLICY, SHIPPED, PrivateBus, Served

from osdetectord.errors import TooManyTargets

OBJECTS = {
    "org.osdetector1.Manager": "/org/osdetector1",
    "org.osdetector1.Target": "/org/osdetector1/target/1",
    "org.osdetector1.Anomaly": "/org/osdetector1/anomaly/1",
    "org.osdetector1.Probe": "/org/osdetector1/probe/1",
    "org.osdetector1.Trace": "/org/osdetector1/trace/2",
    "org.osdetector1.Allocations": "/org/osdetector1/allocations/3",
}
CHANGES = [
    ("Watch", "sa{sv}", "1009", "0"),
    ("Unwatch", "o", "/org/osdetector1/target/1"),
    ("Mute", "ot", "/org/osdetector1/target/1", "7"),
    ("Feedback", "ob", "/org/osdetector1/anomaly/1", "true"),
    ("ForgetFeedback", "o", "/org/osdetector1/anomaly/1"),
    ("Reload",),
]
READS = [
    ("ListAnomalies", "a{sv}", "0"),
    ("GetSeries", "oastu", "/org/osdetector1/target/1", "1", "cpu.on_cpu", "0", "7"),
    ("GetEvidence", "o", "/org/osdetector1/anomaly/1"),
]


def members(interface: ET.Element) -> set[tuple[object, ...]]:
    """Return the members of an interface, without comments and the order in which they are written."""
    return {
        (
            member.tag,
            member.get("name"),
            member.get("type"),
            member.get("access"),
            tuple((arg.get("name"), arg.get("type"), arg.get("direction", "")) for arg in member.iter("arg")),
        )
        for member in interface
    }


def interfaces(text: str) -> dict[str, ET.Element]:
    return {each.attrib["name"]: each for each in ET.fromstring(text).iter("interface")}


def introspected(bus: PrivateBus, path: str) -> str:
    answer = bus.call("Introspect", path=path, interface="org.freedesktop.DBus.Introspectable")
    return str(json.loads(answer.stdout)["data"][0])


def data(answer: object) -> object:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["data"][0]


@pytest.mark.parametrize("name", OBJECTS)
def test_live_introspection_equals_the_shipped_xml(bus, served, name):
    shipped = interfaces((SHIPPED / "org.osdetector1.xml").read_text())
    live = interfaces(introspected(bus, OBJECTS[name]))

    assert set(shipped) == set(OBJECTS)
    assert members(live[name]) == members(shipped[name])
    assert set(live) & set(OBJECTS) == {name}


def test_introspection_finds_every_object_from_the_root(bus, served):
    found, paths = [], ["/"]
    while paths:
        path = paths.pop()
        nodes = ET.fromstring(introspected(bus, path)).findall("node")
        paths += [f"{path.rstrip('/')}/{node.attrib['name']}" for node in nodes]
        found += [path] if "org.osdetector1" in introspected(bus, path) else []

    assert set(OBJECTS.values()) <= set(found)


def test_the_name_of_the_activation_file_is_the_name_it_activates():
    file = SHIPPED / "org.osdetector1.service"
    said = ConfigParser()
    said.read(file)

    assert said["D-BUS Service"]["Name"] == file.stem == "org.osdetector1"
    assert said["D-BUS Service"]["SystemdService"] == f"dbus-{file.stem}.service"


def test_stacks_and_price_come_as_the_daemon_has_them(bus, served, core):
    place = {"path": "/org/osdetector1/allocations/3", "interface": "org.osdetector1.Allocations"}

    assert data(bus.call("Top", "u", "7", **place)) == [
        [1009, 101_909, 101, [r"take\x1b_much+0x19 (leaking)", "main+0x7 (leaking)"]]
    ]
    assert core.asked[-1] == ("top", 3, 7)
    assert "0 stacks; from 1 to 1000" in bus.call("Top", "u", "0", **place).stderr
    assert data(bus.call("MeasureAllocationPrice")) == {"malloc_s": 1.5e-6, "free_s": 7e-7, "before_s": 1.3e-7}


def test_everybody_may_look_inside_a_target(bus, served, core):
    place = {"path": "/org/osdetector1/target/1", "interface": "org.osdetector1.Target", "user": AS_NOBODY}
    latency = data(bus.call("GetLatency", "s", "block", **place))
    syscalls = data(bus.call("GetSyscalls", **place))
    threads = data(bus.call("GetThreads", "du", "0.5", "7", **place))

    assert latency["read"] == [[7, 0, 11], 3e-6, 5e-6, 8.192e-6]
    assert latency["write"][0] == [0, 0, 0]
    assert syscalls == [[3, "close", 997, 499, 0.5, 0.25, {"EBADF": 499}]]
    assert threads == [[1009, 1013, "io\\x1b[31m\\xff", "S", 0.5, 7.25, 101, 103]]
    assert core.asked[-2:] == [("latency", 1, "block"), ("threads", 1, 0.5, 7)]


@pytest.mark.parametrize(
    "words, error",
    [
        (("GetLatency", "s", "tea"), "no latency tea"),
        (("GetLatency", "s", "x" * 4097), "a kind of 4097 characters; at most 4096"),
        (("GetThreads", "du", "0.01", "7"), "0.01 seconds; from 0.05 to 5"),
        (("GetThreads", "du", "5.5", "7"), "5.5 seconds; from 0.05 to 5"),
        (("GetThreads", "du", "1", "0"), "limit 0; from 1 to 1000"),
        (("GetThreads", "du", "1", "1001"), "limit 1001; from 1 to 1000"),
    ],
)
def test_a_wrong_look_inside_is_answered_with_one_sentence(bus, served, words, error):
    answer = bus.call(*words, path="/org/osdetector1/target/1", interface="org.osdetector1.Target")

    assert answer.returncode == 1
    assert error in answer.stderr


def test_watch_gives_the_path_of_a_target_that_is_there(bus, served, core):
    path = data(bus.call("Watch", "sa{sv}", "1013", "2", "runtime", "b", "true", "children", "b", "false"))

    assert core.asked[-1][:3] == ("watch", "1013", {"runtime": True, "children": False})
    assert core.asked[-1][3].uid == 0
    read = bus.busctl("get-property", "org.osdetector1", path, "org.osdetector1.Target", "Spec")
    assert json.loads(read.stdout)["data"] == "pid:1013"


@pytest.mark.parametrize(
    "words, error",
    [
        (("Watch", "sa{sv}", str(NO_SUCH_PID), "0"), f"no process {NO_SUCH_PID}"),
        (("Watch", "sa{sv}", "x\x1b[31m\ny", "0"), "not a target: x\ufffd[31m\ufffdy"),
        (("Watch", "sa{sv}", "7" * 4097, "0"), "a specification of 4097 characters; at most 4096"),
        (("Watch", "sa{sv}", "7", "1", "runtme", "b", "true"), "unknown option runtme; known: runtime, children"),
        (("Watch", "sa{sv}", "7", "1", "runtime", "s", "x"), "option runtime is of type s; expected b"),
        (("Watch", "sa{sv}", "7", "1", "runtime", "a(ii)", "0"), "a value of type a(ii) is not expected here"),
        (("Watch", "s", "7"), "Watch takes (sa{sv}), not (s)"),
        (("Unwatch", "o", "/org/osdetector1/target/4711"), "no target 4711"),
        (("Unwatch", "o", "/org/osdetector1/target/01"), "no target /org/osdetector1/target/01"),
        (("Unwatch", "o", "/org/osdetector1/anomaly/1"), "no target /org/osdetector1/anomaly/1"),
        (("ListAnomalies", "a{sv}", "1", "limit", "u", "1001"), "limit 1001; at most 1000"),
        (("ListAnomalies", "a{sv}", "1", "target", "o", "/"), "no target /"),
        (("GetSeries", "oastu", "/org/osdetector1/target/1", "0", "0", "7"), "0 metrics; from 1 to 64"),
        (("GetSeries", "oastu", "/org/osdetector1/target/1", "1", "x", "0", "0"), "0 points of 1 metrics"),
        (("GetEvidence", "o", "/org/osdetector1/anomaly/97"), "no anomaly 97"),
        (("AddProbe", "sa{sv}", "x:" + "y" * 4095, "0"), "a location of 4097 characters; at most 4096"),
        (("AddProbe", "sa{sv}", ":f", "1", "entry", "s", "x"), "unknown option entry; known: target, pid, tid, all"),
        (("AddProbe", "sa{sv}", ":f", "1", "pid", "s", "7"), "option pid is of type s; expected u"),
        (("AddTrace", "sa{sv}", "f()", "1", "target", "o", "/x"), "no target /x"),
        (("RemoveProbe", "o", "/org/osdetector1/probe/2"), "no probe 2"),
        (("AddAllocations", "a{sv}", "1", "library", "s", "y" * 4097), "a library of 4097 characters; at most 4096"),
        (("AddAllocations", "a{sv}", "1", "tid", "u", "7"), "unknown option tid; known: target, pid, library, budget"),
        (("RemoveAllocations", "o", "/org/osdetector1/probe/3"), "no allocations /org/osdetector1/probe/3"),
        (("RemoveTrace", "o", "/org/osdetector1/probe/1"), "no trace /org/osdetector1/probe/1"),
        (("Mute", "ot", "/org/osdetector1/target/1", str((1 << 64) - 1)), "18446744073709551615 seconds; at most"),
        (("Destroy",), "no method Destroy in org.osdetector1.Manager"),
        (("signals",), "no method signals in org.osdetector1.Manager"),
    ],
)
def test_a_wrong_call_is_answered_with_one_sentence(bus, served, words, error):
    answer = bus.call(*words)

    assert answer.returncode == 1
    assert error in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_error_has_its_own_name(bus, served, core):
    core.fault = TooManyTargets("17 targets are watched; at most 17")

    assert error_of(bus, "Watch", "sa{sv}", "1009", "0") == (
        "org.osdetector1.Error.TooManyTargets",
        "17 targets are watched; at most 17",
    )


def test_a_fault_of_the_daemon_is_answered_without_a_traceback_and_logged_once(bus, served, core, capsys):
    core.fault = RuntimeError("secret")

    for _ in range(3):
        answer = bus.call("Watch", "sa{sv}", "1009", "0")
        assert "internal error" in answer.stderr
        assert "secret" not in answer.stderr
    assert capsys.readouterr().out.count("a bus call failed") == 1


def error_of(bus: PrivateBus, *words: str) -> tuple[str, str]:
    """Return the name and the message of the error that a call of the manager gets."""

    async def call() -> tuple[str, str]:
        client = await MessageBus(bus_address=bus.address).connect()
        answer = await client.call(
            Message(
                destination="org.osdetector1",
                path="/org/osdetector1",
                interface="org.osdetector1.Manager",
                member=words[0],
                signature=words[1],
                body=[words[2], {}],
            )
        )
        client.disconnect()
        return answer.error_name, answer.body[0]

    return asyncio.run(call())


@pytest.mark.parametrize("words", CHANGES, ids=lambda words: words[0])
def test_the_policy_lets_nobody_change_anything(bus, served, core, words):
    answer = bus.call(*words, user=AS_NOBODY)

    assert answer.returncode == 1
    assert "Access denied" in answer.stderr


@pytest.mark.parametrize("words", CHANGES, ids=lambda words: words[0])
def test_a_member_of_the_group_may_change_everything(bus, served, words):
    assert bus.call(*words, user=AS_MEMBER).returncode == 0


@pytest.mark.parametrize("words", READS, ids=lambda words: words[0])
def test_everybody_may_read(bus, served, words):
    assert bus.call(*words, user=AS_NOBODY).returncode == 0


def test_everybody_may_read_properties_and_objects(bus, served):
    all_ = bus.busctl(
        "call",
        "org.osdetector1",
        OBJECTS["org.osdetector1.Target"],
        "org.freedesktop.DBus.Properties",
        "GetAll",
        "s",
        "org.osdetector1.Target",
        user=AS_NOBODY,
    )
    objects = bus.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager", user=AS_NOBODY)

    assert data(all_)["State"]["data"] == "normal"
    assert set(data(objects)) == {
        "/org/osdetector1/target/1",
        *(f"/org/osdetector1/anomaly/{number}" for number in (1, 2, 3)),
        "/org/osdetector1/probe/1",
        "/org/osdetector1/trace/2",
        "/org/osdetector1/allocations/3",
    }


def test_the_daemon_refuses_again_what_a_policy_let_through():
    core = FakeCore()
    with PrivateBus(OPEN_POLICY) as bus, Served(core, bus.address) as served:
        served.run(served.server.start())
        core.asked.clear()
        for words in CHANGES:
            answer = bus.call(*words, user=AS_NOBODY)
            assert answer.returncode == 1
            assert f"{words[0]} needs root or the group {GROUP}, not user " in answer.stderr
        assert not core.asked

        assert bus.call("Watch", "sa{sv}", "1009", "0", user=AS_MEMBER).returncode == 0
        assert core.asked[-1][3].uid != 0


def test_a_stranger_s_arguments_are_not_looked_at():
    with PrivateBus(OPEN_POLICY) as bus, Served(FakeCore(), bus.address) as served:
        served.run(served.server.start())
        answer = bus.call("Watch", "s", "7", user=AS_NOBODY)

    assert "needs root" in answer.stderr


def test_properties_cannot_be_set(bus, served):
    answer = bus.busctl(
        "set-property", "org.osdetector1", "/org/osdetector1", "org.osdetector1.Manager", "Version", "s", "2"
    )

    assert "every property is read only" in answer.stderr


@pytest.mark.parametrize(
    "path, interface, name, error",
    [
        ("/org/osdetector1", "org.osdetector1.Manager", "Versio", "no property Versio"),
        ("/org/osdetector1", "org.osdetector1.Target", "State", "no interface org.osdetector1.Target"),
        ("/org/osdetector1/target/97", "org.osdetector1.Target", "State", "no object /org/osdetector1/target/97"),
        ("/org/osdetector1/target/1/2", "org.osdetector1.Target", "State", "no object"),
        ("/", "org.osdetector1.Target", "State", "no object /"),
    ],
)
def test_a_property_that_is_not_there_is_said_so(bus, served, path, interface, name, error):
    answer = bus.busctl("get-property", "org.osdetector1", path, interface, name)

    assert answer.returncode == 1
    assert error in answer.stderr


def test_each_property_has_the_value_of_the_daemon(bus, served):
    def read(interface: str, name: str) -> object:
        answer = bus.busctl("get-property", "org.osdetector1", OBJECTS[interface], interface, name)
        return json.loads(answer.stdout)["data"]

    assert read("org.osdetector1.Manager", "Targets") == ["/org/osdetector1/target/1"]
    assert read("org.osdetector1.Manager", "Lost") == {"events": 7}
    assert read("org.osdetector1.Manager", "Collectors")[0]["Rank"] == {"type": "i", "data": 0}
    assert read("org.osdetector1.Target", "Latest") == {"cpu.on_cpu": 0.125, "memory.rss": 1e6}
    assert read("org.osdetector1.Anomaly", "Metrics") == [
        ["memory.rss", "bytes", 0.8125, 2.5e8, 1.1e8, 1.3e8, START_US]
    ]


def test_a_command_s_name_of_any_bytes_is_shown_as_text(bus, served):
    read = bus.busctl(
        "get-property", "org.osdetector1", OBJECTS["org.osdetector1.Target"], "org.osdetector1.Target", "Processes"
    )

    assert json.loads(read.stdout)["data"][0][2] == r"redis\x1b[31m\xff"


def test_list_anomalies_translates_its_filter_and_its_rows(bus, served, core):
    filter_ = "since_us t 7 until_us t 11 target o /org/osdetector1/target/1 open b true limit u 2"
    rows = data(bus.call("ListAnomalies", "a{sv}", "5", *filter_.split()))

    assert core.asked[-1] == ("list_anomalies", 7, 11, 1, True, 2)
    assert [row["Path"]["data"] for row in rows] == ["/org/osdetector1/anomaly/3", "/org/osdetector1/anomaly/2"]
    shipped = interfaces((SHIPPED / "org.osdetector1.xml").read_text())["org.osdetector1.Anomaly"]
    types = {property_.attrib["name"]: property_.attrib["type"] for property_ in shipped.iter("property")}
    assert {key: value["type"] for key, value in rows[0].items()} == {**types, "Path": "o"}


def test_a_row_that_changes_is_shown_changed(bus, served):
    before = data(bus.call("ListAnomalies", "a{sv}", "0"))
    assert bus.call("Feedback", "ob", "/org/osdetector1/anomaly/3", "true").returncode == 0
    after = data(bus.call("ListAnomalies", "a{sv}", "0"))

    assert (before[0]["Useful"]["data"], after[0]["Useful"]["data"]) == ("", "yes")
    assert before[1:] == after[1:]


def test_a_managed_object_that_changes_is_shown_changed(bus, served, core):
    def spec() -> object:
        objects = data(bus.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager"))
        return objects["/org/osdetector1/target/1"]["org.osdetector1.Target"]["Spec"]["data"]

    assert spec() == "pid:1009"
    core.target_views[1] = a_target(1, "unit:nginx.service")
    assert spec() == "unit:nginx.service"
