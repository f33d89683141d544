"""History: what was seen is handed over in memory, within bounds, to a thread that may wait for the disk."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from osdetectord.core import AnomalyView
from osdetectord.history_file import HistoryFile, Row
from osdetectord.thinning import STEPS

_MOST_WAITING = 16 << 20
"""Bytes of samples that wait for the disk."""
_ROW_BYTES = 200
"""What a row takes besides its samples while it waits."""
_MOST_UNWRITTEN = 1000
"""Anomalies that are kept in memory while the disk takes none."""
_MOST_EVIDENCE = 8 << 20
"""Bytes of their evidence."""

_Unwritten = tuple[AnomalyView, "bytes | None"]
"""An anomaly and its evidence, compressed; None leaves what was written."""


class History:
    """What was seen.

    What is added waits in memory for :meth:`flush`, which waits for the disk and is for a thread.  Nobody else has to:
    what waits to be written is in the answers where they are of anomalies.

    Parameters
    ----------
    file
        Keeps what is written.
    metrics
        Names of the columns of the rows that will be added.
    """

    def __init__(self, file: HistoryFile, metrics: Sequence[str]) -> None:
        self.file = file
        self._metrics = tuple(metrics)
        self._writing = threading.Lock()
        """Held by whoever writes."""
        self._handing = threading.Lock()
        """Held for a moment, while what waits is handed over."""
        self._waiting: list[Row] = []
        self._waiting_bytes = 0
        self._unwritten: dict[int, _Unwritten] = {}
        self.waits: Callable[[], None] = lambda: None
        """Called when an anomaly waits to be written."""
        self.lost_rows = 0
        """Rows that the disk did not take, and that did not fit while they waited for it."""

    # ---- samples

    def add(
        self, target: int, time_us: int, row: NDArray[np.float64], others: Mapping[str, float] | None = None
    ) -> None:
        """Queue a row of samples, shape ``(metrics,)``, and those of other metrics; :meth:`flush` writes it."""
        metrics = self._metrics
        if others:
            metrics = (*metrics, *others)
            row = np.concatenate((row, list(others.values())))
        self._wait((0, 0, target, time_us, metrics, row.astype("<f4").tobytes()))

    def add_expected(self, target: int, time_us: int, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        """Queue the range that was expected of each metric; it stands for the finest step."""
        data = np.stack([low, high]).astype("<f4").tobytes()
        self._wait((1, STEPS[0].step_s, target, time_us, self._metrics, data))

    def knows(self, target: int) -> bool:
        """Return whether there are samples of a target, which may be watched no more."""
        with self._handing:
            if any(row[2] == target for row in self._waiting):
                return True
        return self.file.knows(target)

    def names(self) -> frozenset[str]:
        """Return the metrics of which there are, or were, samples."""
        with self._handing:
            waiting = {row[4] for row in self._waiting}
        return self.file.names().union(self._metrics, *waiting)

    # ---- anomalies

    def put_anomaly(self, view: AnomalyView, evidence: bytes | None = None) -> None:
        """Hand over an anomaly's newest state, to be written soon; its evidence stays where none is given."""
        packed = None if evidence is None else zlib.compress(evidence, 1) if evidence else b""
        with self._handing:
            if packed is None and view.number in self._unwritten:
                packed = self._unwritten[view.number][1]
            self._unwritten[view.number] = (view, packed)
            while len(self._unwritten) > _MOST_UNWRITTEN:
                del self._unwritten[next(iter(self._unwritten))]
                self.lost_rows += 1
            kept = sum(len(one) for _, one in self._unwritten.values() if one is not None)
            for number, (old, one) in self._unwritten.items():
                if kept <= _MOST_EVIDENCE:
                    break
                self._unwritten[number] = (old, None)
                kept -= len(one or b"")
        self.waits()

    def anomaly(self, number: int) -> AnomalyView | None:
        """Return one anomaly; raises :class:`OSError` if it can't be read."""
        with self._handing:
            unwritten = self._unwritten.get(number)
        return self.file.anomaly(number) if unwritten is None else unwritten[0]

    def evidence(self, number: int) -> bytes:
        """Return an anomaly's evidence, empty where there is none, for a thread that may wait for the disk.

        Raises
        ------
        OSError
            If it can't be read.
        """
        with self._handing:
            _, packed = self._unwritten.get(number, (None, None))
        if packed is None:
            packed = self.file.evidence(number)
        try:
            return zlib.decompress(packed) if packed else b""
        except zlib.error as error:
            raise OSError(f"the evidence of anomaly {number} can't be read: {error}") from None

    def anomalies(
        self, since_us: int, until_us: int, target: int | None, only_open: bool, limit: int
    ) -> list[AnomalyView]:
        """Return anomalies that opened within the time, newest first; raises :class:`OSError`."""
        # first what waits: what is written meanwhile is then found twice, and not missed
        with self._handing:
            unwritten = {number: view for number, (view, _) in self._unwritten.items()}
        written = self.file.anomalies(since_us, until_us, target, only_open, limit)
        found = [view for view in written if view.number not in unwritten]
        found += [
            view
            for view in unwritten.values()
            if since_us <= view.opened_us <= until_us
            and target in (None, view.target)
            and not (only_open and view.closed_us)
        ]
        return sorted(found, key=lambda view: -view.number)[:limit]

    def last_anomaly(self) -> int:
        """Return the highest number given so far, 0 for none; raises :class:`OSError`."""
        with self._handing:
            waiting = max(self._unwritten, default=0)
        return max(waiting, self.file.last_anomaly())

    def close_open(self, at_us: int) -> list[AnomalyView]:
        """Close what a daemon that died left open, and return it."""
        left = self.anomalies(0, 1 << 62, None, True, 1 << 30)
        closed = [replace(view, state="closed", closed_us=at_us) for view in left]
        for view in closed:
            self.put_anomaly(view)
        return closed

    # ---- for a thread that may wait for the disk

    def flush(self) -> None:
        """Write what waits.

        Raises
        ------
        OSError
            If the disk is full or gone; samples that waited are lost then and counted, anomalies wait on.
        """
        with self._writing:
            with self._handing:
                waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            try:
                self.file.write_rows(waiting)
            except OSError:
                with self._handing:
                    self.lost_rows += len(waiting)
                raise
            self._write_anomalies()

    def write_anomalies(self) -> None:
        """Write the anomalies that wait; raises :class:`OSError`."""
        with self._writing:
            self._write_anomalies()

    def close(self) -> None:
        """Write what waits and close the file."""
        with suppress(OSError):
            self.flush()
        self.file.close()

    # ---- within

    def _wait(self, row: Row) -> None:
        """Queue a row; it is lost where too much waits already."""
        size = _ROW_BYTES + len(row[5])
        with self._handing:
            if self._waiting_bytes + size > _MOST_WAITING:
                self.lost_rows += 1
                return
            self._waiting.append(row)
            self._waiting_bytes += size

    def _write_anomalies(self) -> None:
        while True:
            with self._handing:
                if not self._unwritten:
                    return
                number, unwritten = next(iter(self._unwritten.items()))
            self.file.write_anomaly(*unwritten)
            with self._handing:
                # a newer state may have come meanwhile
                if self._unwritten.get(number) is unwritten:
                    del self._unwritten[number]
