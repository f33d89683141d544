import math
import os
import subprocess
import sys

import pytest

from osdetectord import proc
from osdetectord.errors import InvalidArgument, NoSuchProcess, Unsupported
from osdetectord.process import Process

LINE = (
    b"4711 (a) R (b\n) S 17 4711 4711 0 -1 4194560 101 0 103 0 107 109 0 0 20 0 11 0 13131 1000 25 "
    b"18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0"
)


def test_a_hostile_name_does_not_shift_the_fields():
    stat = proc.Stat.parse(LINE)

    assert (stat.pid, stat.comm, stat.state, stat.parent_pid) == (4711, "a) R (b\n", "S", 17)
    assert (stat.minor_faults, stat.major_faults, stat.user_ticks, stat.system_ticks) == (101, 103, 107, 109)
    assert (stat.threads, stat.start_ticks) == (11, 13131)


def test_bytes_that_are_no_text_survive_in_a_name():
    assert os.fsencode(proc.Stat.parse(LINE.replace(b"(a)", b"(\xff\xfe)")).comm).startswith(b"\xff\xfe")


def test_this_process_is_identified_and_described():
    process = proc.identify(os.getpid())
    info = proc.info(process)

    assert process.pid == os.getpid() and process.start_ticks > 0
    assert (info.parent_pid, info.uid, info.exe) == (os.getppid(), os.getuid(), os.path.realpath(sys.executable))


def test_what_is_not_there_is_refused_by_its_number():
    with pytest.raises(NoSuchProcess, match="no process 4194304"):
        proc.identify(4194304)


def test_a_pid_of_another_process_by_now_is_refused():
    with pytest.raises(NoSuchProcess, match=f"no process {os.getpid()}"):
        proc.info(Process(os.getpid(), 1))
    with pytest.raises(NoSuchProcess, match=f"no process {os.getpid()}"):
        proc.Files(Process(os.getpid(), 1), fds_told=False)


def test_threads_of_the_kernel_and_of_others_are_refused():
    with pytest.raises(Unsupported, match=r"process 2 .* is a thread of the kernel"):
        proc.identify(2)
    import threading

    tids, done = [], threading.Event()
    thread = threading.Thread(target=lambda: (tids.append(threading.get_native_id()), done.wait()))
    thread.start()
    while not tids:
        pass
    try:
        with pytest.raises(InvalidArgument, match=f"{tids[0]} is a thread of process {os.getpid()}"):
            proc.identify(tids[0])
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("told", [True, False])
def test_readings_are_those_of_the_process(told):
    if told:
        told = proc.fd_count_is_told()
    files = proc.Files(proc.identify(os.getpid()), fds_told=told)
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(13)]
    some = files.read()
    for fd in opened:
        os.close(fd)
    rest = files.read()
    files.close()
    value = dict(zip((metric.name for metric in proc.METRICS), some, strict=True))
    later = dict(zip((metric.name for metric in proc.METRICS), rest, strict=True))

    assert len(some) == len(proc.METRICS)
    assert value["process.fds"] - later["process.fds"] == 13
    assert value["process.threads"] == len(proc.threads(os.getpid()))
    assert 0 < value["memory.anon"] <= value["memory.rss"] <= value["memory.virtual"]
    assert later["io.read_chars"] > value["io.read_chars"] > 0


def test_files_of_a_process_that_ended_say_so_and_nothing_else():
    child = subprocess.Popen(["/bin/sleep", "60"])
    files = proc.Files(proc.identify(child.pid), fds_told=False)
    assert files.alive()
    child.kill()
    child.wait()

    assert not files.alive()
    with pytest.raises(NoSuchProcess):
        files.read()
    with pytest.raises(NoSuchProcess):
        files.scheduled()
    files.close()


def test_children_are_those_of_all_threads():
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert child.pid in proc.children(os.getpid())
    finally:
        child.kill()
        child.wait()
    assert child.pid not in proc.children(os.getpid())
    assert proc.children(4194304) == []


def test_a_process_whose_io_may_not_be_read_has_all_other_readings(monkeypatch):
    files = proc.Files(proc.identify(os.getpid()), proc.fd_count_is_told())
    monkeypatch.setattr(files, "_io", os.open("/proc/self/io", os.O_RDONLY))
    pread = os.pread

    def refused(fd, size, offset):
        if fd == files._io:
            raise PermissionError(13, "Permission denied")
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", refused)
    readings = files.read()
    files.close()
    os.close(files._io)

    unknown = {metric.name for metric, value in zip(proc.METRICS, readings, strict=True) if math.isnan(value)}
    assert unknown == {"io.read_chars", "io.write_chars", "io.read_bytes", "io.write_bytes"}
