"""Detection over files: the same engine, fed from CSV, without daemon or root."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import math
import os
import signal
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.config import Merged
from osdetectord.detection.engine import Engine
from osdetectord.detection.evidences import DEFAULT_ON, evidence_class
from osdetectord.detection.settings import BUDGET, WARMUP_S, Settings
from osdetectord.errors import ConfigError, OsdetectorError
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame
from osdetectord.verdict import Verdict

TIMES = ("t", "time")
"""Names of a first column that says when, whatever their case."""
WHOSE = ("PID", "SPID")
"""Names of a column behind it that says whose the row is, as in the files of snoop; each is judged by itself."""
NAMED = "COMM"
LABEL = "label"
ENDINGS = (".csv", ".csv.gz")
RESULTS = (".csv", ".anomalies.csv")
"""What is put behind a table's name for the files of its results."""
EXIT_FAILED, EXIT_USAGE = 1, 2
EXIT_INTERRUPTED, EXIT_PIPE_BROKEN = 128 + signal.SIGINT, 128 + signal.SIGPIPE
CALLED = "OSDCTL_CALLED"
"""Set by ``./run`` where there is no osdctl but its own, to what one types instead."""
MOST_SIDE_BY_SIDE = 64
MOST_QUOTED = 60
MOST_SHOWN = 4
"""Metrics in a picture."""
LARGEST_DRAWN = 1e300
"""Beyond this matplotlib cannot make an axis."""


class InputError(OsdetectorError):
    """A file is not a table of numbers; says file, row, column and value."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows.

    Parameters
    ----------
    name
        The file's name without ``.csv`` and ``.gz``, and the process where the file has several.
    times
        The time column as it was written, or the row's number.
    metrics
        Names of the columns.
    values
        Shape ``(rows, metrics)``; NaN where a field is empty.
    """

    name: str
    times: tuple[str, ...]
    metrics: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What detection said of a table: one entry for each row, and its anomalies."""

    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    alarm: NDArray[np.bool_]
    anomaly: NDArray[np.int64]
    top: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    anomalies: tuple[tuple[int, int, Episode], ...]
    """First row, last row and last state of each."""


def read(path: Path) -> list[Table]:
    """Return the table in a CSV file, plain or gzipped; one for each process where the file has a column PID or SPID.

    Raises
    ------
    InputError
        If it is none; the message names file, row (the line in the file, the first is 1), column and value.
    """
    try:
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except MemoryError:
        raise InputError(f"{path}: cannot be read: more than fits into memory") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{path}: cannot be read: {reason}") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, None)
        if not header:
            raise InputError(f"{path}: row 1: no header")
        rows = ((lines.line_num, row) for row in lines if row)
        return _tables(path, [name.strip() for name in header], rows)
    except csv.Error as error:
        raise InputError(f"{path}: row {lines.line_num}: {error}") from None


def _tables(path: Path, header: list[str], rows: Iterator[tuple[int, list[str]]]) -> list[Table]:
    timed = header[0].lower() in TIMES
    whose = timed and len(header) > 1 and header[1] in WHOSE
    others = {0} if timed else set[int]()
    if whose:
        others |= {1} | {i for i, name in enumerate(header) if name == NAMED}
    columns = [i for i, name in enumerate(header) if name != LABEL and i not in others]
    names = [header[i] for i in columns]
    if not names:
        raise InputError(f"{path}: row 1: no metric")
    for i, name in enumerate(header):
        if (not name and i in columns) or (name and name in header[:i]):
            raise InputError(f"{path}: row 1, column {i + 1}: {_shown(name)} is not a name of its own")
    times: dict[str, list[str]] = {} if whose else {"": []}
    values: dict[str, list[list[float]]] = {} if whose else {"": []}
    for number, row in rows:
        if timed and row[0] == "END":
            break
        if len(row) != len(header):
            raise InputError(f"{path}: row {number}: {len(row)} fields, the header has {len(header)}")
        who = row[1].strip() if whose else ""
        if whose and not (who.isascii() and who.isdecimal()):
            raise InputError(f"{path}: row {number}, column {header[1]}: {_shown(row[1])} is not the id of a process")
        before = times.setdefault(who, [])
        before.append(row[0] if timed else str(len(before)))
        values.setdefault(who, []).append([_number(path, number, header[i], row[i]) for i in columns])
    if not times:
        raise InputError(f"{path}: no row of a process")
    name = _name(path)
    return [
        Table(
            f"{name}-{who}" if whose else name,
            tuple(times[who]),
            tuple(names),
            np.array(values[who], np.float64).reshape(-1, len(names)),
        )
        for who in times
    ]


def _number(path: Path, row: int, column: str, text: str) -> float:
    text = text.strip()
    if not text:
        return math.nan
    try:
        # float() would also take 1_000, and the digits of all scripts
        value = float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        value = None
    if value is None:
        raise InputError(f"{path}: row {row}, column {column}: {_shown(text)} is not a number")
    return value if math.isfinite(value) else math.nan


def _shown(text: str) -> str:
    """Return a value as a message may show it: quoted, and no longer than a line."""
    return repr(text if len(text) <= MOST_QUOTED else text[:MOST_QUOTED] + "...")


def detect(
    tables: Sequence[Table], settings: Settings, interval_s: float, progress: Progress | None = None
) -> list[Outcome]:
    """Return what the engine says of tables with the same metrics, row by row.

    The tables are watched side by side, because that is fast; none knows of another, and no row is judged by what
    follows it.
    """
    metrics = tuple(Metric(name, "", Kind.GAUGE) for name in tables[0].metrics)
    engine = Engine(settings, metrics, interval_s)
    traces = [_Trace(table) for table in tables]
    for number, table in enumerate(tables):
        engine.add(number, f"{number} {table.name}")
    for t in range(max(len(table.values) for table in tables)):
        here = [number for number, table in enumerate(tables) if t < len(table.values)]
        values = np.stack([tables[number].values[t] for number in here])
        time_ns = round((t + 1) * interval_s * 1e9)
        verdict = engine.step(Frame(time_ns, interval_s, np.array(here, np.uint64), metrics, values))
        for i, number in enumerate(here):
            traces[number].take(t, i, verdict)
        if progress is not None:
            progress.advance(len(here))
    return [trace.outcome() for trace in traces]


class _Trace:
    """Gathers what is said of one table."""

    def __init__(self, table: Table) -> None:
        rows = len(table.values)
        self._score, self._p_value, self._top = np.zeros(rows), np.ones(rows), [""] * rows
        self._alarm, self._anomaly = np.zeros(rows, bool), np.zeros(rows, np.int64)
        self._low, self._high = np.full((2, *table.values.shape), np.nan)
        self._seen: dict[int, tuple[int, int, Episode]] = {}
        self._numbers: dict[int, int] = {}
        self._open: Episode | None = None

    def take(self, t: int, i: int, verdict: Verdict) -> None:
        self._score[t], self._p_value[t], self._alarm[t] = verdict.score[i], verdict.p_value[i], verdict.alarm[i]
        self._low[t], self._high[t] = verdict.low[i], verdict.high[i]
        for episode in verdict.episodes:
            if episode.series == int(verdict.series[i]):
                number = self._numbers.setdefault(episode.number, len(self._numbers) + 1)
                first = self._seen[number][0] if number in self._seen else t
                self._seen[number] = (first, t, replace(episode, number=number))
                point = episode.kind is EpisodeKind.NEW_NORMAL
                if not point:
                    self._open = None if episode.phase is Phase.CLOSED else self._seen[number][2]
        if self._alarm[t] and self._open is not None:
            self._anomaly[t] = self._open.number
            self._top[t] = self._open.blames[0].metric if self._open.blames else ""

    def outcome(self) -> Outcome:
        found = tuple(self._seen.values())
        return Outcome(
            self._score, self._p_value, self._alarm, self._anomaly, tuple(self._top), self._low, self._high, found
        )


def write(outcome: Outcome, table: Table, out: Path) -> None:
    """Write ``NAME.csv``, a row for each row of the table, and ``NAME.anomalies.csv``."""
    with (out / f"{table.name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("t", "score", "p_value", "alarm", "anomaly", "top"))
        for t, time in enumerate(table.times):
            score, p_value = f"{outcome.score[t]:.9g}", f"{outcome.p_value[t]:.6g}"
            number = outcome.anomaly[t] or ""
            writer.writerow((time, score, p_value, int(outcome.alarm[t]), number, outcome.top[t]))
    with (out / f"{table.name}.anomalies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("anomaly", "kind", "first", "last", "score", "p_value", "recurrence", "detectors", "metrics"))
        for first, last, episode in outcome.anomalies:
            writer.writerow(
                (
                    episode.number,
                    episode.kind.value,
                    table.times[first],
                    table.times[last],
                    f"{episode.score:.6g}",
                    f"{episode.p_value:.6g}",
                    episode.recurrence,
                    " ".join(episode.detectors),
                    "; ".join(sentence(blame) for blame in episode.blames),
                )
            )


def summary(outcome: Outcome, table: Table, out: Path) -> str:
    """Say in a line what was found in a table, and where that stands."""
    found = [episode for _, _, episode in outcome.anomalies]
    many = f"{len(found)} anomal{'y' if len(found) == 1 else 'ies'}" if found else "nothing abnormal"
    rows, first = len(table.values), ""
    if not np.isfinite(outcome.low).any():
        many = "too few values to judge"
    if found:
        row, _, episode = outcome.anomalies[0]
        blamed = f", {episode.blames[0].metric}" if episode.blames else ""
        first = f" (the first at {table.times[row]}{blamed})"
    return f"{table.name}: {many} in {rows} row{'s' * (rows != 1)}{first}; {out / table.name}.csv"


def sentence(blame: Blame) -> str:
    """Say in a few words what a metric did."""
    return f"{blame.metric} {blame.share:.0%} {blame.observed:.6g} expected {blame.low:.6g}..{blame.high:.6g}"


def plot(outcome: Outcome, table: Table, path: Path) -> None:
    """Draw a table and what was found in it into a PNG."""
    figure(outcome, table).savefig(path, format="png", dpi=110)


def figure(outcome: Outcome, table: Table) -> Any:
    """Return a matplotlib figure of the metrics most blamed, with what was expected of them, above the score.

    Alarms are red in all of them.  Where nothing was abnormal it shows the first metric.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    blamed = [blame.metric for _, _, episode in outcome.anomalies for blame in episode.blames[:1]]
    shown = list(dict.fromkeys(sorted(blamed, key=blamed.count, reverse=True)))[:MOST_SHOWN] or list(table.metrics[:1])
    drawn = Figure(figsize=(12, 2 * (len(shown) + 1) + 0.6), layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.suptitle(table.name, parse_math=False)
    axes = drawn.subplots(len(shown) + 1, 1, sharex=True, squeeze=False)[:, 0]
    when, unit = _when(table)
    for axis, name in zip(axes, shown, strict=False):
        column = table.metrics.index(name)
        low, high = _drawable(outcome.low[:, column]), _drawable(outcome.high[:, column])
        axis.fill_between(when, low, high, color="tab:green", alpha=0.3, linewidth=0, label="expected")
        axis.plot(when, _drawable(table.values[:, column]), linewidth=0.7, label="measured")
        axis.set_title(name, loc="left", fontsize=9, parse_math=False)
    axes[-1].plot(when, outcome.score, linewidth=0.7, label="score")
    axes[-1].axhline(1.0, color="grey", linewidth=0.7, linestyle="--", label="alarm level")
    axes[-1].set_title("score", loc="left", fontsize=9)
    axes[-1].set_xlabel(unit)
    half = 0.5 * float(np.median(np.diff(when))) if len(when) > 1 else 0.5
    for axis in axes:
        for n, (first, last) in enumerate(runs(outcome.alarm)):
            label = None if n else "alarm"
            axis.axvspan(when[first] - half, when[last] + half, color="red", alpha=0.15, linewidth=0, label=label)
        axis.legend(loc="upper left", fontsize="small")
    return drawn


def _when(table: Table) -> tuple[NDArray[np.float64], str]:
    """Return where on the time axis each row is, and what that axis is: the time column, if it is of rising numbers."""
    try:
        when = np.array([float(time) for time in table.times])
    except ValueError:
        when = np.array([np.nan])
    if np.isfinite(when).all() and (np.diff(when) > 0.0).all():
        return when, "t"
    return np.arange(len(table.times), dtype=np.float64), "row"


def _drawable(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values that there is room for in a picture, NaN for others."""
    return np.where(np.abs(values) < LARGEST_DRAWN, values, np.nan)


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and last row, both inclusive, of each run of True."""
    step = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(step == 1).tolist(), (np.flatnonzero(step == -1) - 1).tolist(), strict=True))


class Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream, self._done, self._shown = max(1, total), stream, 0, -1
        self._wanted = stream.isatty()

    def advance(self, rows: int) -> None:
        """Count rows done."""
        self._done += rows
        percent = 100 * self._done // self._total
        if self._wanted and percent != self._shown:
            self._shown = percent
            bar = "#" * (percent // 4)
            end = "\n" if self._done >= self._total else ""
            print(f"\r[{bar:25}] {percent:3d} %", end=end, file=self._stream, flush=True)


def files(arguments: Sequence[str]) -> list[Path]:
    """Return the files meant: each argument, or the tables in it if it is a directory, by name."""
    found = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            # a pipe would be waited for; a link that leads nowhere is to be told
            inside = sorted(p for p in path.iterdir() if p.name.endswith(ENDINGS) and (p.is_file() or not p.exists()))
            if not inside:
                raise InputError(f"{path}: no .csv and no .csv.gz in it")
            found += inside
        else:
            found.append(path)
    names: dict[str, Path] = {}
    for path in found:
        name = _name(path)
        if names.setdefault(name, path) is not path:
            raise InputError(f"{path}: would be written over {names[name]}, both are named {name}")
    return found


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that file and options give; raises :class:`ConfigError`."""
    values: dict[str, Any] = {}
    merged = Merged()
    if options.config is not None:
        merged.add(options.config)
        values.update(merged.values)
    try:
        settings = Settings.parse(values)
    except ConfigError as error:
        raise error.at(*merged.place(error.key)) from None
    if options.detectors is not None:
        names = [name.strip() for name in options.detectors.split(",") if name.strip()]
        settings = Settings.parse({**values, "evidences": Settings.only(names, values.get("evidences", {}))})
    if options.budget is not None:
        settings = replace(settings, budget=options.budget)
    if options.warmup is not None:
        # rows are what counts here, however short they are
        settings = replace(settings, warmup_s=options.warmup * options.interval)
    return settings


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with status 2."""
        called = self.prog.replace("osdctl", os.environ.get(CALLED, "osdctl"), 1)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {called} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    result = Parser(
        prog="osdctl detect",
        description="Find anomalies in tables of samples.",
        epilog="A first column t or time, in any case, stands in the results as it is; without one the rows are "
        "numbered from 0. The columns PID or SPID behind it, and COMM, say whose a row is, as in the files of osdctl "
        "snoop: each process is judged by itself. A column label is passed over. All others are numbers, and judged; "
        "an empty field is a missing value. A file that is no such table is named and left out, and the status is 1.",
    )
    result.add_argument("paths", nargs="+", metavar="FILE|DIR", help="CSV with a header, plain or .gz, or a directory")
    result.add_argument("-o", dest="out", type=Path, required=True, metavar="OUT_DIR", help="where results go")
    result.add_argument(
        "--warmup",
        type=_within(30, 10**6, int),
        metavar="ROWS",
        help=f"rows to learn from first, default {WARMUP_S:g} s of them",
    )
    result.add_argument(
        "--interval",
        type=_within(1e-3, 86400.0, float),
        default=1.0,
        metavar="S",
        help="seconds between rows, default 1",
    )
    result.add_argument(
        "--budget",
        type=_within(1e-4, 1e4, float),
        metavar="N",
        help=f"expected false alarms per day, default {BUDGET:g}",
    )
    result.add_argument(
        "--detectors", metavar="LIST", help=f"evidences that take part, by commas, default {','.join(DEFAULT_ON)}"
    )
    result.add_argument("--config", type=Path, metavar="FILE", help="a detectors.yml; without it the defaults count")
    result.add_argument("--plot", action="store_true", help="a PNG for each file, by matplotlib")
    return result


def _within(least: float, most: float, kind: type[int] | type[float]) -> Any:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
        return value

    return convert


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns 0 done, 1 failed, 2 usage, 130 interrupted, 141 where nobody reads what is said."""
    options = parser().parse_args(arguments)
    try:
        settings = settings_of(options)
        _check_present(settings, asked=options.detectors is not None)
        undrawn = options.plot and not _has_matplotlib()
        paths = files(options.paths)
        tables, bad = _read_all(paths)
        if not tables:
            return EXIT_FAILED
        options.out.mkdir(parents=True, exist_ok=True)
        _spare(paths, tables, options.out)
        progress = Progress(sum(len(table.values) for table in tables), sys.stderr)
        said: list[str] = []
        for group in _alike(tables):
            for table, outcome in zip(group, detect(group, settings, options.interval, progress), strict=True):
                write(outcome, table, options.out)
                said.append(summary(outcome, table, options.out))
                if options.plot and not undrawn:
                    plot(outcome, table, options.out / f"{table.name}.png")
        _tell("\n".join(sorted(map(_line, said))))
        if undrawn:
            raise InputError("--plot needs matplotlib, which is not installed (Debian: python3-matplotlib)")
    except ConfigError as error:
        _complain(str(error))
        return EXIT_FAILED if error.file else EXIT_USAGE
    except OsdetectorError as error:
        _complain(str(error))
        return EXIT_FAILED
    except BrokenPipeError:
        return EXIT_PIPE_BROKEN
    except OSError as error:
        _complain(f"{error.filename or options.out}: {error.strerror}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if bad else 0


def _check_present(settings: Settings, asked: bool) -> None:
    """Raise :class:`InputError` where an evidence that was asked for by name, or every one, cannot run here."""
    absent = {name: why for name in settings.evidences if (why := evidence_class(name).absent())}
    if absent and (asked or len(absent) == len(settings.evidences)):
        name, why = next(iter(absent.items()))
        raise InputError(f"{name} cannot take part: {why}")


def _tell(what: str) -> None:
    try:
        print(what, flush=True)
    except OSError as error:
        # what is left in the buffer would fail once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OsdetectorError(f"cannot write to standard output: {error.strerror}") from None


def _complain(what: str) -> None:
    print(f"osdctl detect: {_line(what)}", file=sys.stderr)


def _line(text: str) -> str:
    """Return a text as one line that a terminal can show: names of files and columns may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _read_all(paths: Sequence[Path]) -> tuple[list[Table], bool]:
    """Return the tables of all files that are right, and whether one was not, which is told."""
    tables: list[Table] = []
    taken = set[str]()
    bad = False
    for path in paths:
        try:
            for table in read(path):
                results = {table.name + ending for ending in RESULTS}
                if taken & results:
                    raise InputError(f"{path}: would be written over another file's {min(taken & results)}")
                taken |= results
                tables.append(table)
        except InputError as error:
            _complain(str(error))
            bad = True
    return tables, bad


def _spare(paths: Sequence[Path], tables: Sequence[Table], out: Path) -> None:
    """Raise :class:`InputError` if a result would be written over what was read."""
    given = {path.resolve(): path for path in paths}
    for table in tables:
        for ending in RESULTS:
            if path := given.get((out / f"{table.name}{ending}").resolve()):
                raise InputError(f"{path}: a result would be written over it, -o must be another directory")


def _alike(tables: Sequence[Table]) -> Iterator[list[Table]]:
    """Yield the tables in groups that can share an engine."""
    groups: dict[tuple[str, ...], list[Table]] = {}
    for table in tables:
        groups.setdefault(table.metrics, []).append(table)
    for group in groups.values():
        for start in range(0, len(group), MOST_SIDE_BY_SIDE):
            yield group[start : start + MOST_SIDE_BY_SIDE]


def _has_matplotlib() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
