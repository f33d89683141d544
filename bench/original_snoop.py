"""What the original OSdetector does for its log of system calls, for comparison: a BPF queue, emptied one by one.

    sudo /usr/bin/python3 bench/original_snoop.py PID FILE

Its record, its queue (10240 places; a full one drops the oldest and says nothing), its way to empty it and its
interval.  Ours are the headers, as the original needs those of the running kernel, and raw tracepoints, which cost
less.  x86-64 only.  Ends on SIGINT.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.hooking import hooked

INTERVAL_S = 1.0
PROGRAM = """
#include <linux/ptrace.h>

struct record { u32 type; u32 pid; u64 ts; char comm[16]; int id; u64 p[10]; };
BPF_QUEUE(records, struct record, 10240);

static inline int put(u32 type, int id, u64 value)
{
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    struct record r = {};

    if (pid != WATCHED)
        return 0;
    r.type = type;
    r.pid = pid;
    r.ts = bpf_ktime_get_ns();
    bpf_get_current_comm(&r.comm, sizeof(r.comm));
    r.id = id;
    r.p[5] = value;
    records.push(&r, BPF_EXIST);
    return 0;
}

int enter(struct bpf_raw_tracepoint_args *ctx) { return put(0, ctx->args[1], 0); }

int leave(struct bpf_raw_tracepoint_args *ctx)
{
    u64 id = 0;

    bpf_probe_read_kernel(&id, sizeof(id), &((struct pt_regs *)ctx->args[0])->orig_ax);
    return put(1, id, ctx->args[1]);
}
"""


def main() -> int:
    pid, path = int(sys.argv[1]), Path(sys.argv[2])
    enough = []
    signal.signal(signal.SIGINT, lambda *_: enough.append(True))
    queue = hooked(PROGRAM, f"-DWATCHED={pid}")["records"]
    with path.open("w") as file:
        file.write("TIME,PID,COMM,ACTION,SYSCALL_ID,PARM1\n")
        file.flush()
        last = False
        while not last:
            time.sleep(INTERVAL_S)
            last = bool(enough)
            while True:
                try:
                    record = queue.pop()
                except KeyError:
                    break
                file.write(f"{time.time():.2f},{record.pid},{record.comm.decode()},{record.type},{record.id},0\n")
        file.write("END\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
