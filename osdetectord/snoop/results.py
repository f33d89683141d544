"""Detection over what was collected: a result for each row, the anomalies, and a picture of each metric file."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osdetectord import offline
from osdetectord.anomaly import Episode, EpisodeKind, Phase
from osdetectord.detection.engine import Engine
from osdetectord.detection.settings import Settings
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame
from osdetectord.snoop.moment import Row
from osdetectord.snoop.table import CannotWrite, CsvFile, Tell, make_directory, text_of
from osdetectord.snoop.table import replace as put

ROW_COLUMNS = ("score", "p_value", "alarm", "anomaly", "top")
ANOMALY_COLUMNS = (
    *("anomaly", "file", "PID", "COMM", "kind", "first", "last"),
    *("score", "p_value", "recurrence", "detectors", "metrics"),
)
PLOT_ROWS = 7200
"""Newest rows of a process that a picture shows."""
MOST_PLOTTED = 64
"""Processes that have ended and may still be the one that is drawn."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of one metric file at one time.

    Parameters
    ----------
    time_s
        Wall clock.
    time_ns
        CLOCK_MONOTONIC.
    rows
        One for each process or thread.
    """

    time_s: float
    time_ns: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """An anomaly in a metric file."""

    number: int
    file: str
    who: int
    comm: str
    first_s: float
    last_s: float
    episode: Episode

    def line(self) -> str:
        """For people."""
        blame = f": {offline.sentence(self.episode.blames[0])}" if self.episode.blames else ""
        return (
            f"{self.comm}[{self.who}] {self.episode.kind.value} in {self.file}, score {self.episode.score:.3g}{blame}"
        )


@dataclass(slots=True)
class _Past:
    """What a picture is made of."""

    comm: str
    who: int
    times: deque[str]
    values: deque[NDArray[np.float64]]
    marks: deque[tuple[float, bool]]
    low: deque[NDArray[np.float64]]
    high: deque[NDArray[np.float64]]
    alarms: int = 0
    open: int = 0


class Judge:
    """Judges one metric file, as its rows come.

    Parameters
    ----------
    name
        Name of the metric file without its ending.
    columns
        Its columns that are judged, as positions in a row's values, and their names.
    identity
        Names of the columns that say when and whose: TIME, PID or SPID, COMM where the metric file has them.
    outcome
        Where results go.
    anomalies
        Numbers for anomalies.
    """

    def __init__(
        self,
        name: str,
        columns: dict[int, str],
        identity: Sequence[str],
        settings: Settings,
        interval_s: float,
        outcome: Path,
        anomalies: Iterator[int],
        tell: Tell,
    ) -> None:
        self._anomalies = anomalies
        self.name, self._columns, self._interval_s = name, tuple(columns), interval_s
        self._named = "COMM" in identity
        self._metrics = tuple(Metric(metric, "", Kind.GAUGE) for metric in columns.values())
        self._engine = Engine(settings, self._metrics, interval_s)
        self._numbers: dict[tuple[int, int], int] = {}
        self._next = 1
        self._past: dict[int, _Past] = {}
        self._gone: deque[int] = deque()
        self.found: dict[int, Found] = {}
        self.picture = outcome / f"{name}.png"
        self.file = CsvFile(outcome / f"{name}.csv", (*identity, *ROW_COLUMNS), tell)
        self.rows = 0
        self.learned = False

    def step(self, sheet: Sheet) -> None:
        """Judge the rows of one time."""
        keys = [(row.series, row.tid) for row in sheet.rows]
        for gone in self._numbers.keys() - set(keys):
            self._forget(self._numbers.pop(gone))
        numbers = [self._number(key, row) for key, row in zip(keys, sheet.rows, strict=True)]
        if not numbers:
            return
        values = np.array([[row.values[column] for column in self._columns] for row in sheet.rows])
        frame = Frame(sheet.time_ns, self._interval_s, np.array(numbers, np.uint64), self._metrics, values)
        verdict = self._engine.step(frame)
        self.rows += len(numbers)
        self.learned |= bool((verdict.progress >= 1.0).any())
        for episode in verdict.episodes:
            self._take(episode, sheet)
        lines: list[tuple[object, ...]] = []
        time = f"{sheet.time_s:.2f}"
        for i, (number, row) in enumerate(zip(numbers, sheet.rows, strict=True)):
            past = self._past[number]
            alarm, score = bool(verdict.alarm[i]), float(verdict.score[i])
            past.times.append(time)
            past.values.append(values[i])
            past.marks.append((score, alarm))
            past.low.append(verdict.low[i])
            past.high.append(verdict.high[i])
            past.alarms += alarm
            open_ = self.found.get(past.open) if alarm else None
            blames = open_.episode.blames if open_ else ()
            who = (row.number, row.comm) if self._named else (row.number,)
            lines.append(
                (
                    time,
                    *who,
                    f"{score:.9g}",
                    f"{verdict.p_value[i]:.6g}",
                    int(alarm),
                    open_.number if open_ else "",
                    blames[0].metric if blames else "",
                )
            )
        self.file.add(lines)

    def _number(self, key: tuple[int, int], row: Row) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._next
            self._next += 1
            self._engine.add(number, row.comm)
            empty = [deque[object](maxlen=PLOT_ROWS) for _ in range(5)]
            self._past[number] = _Past(row.comm, row.number, *empty)  # type: ignore[arg-type]
        self._past[number].comm = row.comm
        return number

    def _forget(self, number: int) -> None:
        self._engine.remove(number)
        self._gone.append(number)
        if len(self._gone) > MOST_PLOTTED:
            dull = min(self._gone, key=lambda gone: self._past[gone].alarms)
            self._gone.remove(dull)
            del self._past[dull]

    def _take(self, episode: Episode, sheet: Sheet) -> None:
        past = self._past[episode.series]
        known = self.found.get(episode.number)
        first_s = known.first_s if known else sheet.time_s
        episode = replace(episode, blames=episode.blames or (known.episode.blames if known else ()))
        self.found[episode.number] = Found(
            known.number if known else next(self._anomalies),
            self.name,
            past.who,
            past.comm,
            first_s,
            sheet.time_s,
            episode,
        )
        if episode.kind is not EpisodeKind.NEW_NORMAL:
            past.open = 0 if episode.phase is Phase.CLOSED else episode.number

    def draw(self) -> None:
        """Draw the process with most alarms, else the one with most rows; raises OSError."""
        if not self._past:
            return
        number, past = max(self._past.items(), key=lambda item: (item[1].alarms, len(item[1].times)))
        table = offline.Table(
            self.name, tuple(past.times), tuple(metric.name for metric in self._metrics), np.array(past.values)
        )
        scores = np.array([score for score, _ in past.marks])
        alarms = np.array([alarm for _, alarm in past.marks], dtype=bool)
        last = len(past.times) - 1
        episodes = tuple((0, last, found.episode) for found in self.found.values() if found.episode.series == number)
        outcome = offline.Outcome(
            scores,
            np.ones(len(scores)),
            alarms,
            np.zeros(len(scores), np.int64),
            ("",) * len(scores),
            np.array(past.low),
            np.array(past.high),
            episodes,
        )
        offline.plot(outcome, table, self.picture)


class Results:
    """Judges all metric files every so often, in a thread of its own.

    Parameters
    ----------
    outcome
        Where results go; it is made if need be.
    detect_s
        Seconds between two rounds.

    Raises
    ------
    CannotWrite
        If nothing can be written there.
    """

    def __init__(self, outcome: Path, detect_s: float, tell: Tell) -> None:
        self._outcome, self._detect_s, self._tell = outcome, detect_s, tell
        self.judges: list[Judge] = []
        self._numbers = itertools.count(1)
        self._waiting: list[tuple[Judge, Sheet]] = []
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="detection")
        self._told: set[str] = set()
        try:
            make_directory(outcome)
            self._write_anomalies()
        except OSError as error:
            raise CannotWrite(f"{outcome}: can't be written: {(error.strerror or str(error)).lower()}") from None

    def judge(
        self, name: str, columns: dict[int, str], identity: Sequence[str], settings: Settings, interval_s: float
    ) -> Judge:
        """Take one more metric file; see :class:`Judge`."""
        judge = Judge(name, columns, identity, settings, interval_s, self._outcome, self._numbers, self._tell)
        self.judges.append(judge)
        return judge

    def start(self) -> None:
        """Begin with the rounds."""
        self._thread.start()

    def add(self, judge: Judge, sheet: Sheet) -> None:
        """Take rows for the next round."""
        with self._lock:
            self._waiting.append((judge, sheet))

    def stop(self) -> tuple[Found, ...]:
        """Make the last round, end the files and return what was found; once more changes nothing."""
        if not self._enough.is_set():
            self._enough.set()
            if self._thread.ident is not None:
                self._thread.join()
            for judge in self.judges:
                judge.file.end()
        return self._found()

    def _found(self) -> tuple[Found, ...]:
        found = [found for judge in self.judges for found in judge.found.values()]
        return tuple(sorted(found, key=lambda one: one.number))

    def _run(self) -> None:
        last = False
        while not last:
            last = self._enough.wait(self._detect_s)
            self.round()

    def round(self) -> None:
        """Judge what waits and write everything anew."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for judge, sheet in waiting:
            judge.step(sheet)
        try:
            self._write_anomalies()
            for judge in self.judges:
                judge.draw()
        except OSError as error:
            self._once(f"{error.filename or self._outcome}: {(error.strerror or str(error)).lower()}")
        except ImportError:
            self._once("no pictures: matplotlib is not installed (Debian: python3-matplotlib)")

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _write_anomalies(self) -> None:
        rows: list[Sequence[object]] = [ANOMALY_COLUMNS]
        for found in self._found():
            episode = found.episode
            rows.append(
                (
                    found.number,
                    found.file,
                    found.who,
                    found.comm,
                    episode.kind.value,
                    f"{found.first_s:.2f}",
                    f"{found.last_s:.2f}",
                    f"{episode.score:.6g}",
                    f"{episode.p_value:.6g}",
                    episode.recurrence,
                    " ".join(episode.detectors),
                    "; ".join(offline.sentence(blame) for blame in episode.blames),
                )
            )
        put(self._outcome / "anomalies.csv", text_of(rows))
