"""Loading, falling back, refusing, and letting go."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from osdetectord.bpf import kernel as kernel_module
from osdetectord.bpf import syscall
from osdetectord.bpf.kernel import Kernel, Sizes
from osdetectord.collectors import layout
from osdetectord.collectors.cpu import CpuCollector
from osdetectord.collectors.lifecycle import LifecycleCollector
from osdetectord.collectors.registry import COLLECTORS
from osdetectord.collectors.syscalls import SyscallCollector
from osdetectord.errors import ConfigError, LoadError, TooManyTargets
from osdetectord.polling import Polling
from osdetectord.sampler import Sampler
from tests.bpf.conftest import ROOT, count_of, tick, until
from tests.bpf.obedient import Workload

SMALL = Sizes.of(64)
NEEDED = "+bpf,+perfmon,+sys_ptrace,+dac_read_search"

PROBE = f"""
import sys, time, ctypes, os, json
sys.path.insert(0, {str(ROOT)!r})
from osdetectord.sampler import Sampler
assert "bcc" not in sys.modules
s = Sampler.open(max_processes=64)
assert "bcc" not in sys.modules
me = s.add(os.getpid())
for _ in range(997): os.sched_yield()
counted = [t.count for t in s.syscalls(me.series) if t.name == "sched_yield"] if s.hooks[2].rank == 0 else []
frame = s.tick(time.monotonic_ns()).frame
print(json.dumps({{"counted": counted, "ranks": [h.rank for h in s.hooks], "why": [h.why for h in s.hooks],
    "rows": len(frame.series), "metrics": [m.name for m in s.metrics]}}))
"""


def run(*command: str) -> dict:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def program_ids() -> set[int]:
    ids, at = set(), 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("<III", at, 0, 0), 12)
        try:
            syscall.bpf(syscall.PROG_GET_NEXT_ID, attributes)
        except FileNotFoundError:
            return ids
        at = struct.unpack_from("<I", attributes, 4)[0]
        ids.add(at)


def own_programs(pid: int) -> set[int]:
    ids = set()
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        with open(f"/proc/{pid}/fdinfo/{fd}") as file:
            ids |= {int(line.split()[1]) for line in file if line.startswith("prog_id:")}
    return ids


def test_four_capabilities_and_no_writable_code_are_enough():
    with_mdwe = "import ctypes; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0\n" + PROBE
    told = run("setpriv", f"--bounding-set=-all,{NEEDED}", "--no-new-privs", sys.executable, "-c", with_mdwe)

    assert told["counted"] == [997]
    assert told["ranks"] == [0] * len(told["ranks"])


def test_without_permission_proc_serves_and_the_hooks_say_why():
    told = run("setpriv", "--bounding-set=-all", sys.executable, "-c", PROBE)

    assert told["ranks"][:3] == [1, 1, -1]
    assert all("ermi" in why for why in told["why"][:3])
    assert told["rows"] == 1
    assert "cpu.run_queue" in told["metrics"] and "syscalls.calls" not in told["metrics"]


def test_without_bcc_the_error_names_the_package(tmp_path, monkeypatch):
    (tmp_path / "bcc.py").write_text("raise ImportError('no such thing')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LoadError, match=r"BCC's Python module is missing .*: install python3-bpfcc"):
        Kernel(SMALL)


def test_a_source_that_does_not_compile_is_told_with_the_compilers_words(tmp_path, monkeypatch):
    broken = tmp_path / "broken.bpf.c"
    broken.write_text("int f(void) { return nothing_of_the_kind; }\n")
    monkeypatch.setattr(kernel_module, "sources", lambda: (broken,))
    with pytest.raises(LoadError, match=r"do not compile: .*undeclared identifier 'nothing_of_the_kind'"):
        Kernel(SMALL)


def test_a_loader_that_dies_is_told_with_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "bcc.py").write_text("import os; os.write(2, b'out of luck\\n'); os._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LoadError, match="the loader ended with status 9: out of luck"):
        Kernel(SMALL)


def with_first_event(collector, event: str):
    first = collector.hooks[0]
    attachment = replace(first.attachments[0], event=event)
    hook = replace(first, attachments=(attachment, *first.attachments[1:]))
    collector.hooks = (hook, *collector.hooks[1:])
    return collector


def test_a_hook_that_the_kernel_lacks_gives_way_to_the_next_and_the_view_says_why(monkeypatch):
    chain = (LifecycleCollector(), with_first_event(CpuCollector(), "no_such_event"), SyscallCollector())
    monkeypatch.setattr(kernel_module, "COLLECTORS", chain)
    kernel = Kernel(SMALL)
    views = {view.collector: view for view in kernel.hook_views()}
    kernel.close()

    assert (views["lifecycle"].rank, views["syscalls"].rank) == (0, 0)
    assert (views["cpu"].rank, views["cpu"].hook) == (1, "/proc/PID/task/TID/schedstat and status")
    assert "no_such_event: no such event" in views["cpu"].why


def test_classic_tracepoints_count_the_same():
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-c", WITH_TRACEFS, "sh", sys.executable, "-c", CLASSIC],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    rank, count = json.loads(ran.stdout)

    assert (rank, count) == (1, 997)


WITH_TRACEFS = 'mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"'

CLASSIC = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
from dataclasses import replace
from osdetectord.bpf import kernel
from osdetectord.collectors.syscalls import SyscallCollector
collector = SyscallCollector()
collector.hooks = (replace(collector.hooks[0], attachments=(replace(collector.hooks[0].attachments[0], event="none"),)),
                   collector.hooks[1])
kernel.COLLECTORS = (*kernel.COLLECTORS[:2], collector)
k = kernel.Kernel(kernel.Sizes.of(64))
serial = k.watch(os.getpid(), True)
for _ in range(997): os.sched_yield()
print(json.dumps([k.ranks["syscalls"][0],
    next(t.count for t in collector.totals(k.snapshot(), [serial]) if t.name == "sched_yield")]))
"""


def test_everything_detaches_when_the_holder_is_killed():
    holder = subprocess.Popen(
        [sys.executable, "-c", PROBE + "\nprint(flush=True); sys.stdin.readline()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    holder.stdout.readline()
    held = own_programs(holder.pid)
    present = held & program_ids()
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    end = time.monotonic() + 10
    while held & program_ids() and time.monotonic() < end:
        time.sleep(0.02)

    assert len(held) >= 8 and present == held
    assert not held & program_ids()


def test_a_lost_event_is_counted():
    kernel = Kernel(replace(SMALL, event_pages=1))
    room = os.sysconf("SC_PAGESIZE") // (layout.EVENT.itemsize + 8)
    kernel.report_strangers(True)
    for _ in range(room + 37):
        subprocess.run(["/bin/true"])
    seen, lost = len(kernel.events()), kernel.lost()["events"]
    kernel.close()

    assert room - 1 <= seen <= room
    assert seen + lost >= room + 37


def test_what_finds_no_room_is_refused_and_counted(monkeypatch):
    sampler = Sampler(Kernel(replace(SMALL, processes=3)), max_processes=64)
    works = [Workload() for _ in range(4)]
    for work in works[:3]:
        sampler.add(work.pid)
    with pytest.raises(TooManyTargets, match=f"no room for process {works[3].pid}"):
        sampler.add(works[3].pid)
    assert sampler.lost()["processes"] >= 1
    for work in works:
        work.end()
    until(sampler, lambda ticks: not len(ticks[-1].frame.series))
    sampler.close()


def test_no_more_processes_than_asked_for_are_taken():
    sampler = Sampler.open(max_processes=1)
    works = Workload(), Workload()
    sampler.add(works[0].pid)
    with pytest.raises(TooManyTargets, match="1 processes are watched, the most there is room for"):
        sampler.add(works[1].pid)
    for work in works:
        work.end()
    sampler.close()


def test_a_full_table_of_system_calls_is_counted_as_loss():
    sampler = Sampler(Kernel(replace(SMALL, syscalls=2)), max_processes=64)
    work = Workload()
    watched = sampler.add(work.pid)
    work.do("count 11")
    work.do("fail 11")
    kept = sampler.syscalls(watched.series)
    lost = sampler.lost()["syscalls"]
    work.end()
    sampler.close()

    assert len(kept) <= 2
    assert lost >= 11


def test_polling_follows_children_and_tells_ends_without_their_cause(workload):
    sampler = Sampler(Polling("asked for"), max_processes=64)
    watched = sampler.add(workload.pid)
    workload.do("spawn")
    first = tick(sampler)
    workload.do("burn 100")
    second = tick(sampler)
    names = [metric.name for metric in sampler.metrics]
    row = second.frame.values[list(second.frame.series).index(watched.series)]
    (child,) = first.started
    os.kill(child.info.process.pid, signal.SIGKILL)
    workload.do("exit 5")
    ended = [e for t in until(sampler, lambda ticks: sum(len(t.exited) for t in ticks) == 2) for e in t.exited]
    sampler.close()

    assert child.root_series == child.parent_series == watched.series
    assert row[names.index("cpu.on_cpu")] * second.frame.interval_s >= 0.09
    assert {(e.series, e.code, e.signal) for e in ended} == {(watched.series, -1, 0), (child.series, -1, 0)}


@pytest.mark.parametrize(
    "source, hook", [("stat", "/proc/PID/task/TID/schedstat and status"), ("top", "psutil")], ids=["stat", "top"]
)
def test_cpu_times_are_asked_of_whom_the_configuration_names(workload, source, hook):
    sampler = Sampler.open(max_processes=64, cpu=source)
    names = [metric.name for metric in sampler.metrics]
    watched = sampler.add(workload.pid)
    tick(sampler)
    workload.do("count 101")
    workload.do("burn 700")
    last = tick(sampler)
    (served,) = [view for view in sampler.hooks if view.collector == "cpu"]
    on_cpu = last.readings[list(last.frame.series).index(watched.series), names.index("cpu.on_cpu")]
    calls = count_of(sampler, watched, "sched_yield")
    sampler.close()

    assert (served.hook, served.why) == (hook, f"the configuration says cpu: {source}")
    assert "cpu.off_cpu" not in names
    assert 0.69 < on_cpu < 3
    # all else is served as it is without
    assert calls == 101


def test_without_psutil_it_is_said_who_needs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ConfigError, match=r"cpu is 'top', expected psutil to be installed .*python3-psutil"):
        Sampler.open(cpu="top")


def test_the_check_tells_as_json_what_serves():
    ran = subprocess.run(
        [sys.executable, "-m", "osdetectord.bpf.check"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = json.loads(ran.stdout)
    denied = subprocess.run(
        ["setpriv", "--bounding-set=-all", sys.executable, "-m", "osdetectord.bpf.check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert told["error"] == ""
    assert {hook["collector"]: hook["rank"] for hook in told["hooks"]} == dict.fromkeys(
        [*(c.name for c in COLLECTORS), "functions"], 0
    )
    assert denied.returncode == 1
    assert "ermi" in json.loads(denied.stdout)["error"]
