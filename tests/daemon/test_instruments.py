"""Probes and traces through the whole daemon: known calls of a known program, asked for and read by osdctl."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from private_bus import wait_until

from tests.daemon.conftest import Run
from tests.daemon.whole_daemon import Daemon

HERE = Path(__file__).parent
CALLS = 997
MUCH = 99_991


def follow(daemon: Daemon, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "osdctl", "--json=short", *words]
    return subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def probe(daemon: Daemon, number: int) -> dict[str, object]:
    (found,) = daemon.ask("probe", "stats", number)
    return found


def counted(daemon: Daemon, number: int, calls: int) -> dict[str, object]:
    """The probe, once it has counted so many calls."""
    wait_until(lambda: probe(daemon, number)["calls"] >= calls)
    return probe(daemon, number)


def test_every_call_is_counted_and_told_with_its_result(daemon: Daemon, run: Run) -> None:
    process = run("search", str(CALLS))
    (added,) = daemon.ask("probe", "add", ":search", "--pid", process.pid)
    assert (added["location"], added["scope"], added["state"]) == (":search", f"pid:{process.pid}", "on")
    assert [(place["pid"], place["symbol"], place["trouble"]) for place in added["places"]] == [
        (process.pid, "search", "")
    ]
    follower = follow(daemon, "probe", "follow", str(added["id"]), "--lines=1000")
    process.work()
    found = counted(daemon, added["id"], CALLS)

    assert (found["calls"], found["lost"]) == (CALLS, 0)
    assert 0 < found["p50_s"] <= found["p99_s"] < 1
    daemon.ask("probe", "remove", added["id"])
    said, _ = follower.communicate(timeout=20)
    records = [json.loads(line) for line in said.splitlines()]
    assert follower.returncode == 0
    assert [record["result"] & 0xFFFFFFFF for record in records] == [(2 * n - 1) & 0xFFFFFFFF for n in range(CALLS)]
    assert {record["pid"] for record in records} == {process.pid}
    assert not process.is_probed()
    process.work()


def test_lines_of_a_trace_come_in_order_to_whoever_follows(daemon: Daemon, run: Run) -> None:
    process = run("search", str(CALLS), "word")
    (trace,) = daemon.ask("trace", "add", "search(n: int, name: str) -> int", "--pid", process.pid)
    followers = [follow(daemon, "trace", "follow", str(trace["id"]), "-n1000") for _ in range(2)]
    process.work()
    wait_until(lambda: daemon.ask("trace", "list")[0]["lines"] == CALLS)
    late = follow(daemon, "trace", "follow", str(trace["id"]), "-n7")
    time.sleep(1)
    daemon.ask("trace", "remove", trace["id"])
    expected = [f'search(n={n}, name="word") = {2 * n - 1}' for n in range(CALLS)]

    for follower, texts in ((followers[0], expected), (followers[1], expected), (late, expected[-7:])):
        said, wrong = follower.communicate(timeout=20)
        assert (follower.returncode, wrong) == (0, "")
        assert [json.loads(line)["text"] for line in said.splitlines()] == texts
    assert daemon.ask("trace", "list") == []


def test_messages_are_printed_at_entry_and_return(daemon: Daemon, run: Run) -> None:
    process = run("search", "3")
    words = ("--entry", "'in %d' % (arg1)", "--return", "'out %d' % (retval)")
    (trace,) = daemon.ask("trace", "add", f"{process.path}:search", "--pid", process.pid, *words)
    assert trace["signature"] == (
        f"""{process.path}:search --entry "'in %d' % (arg1)" --return "'out %d' % (retval)\""""
    )
    process.work()
    wait_until(lambda: daemon.ask("trace", "list")[0]["lines"] == 6)
    follower = follow(daemon, "trace", "follow", str(trace["id"]))
    time.sleep(1)
    daemon.ask("trace", "remove", trace["id"])
    records = [json.loads(line) for line in follower.communicate(timeout=20)[0].splitlines()]

    assert [record["text"] for record in records] == ["in 0", "out -1", "in 1", "out 1", "in 2", "out 3"]
    assert [record["returned"] for record in records] == [False, True] * 3


def test_children_are_probed_where_asked(daemon: Daemon, run: Run) -> None:
    process = run("search", str(CALLS))
    (with_children,) = daemon.ask("probe", "add", ":search", "--pid", process.pid)
    (without,) = daemon.ask("probe", "add", ":search", "--pid", process.pid, "--no-children")
    process.tell("f")
    child = int(process.answer())
    wait_until(lambda: child in [place["pid"] for place in probe(daemon, with_children["id"])["places"]])
    # the line that the child waits for, and its order to work
    process.tell("\nw")
    process.hears("done")
    counted(daemon, with_children["id"], CALLS)

    assert [probe(daemon, each["id"])["calls"] for each in (with_children, without)] == [CALLS, 0]


def test_a_probe_ends_with_its_process_and_tells_its_last_calls(daemon: Daemon, run: Run) -> None:
    process = run("search", "101")
    (trace,) = daemon.ask("trace", "add", "search(n: int)", "--pid", process.pid)
    (only,) = daemon.ask("probe", "add", ":search", "--pid", process.pid)
    follower = follow(daemon, "trace", "follow", str(trace["id"]))
    time.sleep(1)
    process.work()
    process.end()
    said, _ = follower.communicate(timeout=20)

    assert follower.returncode == 0
    assert len(said.splitlines()) == 101
    wait_until(lambda: daemon.ask("probe", "list") == daemon.ask("trace", "list") == [])
    done = daemon.osdctl("probe", "stats", only["id"])
    assert (done.returncode, done.stderr) == (4, f"osdctl: no probe {only['id']}; osdctl probe list shows them\n")
    assert daemon.ask("list") == []


def test_a_target_s_new_processes_are_probed_and_its_probes_end_with_it(daemon: Daemon, run: Run) -> None:
    first = run("search", "101")
    (target,) = daemon.ask("watch", f"exe:{first.path}")
    (added,) = daemon.ask("probe", "add", ":search", "--target", target["id"])
    first.work()
    counted(daemon, added["id"], 101)
    first.end()
    second = run("search", "211")
    wait_until(lambda: [place["pid"] for place in probe(daemon, added["id"])["places"]] == [second.pid], 20)
    second.work()
    assert counted(daemon, added["id"], 312)["calls"] == 312

    daemon.ask("unwatch", target["id"])
    wait_until(lambda: daemon.ask("probe", "list") == [])
    assert not second.is_probed()


def test_a_watched_process_may_be_probed_and_each_ends_without_the_other(daemon: Daemon, run: Run) -> None:
    process = run("search", "101")
    (added,) = daemon.ask("probe", "add", ":search", "--pid", process.pid)
    (target,) = daemon.ask("watch", process.pid)
    daemon.ask("unwatch", target["id"])
    process.work()
    assert counted(daemon, added["id"], 101)["calls"] == 101
    (target,) = daemon.ask("watch", process.pid)
    daemon.ask("probe", "remove", added["id"])
    wait_until(lambda: daemon.ask("show", target["id"])[0]["latest"])
    process.end()
    wait_until(lambda: daemon.ask("list") == [])


def test_what_is_called_too_often_is_detached_and_told(daemon: Daemon, run: Run) -> None:
    process = run("search", str(MUCH))
    (added,) = daemon.ask("probe", "add", ":search", "--pid", process.pid, "--budget", CALLS)
    assert process.is_probed()
    process.work()
    wait_until(lambda: probe(daemon, added["id"])["state"] == "over budget")

    assert not process.is_probed()
    told = daemon.waits_to_say(rf'\{{"MESSAGE": "probe {added["id"]} is detached: .*\}}')
    record = json.loads(told[0])
    assert record["MESSAGE_ID"] == "e1a2b3c4d5f64708918273645a6b7c59"
    assert (record["OSDETECTOR_LOCATION"], record["OSDETECTOR_BUDGET"]) == (":search", CALLS)
    assert record["OSDETECTOR_SCOPE"] == f"pid:{process.pid}"
    assert record["PRIORITY"] == 4


def test_nothing_stays_attached_when_the_daemon_stops_or_is_killed(daemon: Daemon, run: Run) -> None:
    process = run("search", "101")
    for end in (daemon.stop, lambda: (daemon.process.kill(), daemon.process.wait())):
        daemon.ask("probe", "add", ":search", "--pid", process.pid)
        assert process.is_probed()
        end()
        wait_until(lambda: not process.is_probed())
        daemon.start()
    assert daemon.ask("probe", "list") == []
    process.work()


def test_what_cannot_be_probed_is_refused_in_one_line(daemon: Daemon, run: Run) -> None:
    process = run("search", "1")
    pid = str(process.pid)
    cases = {
        ("probe", "add", ":serch", "--pid", pid): (4, "search"),
        ("probe", "add", ":search", "--pid", "999999"): (4, "no process 999999"),
        ("probe", "add", "search", "--pid", pid): (2, "has no colon"),
        ("probe", "add", ":search"): (2, "one of the arguments -t/--target -p/--pid --tid --all is required"),
        ("probe", "add", ":search", "--all"): (2, "absolute path"),
        ("probe", "add", ":search", "--target", "7"): (4, "no target 7"),
        ("probe", "add", ":search", "--pid", pid, "--budget", "1000001"): (4, "at most 1000000"),
        ("probe", "add", "nolib:search", "--pid", pid): (4, "maps no library nolib"),
        ("trace", "add", "search(n: itn)", "--pid", pid): (2, "column 11"),
        ("trace", "add", ":search", "--entry", "'%d'", "--pid", pid): (2, "column 2"),
        ("probe", "remove", "7"): (4, "no probe 7"),
        ("trace", "follow", "7"): (4, "no trace 7"),
    }
    for words, (status, said) in cases.items():
        done = daemon.osdctl(*words)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), (words, done)
        assert said in done.stderr, (words, done)
    assert daemon.ask("probe", "list") == daemon.ask("trace", "list") == []
    assert not process.is_probed()
    assert "Traceback" not in daemon.said()


def test_a_thread_alone_is_probed(daemon: Daemon, run: Run) -> None:
    process = run("threads")
    (added,) = daemon.ask("probe", "add", ":search", "--tid", process.pid)
    assert added["scope"] == f"tid:{process.pid}"
    process.work()
    time.sleep(1)
    # five other threads did all the work
    assert probe(daemon, added["id"])["calls"] == 0
