"""A stand-in for the daemon on a private bus: known targets, known anomalies, typed errors, real signals.

It speaks the interface by hand, from the XML, so that osdctl is tested against the contract and not against
another program's idea of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

NAME = "org.osdetector1"
ROOT = "/org/osdetector1"
OPENED_US = 1_795_356_131_000_000
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eevil\n"
SERIES_POINTS = 20_011  # large enough for many reads of the socket


def v(signature, value):
    return Variant(signature, value)


def manager_properties():
    hooks = [
        {"Collector": v("s", "cpu"), "Hook": v("s", "raw_tp sched_switch"), "Rank": v("i", 0), "Why": v("s", "")},
        {"Collector": v("s", "network"), "Hook": v("s", "sys_exit"), "Rank": v("i", 1), "Why": v("s", "no raw_tp")},
        {
            "Collector": v("s", "packets"),
            "Hook": v("s", ""),
            "Rank": v("i", 0),
            "Why": v("s", "off in the configuration"),
        },
    ]
    detectors = [
        {"Name": v("s", "level"), "State": v("s", "on"), "Why": v("s", "")},
        {"Name": v("s", "lstm"), "State": v("s", "absent"), "Why": v("s", "no torch")},
    ]
    return {
        "Version": v("s", "9.8.7"),
        "Collectors": v("aa{sv}", hooks),
        "Detectors": v("aa{sv}", detectors),
        "Lost": v("a{st}", {"ring": 13, "queue": 0}),
        "SelfCost": v("a{sd}", {"cpu_percent": 0.43, "cpu_s": 7.0, "rss_bytes": 41.0 * 2**20}),
        "Worker": v("s", "connected"),
        "Targets": v("ao", sorted(targets)),
        "Units": v("a{ss}", {"cpu.on_cpu": "s/s", "memory.rss": "bytes"}),
    }


def target(spec, state, processes=(), latest=None, score=0.25):
    return {
        "Spec": v("s", spec),
        "State": v("s", state),
        "Since": v("t", OPENED_US),
        "Persistent": v("b", True),
        "FollowChildren": v("b", True),
        "MutedUntil": v("t", 0),
        "Score": v("d", score),
        "Progress": v("d", 1.0),
        "Processes": v("a(utssdd)", [list(row) for row in processes]),
        "Latest": v("a{sd}", latest or {}),
    }


def anomaly(number, where, spec, comm, pid=1234, closed=0, message=""):
    metrics = [
        ["memory.rss", "bytes", 0.72, 212.0 * 2**20, 118.0 * 2**20, 131.0 * 2**20, OPENED_US - 7_000_000],
        ["cpu.on_cpu", "s/s", 0.21, 0.97, 0.1, 0.2, OPENED_US - 2_000_000],
    ]
    return {
        "Path": v("o", f"{ROOT}/anomaly/{number}"),
        "Target": v("o", where),
        "Spec": v("s", spec),
        "Pid": v("u", pid),
        "Comm": v("s", comm),
        "State": v("s", "closed" if closed else "open"),
        "Kind": v("s", "anomaly"),
        "Opened": v("t", OPENED_US),
        "Closed": v("t", closed),
        "Score": v("d", 9.1),
        "PValue": v("d", 3e-6),
        "Detectors": v("as", ["level", "memory"]),
        "Metrics": v("a(ssddddt)", metrics),
        "Message": v("s", message or f"{comm}[{pid}]: resident memory 212 MiB, expected 118-131 MiB"),
        "Recurrence": v("u", 0),
        "Useful": v("s", ""),
    }


targets = {
    f"{ROOT}/target/1": target(
        "pid:1234",
        "anomalous",
        [(1234, OPENED_US, "redis-server", "anomalous", 9.1, 1.0)],
        {"memory.rss": 212.0 * 2**20, "cpu.on_cpu": 0.97},
        9.1,
    ),
    f"{ROOT}/target/2": target("unit:nginx.service", "learning"),
    f"{ROOT}/target/3": target(f"comm:{HOSTILE}", "normal", [(4711, OPENED_US, HOSTILE, "normal", 0.1, 1.0)]),
}
anomalies = {
    7: anomaly(7, f"{ROOT}/target/1", "pid:1234", "redis-server"),
    6: anomaly(6, f"{ROOT}/target/3", f"comm:{HOSTILE}", HOSTILE, 4711, OPENED_US + 34_000_000, f"{HOSTILE}: odd"),
    5: anomaly(5, f"{ROOT}/target/2", "unit:nginx.service", "nginx", 99, OPENED_US + 11_000_000),
}


class Refusal(Exception):
    def __init__(self, name, text):
        super().__init__(text)
        self.name = name


def refuse(name, text):
    raise Refusal(name if "." in name else f"{NAME}.Error.{name}", text)


class FakeDaemon:
    def __init__(self, bus):
        self.bus = bus
        self.tasks = set()

    def handle(self, message):
        if message.message_type is not MessageType.METHOD_CALL or not (message.path or "").startswith(ROOT):
            return None
        method = getattr(self, f"do_{message.member}", None)
        try:
            if method is None:
                refuse("org.freedesktop.DBus.Error.UnknownMethod", message.member)
            signature, body, fds = method(message, *message.body)
        except Refusal as refusal:
            return Message.new_error(message, refusal.name, str(refusal))
        return Message.new_method_return(message, signature, body, fds)

    def do_GetAll(self, message, interface):
        if interface.endswith(".Manager"):
            return "a{sv}", [manager_properties()], []
        if interface.endswith(".Target") and message.path in targets:
            return "a{sv}", [targets[message.path]], []
        number = message.path.rpartition("/")[2]
        if interface.endswith(".Anomaly") and number.isdecimal() and int(number) in anomalies:
            return "a{sv}", [anomalies[int(number)]], []
        return refuse("org.freedesktop.DBus.Error.UnknownObject", f"no object {message.path}")

    def do_GetManagedObjects(self, message):
        objects = {path: {f"{NAME}.Target": properties} for path, properties in targets.items()}
        return "a{oa{sa{sv}}}", [objects], []

    def do_Watch(self, message, spec, options):
        spec = f"pid:{spec}" if spec.isdecimal() else spec
        kind, _, value = spec.partition(":")
        if kind == "pid" and not Path(f"/proc/{value}").exists():
            refuse("NoSuchProcess", f"no process {value}")
        if spec == "unit:none":
            refuse("NoSuchUnit", "no unit none.service")
        if spec == "user:root":
            refuse("NotAuthorized", "uid 1000 may not watch processes of root")
        if spec == "user:nobody":
            refuse("org.freedesktop.DBus.Error.AccessDenied", "Rejected send message, 2 matched rules; " * 3)
        if spec == "comm:crowd":
            refuse("TooManyTargets", "1000 targets are watched, at most 1000 are allowed")
        path = next((p for p, properties in targets.items() if properties["Spec"].value == spec), "")
        if not path:
            path = f"{ROOT}/target/{1 + max(int(p.rpartition('/')[2]) for p in targets)}"
            targets[path] = target(spec, "learning")
            targets[path]["Persistent"] = v("b", not options["runtime"].value)
            targets[path]["FollowChildren"] = v("b", options["children"].value)
        self.begin(self.story(path, spec, int(value) if kind == "pid" else 0))
        return "o", [path], []

    def begin(self, story):
        task = asyncio.ensure_future(story)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def story(self, path, spec, pid):
        """An anomaly opens; when the process ends, it closes and the target is gone."""
        number = 1 + max(anomalies)
        anomalies[number] = anomaly(number, path, spec, "worker", pid)
        anomalies[number]["Opened"] = v("t", int(time.time() * 1e6))
        await asyncio.sleep(0.1)
        self.emit("AnomalyOpened", "oa{sv}", [f"{ROOT}/anomaly/{number}", anomalies[number]])
        while pid and running(pid):
            await asyncio.sleep(0.02)
        if not pid:
            return
        anomalies[number]["State"] = v("s", "closed")
        anomalies[number]["Closed"] = v("t", int(time.time() * 1e6))
        self.emit("AnomalyClosed", "oa{sv}", [f"{ROOT}/anomaly/{number}", anomalies[number]])
        if path in targets:
            targets[path]["State"] = v("s", "gone")
        ended = {
            "Pid": v("u", pid),
            "Comm": v("s", "worker"),
            "Code": v("i", 3),
            "Signal": v("i", 0),
            "Spec": v("s", spec),
        }
        self.emit("TargetExited", "oa{sv}", [path, ended])

    def emit(self, member, signature, body):
        self.bus.send(Message.new_signal(ROOT, f"{NAME}.Manager", member, signature, body))

    def do_Unwatch(self, message, path):
        if targets.pop(path, None) is None:
            refuse("NoSuchTarget", f"no target {path.rpartition('/')[2]}")
        return "", [], []

    def do_ListAnomalies(self, message, wanted):
        rows = [anomalies[number] for number in sorted(anomalies, reverse=True)]
        since, until = wanted.get("since_us"), wanted.get("until_us")
        rows = [row for row in rows if since is None or row["Opened"].value >= since.value]
        rows = [row for row in rows if until is None or row["Opened"].value <= until.value]
        rows = [row for row in rows if "target" not in wanted or row["Target"].value == wanted["target"].value]
        rows = [row for row in rows if "open" not in wanted or row["State"].value == "open"]
        return "aa{sv}", [rows[: wanted["limit"].value] if "limit" in wanted else rows], []

    def do_GetSeries(self, message, path, metrics, since, points):
        latest = targets[path]["Latest"].value
        times = [OPENED_US + i * 1_000_000 for i in range(SERIES_POINTS)]
        values = [float(i % 101) for i in range(SERIES_POINTS)]
        band = [[times[0], times[-1]], [7.0, 7.0]]
        return (
            "a{s(atad)}",
            [
                {
                    name: band if name.endswith((":low", ":high")) else [times, values]
                    for name in metrics
                    if name.partition(":")[0] in latest
                }
            ],
            [],
        )

    def do_GetLatency(self, message, kind):
        none = [[0] * 24, float("nan"), float("nan"), float("nan")]
        some = [[3, 0, 101, 997, 0, 7, *[0] * 17, 2], 6.1e-6, 9.9e-6, float("inf")]
        found = {"wait": some} if kind == "cpu" else {"read": none, "write": some}
        return "a{s(atddd)}", [found], []

    def do_GetSyscalls(self, message):
        rows = [
            [202, "futex", 1_234_567, 0, 7.5, 0.25, {}],
            [3, "close", 997, 499, 0.0005, 0.0001, {"EINTR": 98, "4711": 1, "EBADF": 400}],
        ]
        return "a(usttdda{st})", [rows], []

    def do_GetThreads(self, message, seconds, limit):
        rows = [[1234, 1240 + i, HOSTILE if i else "redis-server", "R", 0.97, 7.5, 101, 103] for i in range(3)]
        return "a(uussddtt)", [rows[:limit]], []

    def do_GetEvidence(self, message, path):
        if path.endswith("/5"):
            refuse("NoSuchTarget", "the evidence of anomaly 5 was thinned out")
        evidence = {
            "time_us": [1, 2, 3],
            "metrics": {"memory.rss": {"unit": "bytes", "values": [1.0, None, 8.0], "expected": None}},
            "syscalls": {
                "during_s": 10.0,
                "before_s": 50.0,
                "calls": [
                    {
                        "name": "read",
                        "count": 100,
                        "total_ns": 100_000,
                        "before_count": 500,
                        "before_total_ns": 500_000,
                    },
                    {
                        "name": "futex",
                        "count": 1010,
                        "errors": 101,
                        "total_ns": 10_100_000,
                        "before_count": 50,
                        "before_total_ns": 1_000_000,
                    },
                ],
            },
            "functions": {"during_s": 10.0, "before_s": 0.0, "calls": [{"name": "libc:malloc", "count": 70}]},
            "threads": [{"tid": 1234, "name": HOSTILE, "cpu": 0.97}, {"tid": 1240, "name": "bio", "cpu": 0.001}],
            "happenings": [
                {
                    "time_us": OPENED_US - 9_000_000,
                    "kind": "started",
                    "what": HOSTILE,
                    "pid": 1,
                    "count": 31,
                    "target": 2,
                },
                {"time_us": OPENED_US - 7_000_000, "kind": "reloaded", "what": "the configuration", "count": 1},
            ],
        }
        memory = os.memfd_create("evidence")
        os.write(memory, json.dumps(evidence).encode())
        return "h", [0], [memory]

    def do_Mute(self, message, path, seconds):
        targets[path]["MutedUntil"] = v("t", OPENED_US + seconds * 1_000_000 if seconds else 0)
        return "", [], []

    def do_Feedback(self, message, path, useful):
        anomalies[int(path.rpartition("/")[2])]["Useful"] = v("s", "yes" if useful else "no")
        return "", [], []

    def do_ForgetFeedback(self, message, path):
        anomalies[int(path.rpartition("/")[2])]["Useful"] = v("s", "")
        return "", [], []


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


async def main():
    bus = await MessageBus(bus_address=os.environ["DBUS_SYSTEM_BUS_ADDRESS"], negotiate_unix_fd=True).connect()
    bus.add_message_handler(FakeDaemon(bus).handle)
    await bus.request_name(NAME)
    print("ready", flush=True)
    await bus.wait_for_disconnect()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (EOFError, KeyboardInterrupt):
        sys.exit(0)
