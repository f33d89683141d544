"""Pids are those of the daemon's own pid namespace, wherever it lives and wherever the watched are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.bpf.conftest import ROOT, until

INSIDE = """
import json, os, subprocess, sys, time
sys.path.insert(0, ROOT)
sys.path.insert(0, ROOT + "/tests/bpf")
from conftest import Workload, count_of, leftovers, tick, until
from osdetectord.sampler import Sampler
sampler = Sampler.open()
work = Workload()
watched = sampler.add(work.pid)
work.do("count 997")
count = count_of(sampler, watched, "sched_yield")
work.do("thread 3 101")
threads = count_of(sampler, watched, "sched_yield") - count
work.do("fork 5 9")
ticks = until(sampler, lambda ticks: sum(len(t.exited) for t in ticks) == 5)
started = [p.info.process for t in ticks for p in t.started]
exited = [e.code for t in ticks for e in t.exited]
nested = subprocess.Popen(
    ["unshare", "--pid", "--fork", "--mount-proc", "/usr/bin/python3", "-S", "-c",
     "import os, sys; sys.stdin.readline(); os.fork() == 0 and os._exit(4); os.wait(); "
     "[os.sched_yield() for _ in range(211)]; print(flush=True); sys.stdin.readline()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
time.sleep(0.5)
# unshare itself lives in this namespace, what it started in the nested one
outer = sampler.add(nested.pid)
inner = until(sampler, lambda ticks: any(t.started for t in ticks))[-1].started[0]
nested.stdin.write("go\\n")
nested.stdout.readline()
yields = count_of(sampler, inner, "sched_yield")
last = until(sampler, lambda ticks: any(t.exited for t in ticks))
grandchild = next(e for t in last for e in t.exited)
visible = open("/proc/%d/comm" % inner.info.process.pid).read().strip()
nested.stdin.close(); nested.wait(); work.end()
end = until(sampler, lambda ticks: sum(len(t.exited) for t in ticks) >= 3)
print(json.dumps({
    "self": os.getpid(), "pids": [p.pid for p in started], "workload": work.pid, "count": count,
    "threads": threads, "exited": exited, "yields": yields, "visible": visible,
    "nested_code": grandchild.code, "inner": inner.info.process.pid, "root": inner.root_series == outer.series,
    "left": leftovers(sampler), "lost": sampler.lost(),
}))
"""

REUSE = """
import json, os, sys, time
sys.path.insert(0, ROOT)
sys.path.insert(0, ROOT + "/tests/bpf")
from conftest import Workload, count_of, tick, until
from osdetectord.sampler import Sampler
sampler = Sampler.open()
first = Workload()
watched = sampler.add(first.pid)
first.do("count 997")
tick(sampler)
first.end()
time.sleep(0.05)
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(first.pid - 1))
second = Workload()
after = tick(sampler)
second.do("count 211")
strangers = sum(int(v.sum()) for v in [sampler._kernel.maps["syscalls"].read()[1]["count"]])
again = sampler.add(second.pid)
second.do("count 101")
print(json.dumps({
    "same": first.pid == second.pid, "exited": [e.series for e in after.exited], "frame": after.frame.series.tolist(),
    "first": watched.series, "second": again.series, "strangers": strangers,
    "count": count_of(sampler, again, "sched_yield"),
}))
second.end()
"""

LOGGED = """
import json, os, sys
sys.path.insert(0, ROOT)
sys.path.insert(0, ROOT + "/tests/bpf")
from conftest import Workload
from osdetectord.collectors.syscall_log import Rows
from osdetectord.collectors.syscall_names import number_of
from osdetectord.sampler import Sampler
sampler = Sampler.open(max_processes=64, log_pages=128, collectors=("lifecycle", "cpu"))
sampler.log_syscalls(True)
work = Workload()
sampler.add(work.pid)
work.do("thread 1 997")
work.do("fork 1 3")
rows = Rows()
read = rows.of(sampler.logged_syscalls()).tolist() + rows.rest().tolist()
yields = [row for row in read if row[4] == number_of("sched_yield")]
print(json.dumps({
    "workload": work.pid, "rows": len(yields), "nameless": rows.nameless,
    "ids": sorted({row[2:4] for row in yields}), "names": sorted({row[6].decode() for row in read}),
}))
work.end()
"""


def run_in_namespace(script: str) -> dict:
    ran = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "/usr/bin/python3", "-c", f"ROOT = {str(ROOT)!r}\n{script}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_daemon_in_a_pid_namespace_sees_and_counts_in_its_own_pids():
    told = run_in_namespace(INSIDE)

    assert told["self"] < 20
    assert max(told["pids"]) < 100 and told["workload"] not in told["pids"]
    assert (told["count"], told["threads"], told["exited"]) == (997, 303, [9] * 5)
    assert (told["yields"], told["nested_code"], told["root"]) == (211, 4, True)
    assert told["visible"] == "python3"
    assert told["left"] == {}
    assert set(told["lost"].values()) == {0}


def test_system_calls_are_logged_with_the_ids_of_the_daemon_s_namespace():
    told = run_in_namespace(LOGGED)
    workload = told["workload"]
    (process, thread), (child, child_thread) = told["ids"]

    assert (told["rows"], told["nameless"], told["names"]) == (2 * (997 + 101), 0, ["python3"])
    assert workload < 100 and process == workload < thread < 100
    assert workload < child == child_thread < 100


def test_a_pid_that_is_used_again_is_another_process():
    told = run_in_namespace(REUSE)

    assert told["same"], "the pid was not given out again"
    assert told["exited"] == [told["first"]]
    assert told["frame"] == []
    assert told["strangers"] == 0
    assert told["second"] != told["first"]
    assert told["count"] == 101


def test_children_in_nested_namespaces_are_told_in_the_daemons_pids(sampler, workload):
    script = "unshare --pid --fork --mount-proc sh -c 'unshare --pid --fork --mount-proc sleep 60'"
    tree = subprocess.Popen(["/bin/sh", "-c", f"read go; {script}"], stdin=subprocess.PIPE, start_new_session=True)
    watched = sampler.add(tree.pid)
    tree.stdin.write(b"\n")
    tree.stdin.flush()
    ticks = until(sampler, lambda ticks: any(p.info.comm == "sleep" for t in ticks for p in (*t.started, *t.execed)))
    (sleeper,) = {p.info.process.pid for t in ticks for p in (*t.started, *t.execed) if p.info.comm == "sleep"}
    levels = next(
        line.split()[1:]
        for line in Path(f"/proc/{sleeper}/status").read_text().splitlines()
        if line.startswith("NSpid")
    )
    os.killpg(tree.pid, signal.SIGKILL)
    tree.communicate()
    time.sleep(0.05)
    until(sampler, lambda ticks: not len(ticks[-1].frame.series))

    assert levels[0] == str(sleeper) and levels[2] == "1"
    assert {p.root_series for t in ticks for p in t.started} == {watched.series}
