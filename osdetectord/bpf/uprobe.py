"""Attaching loaded programs to functions of user programs, in one of two ways, and what they share with the daemon.

``multi`` is the uprobe_multi link (89ae89f53d20, Linux 6.6), which needs CAP_BPF and CAP_PERFMON.  ``perf`` is
the event source ``uprobe`` of perf_event_open(2) with a BPF link that carries a cookie (82e6b1eee6a8, Linux
5.15); it needs CAP_SYS_ADMIN.  A link lives as long as its descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.bpf.ring import Ring
from osdetectord.bpf.syscall import Map, bpf, create_ring
from osdetectord.collectors.uprobe import LOST, PAGES, RINGS
from osdetectord.core import HookView

LINK_CREATE = 28
PERF_EVENT, TRACE_UPROBE_MULTI = 41, 48
MULTI_RETURN = 1

ATTACH_TYPE = {"multi": TRACE_UPROBE_MULTI, "perf": -1}
"""What a program must be loaded for."""

WAYS = tuple(ATTACH_TYPE)
HOOKS = ("uprobe_multi links", "uprobes by perf_event_open")
"""The ways, as people are told of them."""

PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}.get(platform.machine(), 241)
PERF_CLOEXEC = 8
EVENT_SOURCE = "/sys/bus/event_source/devices/uprobe"

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class Rings:
    """The rings of calls and events: there only while somebody is probed, as they hold megabytes.

    Parameters
    ----------
    table
        The array in which the programs find them.
    """

    def __init__(self, table: Map) -> None:
        self._table = table
        self._rings: dict[str, Ring] = {}

    def open(self) -> None:
        """Make them, if they are not there; raises OSError."""
        if self._rings:
            return
        try:
            for index, (name, record) in enumerate(RINGS.items()):
                size = PAGES[name] * os.sysconf("SC_PAGESIZE")
                fd = create_ring(size)
                try:
                    self._rings[name] = Ring(fd, size, record)
                    self._table.set(index.to_bytes(4, "little"), fd.to_bytes(4, "little"))
                finally:
                    # the table and the mapping hold it
                    os.close(fd)
        except OSError:
            self.close()
            raise

    def read(self, name: str) -> NDArray[Any]:
        """Take what is in a ring, oldest first; nothing where it is not open."""
        ring = self._rings.get(name)
        return np.zeros(0, dtype=RINGS[name]) if ring is None else ring.read()

    def close(self) -> None:
        """Give their memory back; what is in them is lost."""
        if not self._rings:
            return
        self._table.delete(np.arange(len(RINGS), dtype=self._table.key))
        for ring in self._rings.values():
            ring.close()
        self._rings = {}


@dataclass(frozen=True, slots=True)
class Uprobes:
    """What the loader made for functions of user programs.

    Parameters
    ----------
    way
        ``multi``, ``perf``, or nothing where neither works.
    why
        Why no better way works.
    programs
        Descriptors by name.
    maps
        By name.
    rings
        Of calls and events; None where neither way works.
    """

    way: str
    why: str
    programs: Mapping[str, int] = field(default_factory=dict)
    maps: Mapping[str, Map] = field(default_factory=dict)
    rings: Rings | None = None

    def hook_view(self) -> HookView:
        """How functions of user programs are probed here, and why no better way works."""
        rank = WAYS.index(self.way) if self.way else -1
        return HookView("functions", HOOKS[rank] if rank >= 0 else "", rank, self.why)

    def lost(self, causes: Collection[str]) -> dict[str, int]:
        """What was lost since the load, by cause with ``probe_`` before it; see ``collectors.uprobe.LOST``."""
        table = self.maps.get("probe_lost")
        if table is None:
            return {}
        held = {name: table.get(LOST.index(name).to_bytes(4, "little")) for name in causes}
        return {f"probe_{name}": 0 if value is None else int(value.sum()) for name, value in held.items()}

    def attach(self, program: str, path: str, offset: int, cookie: int, pid: int, returns: bool) -> tuple[int, ...]:
        """Run a program at an instruction of a file, in one process or, with pid 0, in all that map the file.

        ``offset`` is in the file; ``pid`` of the daemon's namespace; ``returns`` runs it when the function that
        begins there returns.  Gives the descriptors that hold it.  Raises OSError.
        """
        fd = self.programs[program]
        if self.way == "multi":
            return (_link_multi(fd, path, offset, cookie, pid, returns),)
        event = _open_event(path, offset, pid, returns)
        try:
            return (_link_event(fd, event, cookie), event)
        except OSError:
            os.close(event)
            raise


def _link_multi(program: int, path: str, offset: int, cookie: int, pid: int, returns: bool) -> int:
    name = ctypes.create_string_buffer(os.fsencode(path))
    offsets, cookies = (ctypes.c_uint64 * 1)(offset), (ctypes.c_uint64 * 1)(cookie)
    # prog_fd target_fd attach_type flags; path offsets ref_ctr_offsets cookies cnt flags pid
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "<IIIIQQQQIII",
            *(program, 0, TRACE_UPROBE_MULTI, 0),
            *(ctypes.addressof(name), ctypes.addressof(offsets), 0, ctypes.addressof(cookies)),
            *(1, MULTI_RETURN if returns else 0, pid & 0xFFFFFFFF),
        ),
        64,
    )
    return bpf(LINK_CREATE, attributes)


def _open_event(path: str, offset: int, pid: int, returns: bool) -> int:
    try:
        with open(f"{EVENT_SOURCE}/type", encoding="ascii") as file:
            kind = int(file.read())
        with open(f"{EVENT_SOURCE}/format/retprobe", encoding="ascii") as file:
            bit = int(file.read().strip().removeprefix("config:"))
    except (OSError, ValueError):
        raise OSError(errno.ENODEV, "the kernel has no event source uprobe") from None
    name = ctypes.create_string_buffer(os.fsencode(path))
    # struct perf_event_attr: type size config sample_period sample_type read_format flags wakeup bp_type
    # config1 (path) config2 (offset)
    attributes = ctypes.create_string_buffer(
        struct.pack("<IIQQQQQIIQQ", kind, 112, int(returns) << bit, 0, 0, 0, 0, 0, 0, ctypes.addressof(name), offset),
        112,
    )
    # a process's threads share its memory: the event of one of them is seen from all, as BPF programs run for
    # the breakpoint and not for the event's task (trace_uprobe.c, __uprobe_perf_filter)
    result = int(
        _syscall(
            PERF_EVENT_OPEN,
            ctypes.byref(attributes),
            ctypes.c_int(pid or -1),
            ctypes.c_int(-1 if pid else 0),
            ctypes.c_int(-1),
            ctypes.c_ulong(PERF_CLOEXEC),
        )
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _link_event(program: int, event: int, cookie: int) -> int:
    # prog_fd target_fd attach_type flags; perf_event.bpf_cookie
    attributes = ctypes.create_string_buffer(struct.pack("<IIIIQ", program, event, PERF_EVENT, 0, cookie), 64)
    return bpf(LINK_CREATE, attributes)


def refusal(way: str, program: int) -> str:
    """Why a program that is loaded for a way can't be attached so; nothing where it can."""
    return _multi_refusal(program) if way == "multi" else _perf_refusal(program)


def _multi_refusal(program: int) -> str:
    try:
        os.close(_link_multi(program, "/", 0, 0, 0, returns=False))
    except OSError as error:
        # asked for a directory, a kernel that knows such links says so (probe_uprobe_multi_link() of libbpf)
        if error.errno != errno.EBADF:
            return f"no uprobe_multi links ({(error.strerror or '').lower()})"
    try:
        os.close(_link_multi(program, "/", 0, 0, -1, returns=False))
    except OSError as error:
        # before 46ba0e49b642 (6.10 and stable kernels) a link to a process saw only its first thread
        if error.errno != errno.EINVAL:
            return "uprobe_multi links see one thread only (46ba0e49b642 is missing)"
    return ""


def _perf_refusal(program: int) -> str:
    try:
        # the ELF header is never executed: nothing is patched
        event = _open_event("/proc/self/exe", 0, os.getpid(), returns=False)
    except OSError as error:
        reason = (error.strerror or "").lower()
        if error.errno in (errno.EPERM, errno.EACCES):
            reason += ": it needs CAP_SYS_ADMIN and perf_event_open in SystemCallFilter="
        return f"no uprobes by perf_event_open ({reason})"
    try:
        os.close(_link_event(program, event, 1))
    except OSError as error:
        return f"no links with cookies on perf events ({(error.strerror or '').lower()})"
    finally:
        os.close(event)
    return ""
