"""What /proc tells of single threads, for when somebody asks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from osdetectord import proc


@dataclass(frozen=True, slots=True)
class Task:
    """A thread: its name, the letter of its state, and its switches since its start."""

    comm: str
    state: str
    voluntary: int
    involuntary: int


def run_times(pids: Iterable[int]) -> dict[tuple[int, int], int]:
    """Nanoseconds on a CPU since their start of all threads of these processes, by process and thread id."""
    return {(pid, tid): ns for pid in pids for tid, ns in proc.thread_times(pid).items()}


def task_of(pid: int, tid: int) -> Task | None:
    """Return a thread, None if it has ended."""
    try:
        with open(f"/proc/{pid}/task/{tid}/status", "rb", buffering=0) as file:
            lines = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
    except OSError:
        return None
    try:
        return Task(
            comm=os.fsdecode(lines[b"Name"].strip()),
            state=lines[b"State"].split()[0].decode(),
            voluntary=int(lines[b"voluntary_ctxt_switches"]),
            involuntary=int(lines[b"nonvoluntary_ctxt_switches"]),
        )
    except (KeyError, ValueError, IndexError):
        return None  # half of the file: it ended meanwhile
