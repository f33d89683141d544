"""Two programs at the hooks of system calls, compiled as the daemon's are, without what the daemon does around them.

    sudo /usr/bin/python3 bench/hooking.py

hooks two that do nothing, says so, and ends on SIGINT.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from osdetectord.bpf.btf import Btf
from osdetectord.bpf.headers import write_tree

NOTHING = "int enter(void *ctx) { return 0; } int leave(void *ctx) { return 0; }"


def hooked(text: str, *flags: str) -> Any:
    """Return BCC's object of a program text whose ``enter`` and ``leave`` are attached as raw tracepoints."""
    with tempfile.TemporaryDirectory() as name:
        write_tree(Path(name), Btf.of_kernel())
        os.environ["BCC_KERNEL_SOURCE"] = name
        from bcc import BPF

        bpf = BPF(text=text, cflags=list(flags))
    bpf.attach_raw_tracepoint(b"sys_enter", b"enter")
    bpf.attach_raw_tracepoint(b"sys_exit", b"leave")
    return bpf


def main() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    held = hooked(NOTHING)
    print("hooked", flush=True)
    signal.sigwait([signal.SIGINT])
    held.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
