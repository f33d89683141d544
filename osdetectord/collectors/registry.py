"""The collectors of kernel totals, written out; a new one is one more line."""

from __future__ import annotations

from pathlib import Path

from osdetectord.collector import Collector
from osdetectord.collectors.block import BlockCollector
from osdetectord.collectors.cpu import CpuCollector
from osdetectord.collectors.lifecycle import LifecycleCollector
from osdetectord.collectors.network import NetworkCollector
from osdetectord.collectors.packets import PacketCollector
from osdetectord.collectors.syscalls import SyscallCollector

COLLECTORS: tuple[Collector, ...] = (
    LifecycleCollector(),
    CpuCollector(),
    SyscallCollector(),
    NetworkCollector(),
    BlockCollector(),
    PacketCollector(),
)

OPTIONAL = frozenset({"packets"})
"""Those that only serve where the configuration asks for them."""

ALWAYS = tuple(collector.name for collector in COLLECTORS if collector.name not in OPTIONAL)

# what the other sources build on
COMMON = (
    *("watch.bpf.c", "registers.bpf.c", "syscall_log.bpf.c"),
    *("socket.bpf.c", "packets.bpf.c", "effects.bpf.c"),
)

# programs of user functions: attached one by one while the daemon runs
FUNCTIONS = ("allocation.bpf.c", "uprobe.bpf.c")


def sources() -> tuple[Path, ...]:
    """The ``.bpf.c`` files in the order in which they are compiled, as one."""
    here = Path(__file__).parent
    names = (*COMMON, *(collector.source for collector in COLLECTORS), *FUNCTIONS)
    return tuple(here / name for name in dict.fromkeys(names))


def without_kernel(collector: Collector) -> int:
    """Position of the hook that serves a collector without BPF programs, -1 if none does."""
    return next((rank for rank, hook in enumerate(collector.hooks) if not hook.attachments), -1)
