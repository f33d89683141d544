"""Snooping as its users run it: a program of which everything is known, each key with each of its options."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

# of snooped.c
CALLS, SEARCHES, LEAKS, LEAK_BYTES = 997, 101, 499, 1009
THREADS, THREAD_CALLS, CHILDREN, CHILD_CALLS = 2, 103, 3, 53
BURN_MS, SENT_KB, MAPPED, STATUS = 300, 1280, 64 << 20, 7
GETPPID, EXECVE, WAIT4, CLOCK_NANOSLEEP = "110", "59", "61", "230"

# of BURN_MS: the program's own clock and the scheduler's differ while a hypervisor has the processor
LEAST, MOST = 0.5, 2.0

CPU = ["TIME", "PID", "COMM", "ON CPU", "OFF CPU", "CPU%"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Run:
    """What snooping left."""

    def __init__(self, place: Path, done: subprocess.CompletedProcess[str]) -> None:
        self.place, self.status, self.out, self.told = place, done.returncode, done.stdout, done.stderr

    def lines(self, name: str) -> list[list[str]]:
        with (self.place / name).open(newline="") as file:
            return list(csv.reader(file))

    def header(self, name: str) -> list[str]:
        return self.lines(name)[0]

    def rows(self, name: str) -> list[dict[str, str]]:
        header, *rows = self.lines(name)
        assert rows[-1] == ["END"], rows[-1]
        return [dict(zip(header, row, strict=True)) for row in rows[:-1]]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "osdctl", "snoop", *words]


def snoop(place: Path, config: dict[str, Any] | str | None, *words: str, under: Sequence[str] = ()) -> Run:
    place.mkdir(exist_ok=True)
    if config is not None:
        (place / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    done = subprocess.run(
        [*under, *command(*words)], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )
    return Run(place, done)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snooped") / "snooped"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", path, HERE / "snooped.c"], check=True)
    return path


@pytest.fixture(scope="session")
def everything(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All signals on, children followed."""
    config = {
        "snoop_cpu": "bcc",
        "snoop_mem": "bcc",
        "snoop_network": "bcc",
        "snoop_syscall": "bcc",
        "probes": {"event_name": ["./snooped:search", "./snooped:leak"], "output_file": "probe_output"},
        "trace": {
            "tracee_name": ["./snooped:search"],
            "output_file": "trace_output",
            "enter_msg_format": ["'Enter search, n=%d name=%s' % (arg1, arg2)"],
            "return_msg_format": ["'Return %d' % (retval)"],
        },
        "interval": 0.3,
        "trace_multiprocess": True,
        "csvpath": "csv",
        "outcomepath": "outcome",
        "detect_interval": 60,
    }
    place = tmp_path_factory.mktemp("everything")
    (place / "snooped").symlink_to(program)
    return snoop(place, config, "-c", "./snooped")


def total(rows: list[dict[str, str]], column: str, **where: str) -> float:
    return sum(float(row[column]) for row in rows if all(row[key] == value for key, value in where.items()))


def of_program(rows: list[dict[str, str]]) -> str:
    """Its pid: it is the first that is seen."""
    return rows[0]["PID"]


def test_ends_with_the_status_of_the_program_and_sums_up(everything: Run):
    assert everything.status == STATUS, everything.told
    assert "exited with status 7 after" in everything.told
    assert "csv/cpu.csv" in everything.told
    assert "too short to learn what is normal" in everything.told
    assert "lost" not in everything.told


def test_columns_are_those_of_the_original(everything: Run):
    assert everything.header("csv/cpu.csv") == CPU
    assert everything.header("csv/mem.csv") == ["TIME", "PID", "SIZE(B)", "NUM"]
    assert everything.header("csv/net.csv") == ["TIME", "PID", "COMM", "RX_KB", "TX_KB"]
    assert everything.header("csv/syscall.csv") == ["TIME", "PID", "COMM", "ACTION", "SYSCALL_ID", "PARM1"]
    assert everything.header("csv/trace_output") == ["TIME", "PID", "MSG"]
    assert everything.header("csv/probe_output") == [
        *("PID", "EVENT NAME", "SIZE", "NUM", "UTime", "STime", "NVCSW", "NIVCSW"),
        *("ENTER TIME", "RETURN TIME", "TOTAL TIME"),
    ]


def test_times_are_of_the_wall_clock_and_rise(everything: Run):
    for name, column in (("cpu.csv", "TIME"), ("trace_output", "TIME"), ("probe_output", "RETURN TIME")):
        times = [float(row[column]) for row in everything.rows(f"csv/{name}")]
        assert times == sorted(times), name
        assert abs(times[-1] - time.time()) < 600


def test_time_on_a_cpu_is_that_of_the_threads(everything: Run):
    rows = everything.rows("csv/cpu.csv")
    pid = of_program(rows)

    assert THREADS * BURN_MS * LEAST <= total(rows, "ON CPU", PID=pid) < THREADS * BURN_MS * MOST
    # two threads and the main one sleep for most of a second and a half
    assert total(rows, "OFF CPU", PID=pid) > 1500
    assert {row["COMM"] for row in rows} == {"snooped"}
    assert len({row["PID"] for row in rows}) == 1 + CHILDREN


def test_memory_is_what_is_outstanding(everything: Run):
    rows = everything.rows("csv/mem.csv")
    last = rows[-1]

    assert last["PID"] == of_program(everything.rows("csv/cpu.csv"))
    # the C library itself keeps a few blocks for threads
    assert LEAKS <= int(last["NUM"]) < LEAKS + 10
    assert LEAKS * LEAK_BYTES <= int(last["SIZE(B)"]) < LEAKS * LEAK_BYTES + 4096


def test_network_is_what_was_sent_and_received(everything: Run):
    rows = everything.rows("csv/net.csv")

    assert (total(rows, "RX_KB"), total(rows, "TX_KB")) == (SENT_KB, SENT_KB)


def test_every_system_call_has_two_rows(everything: Run):
    rows = [row for row in everything.rows("csv/syscall.csv") if row["SYSCALL_ID"] == GETPPID]
    pid = of_program(everything.rows("csv/cpu.csv"))
    own = [row for row in rows if row["PID"] == pid]
    children = [row for row in rows if row["PID"] != pid]

    assert len(own) == 2 * (CALLS + THREADS * THREAD_CALLS)
    assert len(children) == 2 * CHILDREN * CHILD_CALLS
    assert {row["PARM1"] for row in children if row["ACTION"] == "1"} == {pid}
    assert sum(row["ACTION"] == "0" for row in rows) == len(rows) / 2


def test_every_call_of_a_probed_function_has_a_row(everything: Run):
    rows = everything.rows("csv/probe_output")
    leaks = [row for row in rows if row["EVENT NAME"] == "leak"]

    assert sum(row["EVENT NAME"] == "search" for row in rows) == SEARCHES
    assert len(leaks) == LEAKS
    assert {(row["SIZE"], row["NUM"]) for row in leaks} == {(str(LEAK_BYTES), "1")}
    assert all(float(row["TOTAL TIME"]) > 0 for row in rows)


def test_every_entry_and_return_of_a_traced_function_has_its_message(everything: Run):
    expected = []
    for n in range(SEARCHES):
        expected += [f"Enter search, n={n} name=needle", f"Return {2 * n + 6}"]

    assert [row["MSG"] for row in everything.rows("csv/trace_output")] == expected


def test_every_metric_file_is_judged(everything: Run):
    for name in ("cpu", "mem", "net"):
        judged = everything.rows(f"outcome/{name}.csv")
        assert judged
        assert set(judged[0]) >= {"TIME", "PID", "score", "p_value", "alarm", "anomaly", "top"}
        assert (everything.place / f"outcome/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert everything.lines("outcome/anomalies.csv")[0][:3] == ["anomaly", "file", "PID"]


@pytest.mark.parametrize("way", ["stat", "top"])
def test_the_other_ways_of_the_cpu(way: str, program: Path, tmp_path: Path):
    config = {"snoop_cpu": way, "snoop_mem": "bcc_kernel", "interval": 0.3, "trace_multiprocess": True}
    run = snoop(tmp_path, config, "-c", str(program))
    rows = run.rows("cpu.csv")
    own = [row for row in rows if row["PID"] == of_program(rows)]
    percent = sum(
        float(row["CPU%"]) * (float(row["TIME"]) - float(before["TIME"])) for before, row in itertools.pairwise(own)
    )

    assert run.status == STATUS, run.told
    assert run.header("cpu.csv") == CPU
    if way == "stat":
        used = total(rows, "ON CPU", PID=of_program(rows))
        assert THREADS * BURN_MS * LEAST <= used < THREADS * BURN_MS * MOST
    else:
        assert {(row["ON CPU"], row["OFF CPU"]) for row in rows} == {("-1", "-1")}
        assert percent > LEAST * THREADS * BURN_MS / 10
    memory = run.rows("mem.csv")
    assert max(int(row["SIZE(B)"]) for row in memory) > MAPPED
    assert all(int(row["NUM"]) > 10 for row in memory)
    assert not (tmp_path / "outcome").exists()


@pytest.mark.parametrize("way", ["bcc", "stat", "top"])
def test_threads_have_rows_of_their_own(way: str, program: Path, tmp_path: Path):
    config = {"snoop_cpu": way, "snoop_syscall": "bcc", "show_all_threads": "true", "interval": 0.2}
    run = snoop(tmp_path, config, "-c", str(program))
    rows = run.rows("cpu.csv")

    assert run.status == STATUS, run.told
    assert run.header("cpu.csv") == ["TIME", "SPID", *CPU[2:]]
    assert run.header("syscall.csv")[1] == "SPID"
    column = "CPU%" if way == "top" else "ON CPU"
    used = {tid: total(rows, column, SPID=tid) for tid in {row["SPID"] for row in rows}}
    workers = sorted(used.values())[-THREADS:]
    if way != "top":
        assert all(LEAST * BURN_MS < worker < MOST * BURN_MS for worker in workers), used
    assert all(worker > 0 for worker in workers)
    calls = [row["SPID"] for row in run.rows("syscall.csv") if row["SYSCALL_ID"] == GETPPID]
    assert sorted(calls.count(tid) for tid in set(calls)) == [2 * THREAD_CALLS, 2 * THREAD_CALLS, 2 * CALLS]


def test_without_children_there_is_one_process(program: Path, tmp_path: Path):
    run = snoop(tmp_path, {"snoop_cpu": "bcc", "snoop_syscall": "bcc", "interval": 0.5}, "-c", str(program))

    assert len({row["PID"] for row in run.rows("cpu.csv")}) == 1
    calls = [row for row in run.rows("syscall.csv") if row["SYSCALL_ID"] == GETPPID]
    assert len(calls) == 2 * (CALLS + THREADS * THREAD_CALLS)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def started(place: Path, *words: str) -> subprocess.Popen[str]:
    """Snooping under way: its first row is there."""
    process = subprocess.Popen(
        command(*words), cwd=place, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(600):
        if (place / "cpu.csv").exists() and len((place / "cpu.csv").read_text().splitlines()) > 1:
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[1])


def test_calls_that_have_not_left_have_their_entries_in_the_file(tmp_path):
    config = {"snoop_cpu": "bcc", "snoop_syscall": "bcc", "trace_multiprocess": True, "interval": 0.2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shell = subprocess.Popen(["sh", "-c", "read go; sleep 60; true"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        process = started(tmp_path, "-p", str(shell.pid))
        assert shell.stdin is not None
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        for _ in range(600):
            lines = [line.split(",") for line in (tmp_path / "syscall.csv").read_text().splitlines()]
            if any(line[2:5] == ["sleep", "0", CLOCK_NANOSLEEP] for line in lines):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()

    assert process.returncode == 0, told
    with (tmp_path / "syscall.csv").open(newline="") as file:
        _, *rows, end = csv.reader(file)
    assert end == ["END"]
    last = {row[1]: row for row in rows}
    sleeper = next(pid for pid in last if pid != str(shell.pid))
    assert last[str(shell.pid)][2:5] == ["sh", "0", WAIT4]
    assert last[sleeper][2:5] == ["sleep", "0", CLOCK_NANOSLEEP]
    assert [row[2:4] for row in rows if row[4] == EXECVE] == [["sh", "0"], ["sleep", "1"]]
    times = [float(row[0]) for row in rows]
    assert times == sorted(times)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_snooping_of_a_process_that_goes_on(number, sleeper, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"snoop_cpu": "bcc", "interval": 0.2}))
    process = started(tmp_path, "-p", str(sleeper.pid))
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]

    assert process.returncode == 0
    assert f"sleep[{sleeper.pid}] goes on after" in told
    assert (tmp_path / "cpu.csv").read_text().endswith("END\n")
    assert sleeper.poll() is None


def test_ctrl_c_goes_to_the_program_too(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"snoop_cpu": "stat", "interval": 0.2}))
    process = started(tmp_path, "-c", "sleep 60")
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=60)[1]

    assert process.returncode == 128 + signal.SIGINT
    assert "was killed by signal 2 after" in told
    assert (tmp_path / "cpu.csv").read_text().endswith("END\n")


def test_a_terminated_snooping_terminates_its_program(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"snoop_cpu": "bcc", "interval": 0.2}))
    process = started(tmp_path, "-c", "sleep 60")
    process.terminate()
    told = process.communicate(timeout=60)[1]

    assert process.returncode == 128 + signal.SIGTERM
    assert "was killed by signal 15 after" in told


def test_the_end_of_a_process_ends_its_snooping(sleeper, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"snoop_cpu": "bcc", "interval": 0.2}))
    process = started(tmp_path, "-p", str(sleeper.pid))
    sleeper.kill()
    told = process.communicate(timeout=60)[1]

    assert process.returncode == 0
    assert f"sleep[{sleeper.pid}] has ended after" in told
    assert (tmp_path / "cpu.csv").read_text().endswith("END\n")


def test_a_program_that_ends_at_once_is_whole(tmp_path):
    run = snoop(tmp_path, {"snoop_cpu": "bcc", "snoop_syscall": "bcc"}, "-c", "true")

    assert run.status == 0, run.told
    (row,) = run.rows("cpu.csv")
    assert (row["COMM"], float(row["ON CPU"]) > 0) == ("true", True)
    assert [row["SYSCALL_ID"] for row in run.rows("syscall.csv")][-1] == "231"


def test_output_and_input_are_the_program_s(tmp_path):
    (tmp_path / "config.json").write_text('{"snoop_cpu": "stat"}')
    done = subprocess.run(
        command("-c", "tr a-z A-Z"), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, input="hello"
    )

    assert done.stdout == "HELLO"


def test_json_is_the_summary_for_programs(tmp_path):
    run = snoop(tmp_path, {"snoop_cpu": "stat"}, "--json=short", "-c", "sh -c 'exit 3'")
    summary = json.loads(run.told)

    assert (summary["status"], summary["learned"], summary["anomalies"]) == (3, None, [])
    assert summary["files"] == {str(tmp_path / "cpu.csv"): 1}


# ---- what is wrong is one line, and nothing has run


def refused(run: Run, said: str, status: int = 1) -> None:
    assert run.status == status, run.told
    lines = [line for line in run.told.splitlines() if "longer and each free" not in line]
    assert len(lines) == 1, run.told
    assert said in lines[0]
    assert "Traceback" not in run.told
    assert not (run.place / "ran").exists()


TOUCH = ("-c", "touch ran")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"snoop_cpu": "bcc"\n"interval": 1}', "config.json:1: column 20: a comma is missing"),
        ({"snoop_cpu": "bbc"}, "snoop_cpu is 'bbc', expected one of bcc, stat, top, null"),
        ({"snoop_cpu": None}, "every signal is off"),
        ({"snoop_cpu": "stat", "csvpath": "/proc/nowhere"}, "/proc/nowhere/cpu.csv: can't be written"),
        ({"snoop_cpu": "stat", "cpu_output_file": "/dev/full"}, "/dev/full: can't be written: no space left on device"),
        ({"snoop_cpu": "stat", "outcomepath": "/dev/null/x"}, "/dev/null/x: can't be written: not a directory"),
        ({"probes": {"event_name": ["/usr/bin/touch:nonsense"]}}, "nonsense"),
        ({"probes": {"event_name": ["./none:f"]}}, "none"),
        ({"probes": {"event_name": ["libc:malloc"], "spid": 4}}, "no thread 4"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_nothing_runs(config, said, tmp_path):
    refused(snoop(tmp_path, config, *TOUCH), said)


def test_near_names_are_offered_for_a_symbol_that_is_not_there(program, tmp_path):
    run = snoop(tmp_path, {"probes": {"event_name": [f"{program}:serch"]}}, "-c", str(program))

    refused(run, "search")


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("-c", "nosuch"), "cannot run nosuch: no such file or directory", 127),
        (("-c", "/etc/passwd"), "cannot run /etc/passwd: permission denied", 126),
        (("-c", "'"), "no closing quotation", 2),
        (("-c", ""), "the command is empty", 2),
        (("-p", "999999"), "no process 999999", 4),
        (("-p", "2"), "", 1),
        (("-p", "x"), "no pid: x; write a number", 2),
        ((), "one of the arguments -c/--command -p/--pid is required", 2),
        (("-p", "1", "-c", "true"), "not allowed with", 2),
        (("-c", "touch ran", "-i", "0"), "--interval is 0.0, expected seconds from 0.1 to 86400", 2),
        (("-c", "touch ran", "--configure_file", "none.json"), "none.json: no such file or directory", 1),
        (("-c", "touch ran", "--detectors", "none.yml"), "none.yml", 1),
    ],
)
def test_a_wrong_command_line_is_one_line(words, said, status, tmp_path):
    run = snoop(tmp_path, {"snoop_cpu": "stat"}, *words)
    if words == ("-p", "2") and not Path("/proc/2").exists():
        said = "no process 2"
    refused(run, said, status)


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def open_to_everybody(directory: Path) -> None:
    directory.chmod(0o777)
    for parent in directory.parents:
        # those that pytest made, and each of its processes where there are several
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)


def test_without_root_the_kernel_s_signals_are_refused(tmp_path):
    open_to_everybody(tmp_path)
    refused(snoop(tmp_path, {"snoop_cpu": "bcc"}, *TOUCH, under=NOBODY), "snoop_cpu needs root")
    refused(
        snoop(tmp_path, {"snoop_mem": "bcc_kernel"}, "-p", str(os.getpid()), under=NOBODY),
        f"the memory of process {os.getpid()} is another user's",
    )


def test_without_root_the_files_of_proc_serve(tmp_path):
    open_to_everybody(tmp_path)
    config = {"snoop_cpu": "stat", "snoop_mem": "bcc_kernel", "interval": 0.2}
    run = snoop(tmp_path, config, "-c", "sleep 1", under=NOBODY)

    assert run.status == 0, run.told
    assert len(run.rows("cpu.csv")) >= 3
    assert len(run.rows("mem.csv")) >= 3


def test_a_full_disk_costs_rows_and_not_the_run(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        config = {"snoop_cpu": "bcc", "snoop_syscall": "bcc", "syscall_output_file": str(disk / "syscall.csv")}
        run = snoop(tmp_path, config, "-c", "find /usr/share/doc -maxdepth 2")
        written = (disk / "syscall.csv").read_text().splitlines()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)

    assert run.status == 0, run.told
    assert "syscall.csv: no space left on device: rows are lost" in run.told
    assert f"rows of {disk}/syscall.csv" in run.told
    assert all(line.count(",") == 5 for line in written if line != "END")
    assert run.rows("cpu.csv")


LEAKER = """
import ctypes, time
malloc = ctypes.CDLL(None).malloc
input()
for _ in range(499):
    malloc(1009)
time.sleep(60)
"""


@pytest.mark.parametrize("way", ["bcc", "bcc_user"])
def test_memory_of_a_process_that_runs_already(way, tmp_path):
    process = subprocess.Popen([sys.executable, "-S", "-c", LEAKER], stdin=subprocess.PIPE)
    try:
        config = {"snoop_cpu": "stat", "snoop_mem": way, "interval": 0.3}
        (tmp_path / "config.json").write_text(json.dumps(config))
        snooping = started(tmp_path, "-p", str(process.pid))
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
        time.sleep(3)
        snooping.send_signal(signal.SIGINT)
        told = snooping.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()

    assert snooping.returncode == 0, told
    assert "each malloc takes" in told
    with (tmp_path / "mem.csv").open() as file:
        *_, last, end = csv.reader(file)
    assert end == ["END"]
    assert LEAKS <= int(last[3]) < LEAKS + 100
    assert LEAKS * LEAK_BYTES <= int(last[2]) < LEAKS * LEAK_BYTES + 65536


# Steady for 35 s, then one core full for 12 s.
FAULT = """
import time
def busy(until, share):
    while time.monotonic() < until:
        begun = time.monotonic()
        while time.monotonic() - begun < 0.1 * share:
            pass
        time.sleep(0.1 * (1 - share) + 0.0005)
start = time.monotonic()
busy(start + 35, 0.1)
busy(start + 47, 1)
"""


@pytest.mark.timeout(150)
def test_finds_a_loop_that_runs_away(tmp_path):
    (tmp_path / "work.py").write_text(FAULT)
    (tmp_path / "detectors.yml").write_text("warmup_s: 30\n")
    config = {"snoop_cpu": "bcc", "interval": 0.5, "csvpath": "csv", "outcomepath": "outcome", "detect_interval": 5}
    run = snoop(tmp_path, config, "--detectors", "detectors.yml", "-c", f"{sys.executable} work.py")

    assert run.status == 0, run.told
    assert "1. python3[" in run.told
    header, *found = run.lines("outcome/anomalies.csv")
    rows = run.rows("csv/cpu.csv")
    fault_s = float(rows[-1]["TIME"]) - 12
    kinds = [dict(zip(header, line, strict=True)) for line in found]
    (anomaly,) = [line for line in kinds if abs(float(line["first"]) - fault_s) < 6]
    assert anomaly["file"] == "cpu"
    assert anomaly["PID"] == rows[0]["PID"]
    alarmed = [row for row in run.rows("outcome/cpu.csv") if row["alarm"] == "1" and float(row["TIME"]) > fault_s - 1]
    assert {row["anomaly"] for row in alarmed} == {anomaly["anomaly"]}


def test_a_function_that_was_never_called_is_named_at_the_end(tmp_path: Path):
    libc = "/lib/x86_64-linux-gnu/libc.so.6"
    probes = {"event_name": [f"{libc}:malloc", f"{libc}:shmget"]}
    done = snoop(tmp_path, {"snoop_cpu": "stat", "probes": probes}, "-c", "cat /dev/null", "--json=short")

    assert json.loads(done.told)["unseen"] == [f"{libc}:shmget"]
