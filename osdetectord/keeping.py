"""Keeping: what was seen goes to the history and the CSV files, and these to the disk, which may be slow or full."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress

from osdetectord import wall
from osdetectord.config import Config
from osdetectord.history import History
from osdetectord.logger import get_logger
from osdetectord.recording import Recording
from osdetectord.thinning import STEPS
from osdetectord.trouble import Trouble, Troubles
from osdetectord.watching import Watching

WRITE_S = 2.0
"""How long a reader waits for what was kept just now to be written."""
HANGS_AFTER = 3
"""Chores in a row that find the disk still busy with an earlier one, before that is said."""
EXPECTED_EVERY_US = STEPS[0].step_s * 1_000_000

logger = get_logger()


class Keeping:
    """Feeds the history and the recording.

    Parameters
    ----------
    history
        Keeps what is seen.
    recording
        Writes it as CSV files, if that has a place.
    disk
        Does what may have to wait for the disk.
    """

    def __init__(self, history: History, recording: Recording | None, disk: Executor) -> None:
        self._history, self._recording, self._disk = history, recording, disk
        self._expected_us = 0
        self._hanging = Trouble("the disk takes the history again")
        self._unwritten = Trouble("the history is written again")
        self._unrecorded = Trouble("the CSV files are written again")
        self._unkept = Troubles("samples of %s are not kept", "samples of %s are kept again")
        self._reading = asyncio.Lock()
        self._chore: Future[None] | None = None
        self._anomalies: Future[None] | None = None
        self._missed = 0
        history.waits = self._write_anomalies

    def take(self, now_us: int, watching: Watching) -> None:
        """Keep each target's newest samples and, from time to time, what was expected of it."""
        due = not 0 <= now_us - self._expected_us < EXPECTED_EVERY_US
        if due:
            self._expected_us = now_us
        for target in watching:
            with self._unkept.apart(str(target.spec)):
                row = watching.row(target)
                if row is None:
                    continue
                self._history.add(target.number, now_us, row, watching.of_parts(target))
                if due and (expected := watching.expected(target)) is not None:
                    self._history.add_expected(target.number, now_us, *expected)

    def tidy(self, config: Config) -> None:
        """Have the disk's executor write what waits and make it fewer; says so once when the disk hangs."""
        if self._chore is not None and not self._chore.done():
            self._missed += 1
            if self._missed >= HANGS_AFTER:
                self._hanging.met("the disk has not taken the history yet; collection goes on")
            return
        self._hanging.passed()
        self._missed = 0
        self._chore = self._disk.submit(self._carry, config)

    def finish(self, config: Config) -> None:
        """Have the rest written by the disk's executor."""
        self._disk.submit(self._carry, config)

    async def series(
        self, target: int, metrics: Sequence[str], since_us: int, max_points: int
    ) -> dict[str, tuple[list[int], list[float]]]:
        """Return what the history has of a target; a month of it may take a while, in which nobody else waits.

        What was kept just now is among it, unless the disk is slow.
        """
        # one at a time, as each may take much memory; not by the disk's thread, which may wait for a slow disk
        async with self._reading:
            await asyncio.wait([asyncio.wrap_future(self._disk.submit(self._flush))], timeout=WRITE_S)
            return await asyncio.to_thread(self._history.file.series, target, metrics, since_us, max_points)

    def lost(self) -> dict[str, int]:
        """Return what the disk did not take."""
        rows = {"history.rows": self._history.lost_rows}
        return {**rows, "csv.rows": self._recording.lost} if self._recording else rows

    def _write_anomalies(self) -> None:
        if self._anomalies is None or self._anomalies.done():
            self._anomalies = self._disk.submit(self._flush_anomalies)

    # ---- by the disk's thread

    def _flush_anomalies(self) -> None:
        with suppress(OSError):  # the chore tries again, and says so
            self._history.write_anomalies()

    def _flush(self) -> None:
        with suppress(OSError):
            self._history.flush()

    def _carry(self, config: Config) -> None:
        try:
            self._history.flush()
            self._history.file.thin(
                wall.now_us(), config.history_s, config.history_days * 86_400.0, config.history_bytes
            )
        except OSError as error:
            self._unwritten.met("%s; collection goes on", error)
        else:
            self._unwritten.passed()
        try:
            if self._recording:
                self._recording.flush(config.csv_bytes)
        except OSError as error:
            why = (error.strerror or "").lower()
            self._unrecorded.met("%s: %s; collection goes on", error.filename or "csv", why)
        else:
            self._unrecorded.passed()
        try:
            self._history.file.checkpoint()
        except OSError as error:
            logger.debug("%s", error)  # where it matters, writing fails too, and that is told
