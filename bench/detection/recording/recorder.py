"""The recorder: a row a second of each process, while faults and jobs come and go."""

from __future__ import annotations

import asyncio
import csv
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.detection.recording.events import Event, labels, write_events
from bench.detection.recording.program import Fault, Job, Program
from bench.detection.recording.schedule import Span
from osdetectord.metric import Metric
from osdetectord.sampler import Sampler


class Recorder:
    """Samples running programs through the project's own collectors.

    Parameters
    ----------
    programs
        By the name of their file.
    pids
        Which process of each.
    """

    def __init__(self, programs: dict[str, Program], pids: Sequence[int]) -> None:
        self._names = list(programs)
        self._faults: list[dict[str, Fault]] = [{f.name: f for f in p.faults()} for p in programs.values()]
        self._jobs: list[dict[str, Job]] = [{j.name: j for j in p.jobs()} for p in programs.values()]
        self._sampler = Sampler.open(max_processes=max(64, 2 * len(pids)))
        self._series = [self._sampler.add(pid, follow_children=False).series for pid in pids]
        self._rows: dict[int, list[NDArray[np.float64]]] = {series: [] for series in self._series}
        self._on: list[Span] = []
        self.events: list[Event] = []

    @property
    def faults(self) -> list[list[str]]:
        """Names of what can go wrong, for each program."""
        return [list(known) for known in self._faults]

    @property
    def jobs(self) -> list[list[str]]:
        """Names of what each program does now and then."""
        return [list(known) for known in self._jobs]

    async def run(self, seconds: int, faults: Sequence[Span], jobs: Sequence[Span]) -> None:
        """Record for so long."""
        ahead = sorted([*faults, *jobs], key=lambda span: span.first)
        loop, start = asyncio.get_running_loop(), time.monotonic()
        with ThreadPoolExecutor(1) as thread:
            for row in range(seconds):
                await asyncio.sleep(max(0.0, start + row - time.monotonic()))
                for span in [span for span in self._on if span.last <= row]:
                    self._end(span, row)
                while ahead and ahead[0].first <= row:
                    self._begin(ahead.pop(0), row)
                tick = await loop.run_in_executor(thread, self._sampler.tick, round((start + row) * 1e9))
                found = dict(zip(tick.frame.series.tolist(), tick.frame.values, strict=True))
                for series, rows in self._rows.items():
                    rows.append(found.get(series, np.full(len(tick.frame.metrics), np.nan)).copy())
        for span in list(self._on):
            self._end(span, seconds)
        self._sampler.close()

    def _begin(self, span: Span, row: int) -> None:
        if span.name in self._faults[span.program]:
            self._faults[span.program][span.name].on()
            self._on.append(Span(row, span.last, span.program, span.name))
        elif span.program not in {fault.program for fault in self._on}:
            self._jobs[span.program][span.name].do()
            self._note(Event(self._names[span.program], span.name, True, row, row + 1, 0, False))

    def _end(self, span: Span, row: int) -> None:
        fault = self._faults[span.program][span.name]
        fault.off()
        self._on.remove(span)
        name, first = self._names[span.program], int(span.first)
        self._note(Event(name, fault.name, False, first, row, fault.aftermath_s, fault.noisy))

    def _note(self, event: Event) -> None:
        self.events.append(event)
        kind = "job  " if event.job else "fault"
        print(f"{event.first:6d} .. {event.last:6d} s  {event.process:14} {kind} {event.name}", flush=True)

    def write(self, directory: Path) -> None:
        """Write a table for each process, and what happened."""
        metrics: tuple[Metric, ...] = self._sampler.metrics
        for name, rows in zip(self._names, self._rows.values(), strict=True):
            label = labels(name, len(rows), self.events)
            with (directory / f"{name}.csv").open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["t", *(metric.name for metric in metrics), "label"])
                for t, row in enumerate(rows):
                    writer.writerow([t, *("" if math.isnan(v) else f"{v:.6g}" for v in row.tolist()), label[t]])
        write_events(directory, self.events)
