"""What one run of each attached program takes, by the kernel's own clock (BPF_ENABLE_STATS).

    sudo /usr/bin/python3 bench/program_cost.py [--seconds N]

A watched process switches, forks, sends, reads and writes meanwhile, and so do others that are not watched.  The
time includes the two readings of the clock; the call of the program itself is not in it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from osdetectord.bpf import syscall
from osdetectord.sampler import Sampler

# include/uapi/linux/bpf.h
OBJ_GET_INFO_BY_FD, ENABLE_STATS = 15, 32
NAME_AT, RUN_TIME_AT = 64, 192  # struct bpf_prog_info: name, then run_time_ns and run_cnt

WORK = """
import mmap, os, socket, sys, threading, time
a, b = socket.socketpair()
page, path = mmap.mmap(-1, 4096), sys.argv[1]
file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
def answer():
    while True:
        b.send(b.recv(1))
threading.Thread(target=answer, daemon=True).start()
while True:
    for _ in range(500):
        a.send(b"x"); a.recv(1)
    for _ in range(20):
        os.pwrite(file, page, 0); os.preadv(file, [page], 0)
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0)); server.listen()
        client.connect(server.getsockname()); server.accept()[0].close()
    if os.fork() == 0:
        os._exit(0)
    os.wait()
"""


def told(fd: int) -> tuple[str, int, int]:
    """Name, run time in ns and runs of a program."""
    info = ctypes.create_string_buffer(256)
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)), 16)
    syscall.bpf(OBJ_GET_INFO_BY_FD, attributes)
    name = info.raw[NAME_AT : NAME_AT + 16].split(b"\0")[0].decode()
    return name, *struct.unpack_from("<QQ", info.raw, RUN_TIME_AT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    files = [Path(f"/var/tmp/osdetectord-bench-{os.getpid()}-{index}") for index in range(2)]
    workers = [subprocess.Popen(["/usr/bin/python3", "-S", "-c", WORK, file]) for file in files]
    sampler = Sampler.open(max_processes=256)
    # as long as it is open
    stats = syscall.bpf(ENABLE_STATS, ctypes.create_string_buffer(4))
    try:
        for whose, watch in (("nobody is watched", None), ("one of two is watched", workers[0].pid)):
            if watch is not None:
                sampler.add(watch)
            before = [told(fd) for fd in sampler._kernel._attached]
            end = time.monotonic() + options.seconds
            while time.monotonic() < end:
                sampler.tick(time.monotonic_ns())
                time.sleep(0.5)
            after = [told(fd) for fd in sampler._kernel._attached]
            print(f"{whose}, {options.seconds:.0f} s\n{'program':20}{'runs':>12}{'ns per run':>12}")
            for (name, ns, runs), (_, later_ns, later_runs) in zip(before, after, strict=True):
                if later_runs > runs:
                    print(f"{name:20}{later_runs - runs:12}{(later_ns - ns) / (later_runs - runs):12.0f}")
    finally:
        os.close(stats)
        sampler.close()
        for worker, file in zip(workers, files, strict=True):
            worker.kill()
            worker.wait()
            file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
