"""A process: a pid together with its start time, because pids are reused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """Identity of a process.

    Parameters
    ----------
    pid
        Thread group id in the daemon's own pid namespace.
    start_ticks
        Start time in clock ticks since boot, field 22 of ``/proc/PID/stat``.
    """

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """What is known of a process besides its identity; strings are as the kernel gave them.

    Parameters
    ----------
    process
        Identity.
    parent_pid
        Parent at the time of looking, 0 where unknown.
    comm
        Command name, at most 15 bytes; undecodable bytes are surrogate-escaped.
    exe
        Path of the executable, empty where unreadable.
    uid
        Real user id.
    """

    process: Process
    parent_pid: int
    comm: str
    exe: str
    uid: int
