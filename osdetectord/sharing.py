"""Sharing: a process is watched for as long as anybody wants it: a target, a probe, or who counts allocations."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from osdetectord.sampler import ProcessSeries


class Processes(Protocol):
    """Where processes are watched; :class:`osdetectord.sampler.Sampler` is it."""

    def add(self, pid: int, follow_children: bool = True) -> ProcessSeries: ...
    def remove_all(self, series: Collection[int]) -> None: ...


class Share:
    """The processes of the sampler for one of several who want them: what another wants stays watched.

    Parameters
    ----------
    processes
        The sampler.
    wanted_elsewhere
        Whether somebody else wants a series.
    """

    def __init__(self, processes: Processes, wanted_elsewhere: Callable[[int], bool]) -> None:
        self._processes, self._wanted_elsewhere = processes, wanted_elsewhere

    def add(self, pid: int, follow_children: bool = True) -> ProcessSeries:
        return self._processes.add(pid, follow_children)

    def remove_all(self, series: Collection[int]) -> None:
        self._processes.remove_all([one for one in series if not self._wanted_elsewhere(one)])
