"""Print the table: our detection beside what everybody knows, on labelled data.

    python3 -m bench.detection DATA_DIR [--kind process|jumpstarter] [--warmup ROWS] [--only NAME,...]

DATA_DIR holds NAME.csv or NAME.csv.gz whose last column is ``label``: 0 normal, 1 anomaly, 2 don't care.  VUS-PR is
that of all files in the mean, of the lowest and of the best.  Each detector runs in a process of its own, so that its
memory is its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench.detection.metrics import ANOMALY, DONT_CARE, KINDS, Kind, Tally, tally, vus_pr  # noqa: E402
from osdetectord import offline  # noqa: E402
from osdetectord.detection.evidences import DEFAULT_ON, REGISTRY, evidence_class  # noqa: E402
from osdetectord.detection.settings import THRESHOLDS, Settings  # noqa: E402

Scores = tuple[NDArray[np.float64], NDArray[np.bool_]]
CHUNK = 256
OPTIONAL = [name for name in REGISTRY if name not in DEFAULT_ON]


def labels(path: Path) -> NDArray[np.int64]:
    """Return the last column."""
    import csv
    import gzip

    with gzip.open(path, "rt") if path.name.endswith(".gz") else path.open() as file:
        rows = csv.reader(file)
        head = next(rows)
        if head[-1] != offline.LABEL:
            sys.exit(f"{path}: last column is {head[-1]}, not {offline.LABEL}")
        return np.array([int(float(row[-1])) for row in rows], np.int64)


def ours(
    tables: Sequence[offline.Table], evidences: Sequence[str], kind: Kind, warmup: int, threshold: str
) -> list[Scores]:
    """Return what the engine says with some evidences on."""
    settings = Settings.parse(
        {
            "warmup_s": warmup * kind.interval_s,
            "memory_s": 2400.0 * max(1.0, kind.interval_s / 180),
            "threshold": threshold,
            "evidences": Settings.only(evidences, {}),
        }
    )
    return [(outcome.score, outcome.alarm) for outcome in offline.detect(tables, settings, kind.interval_s)]


def baseline(tables: Sequence[offline.Table], name: str, kind: Kind, warmup: int) -> list[Scores]:
    """Return what one of the well-known detectors says."""
    from bench.detection.baselines import BASELINES

    found = []
    for table in tables:
        detector = BASELINES[name](kind.rows_per_day)
        rows = np.nan_to_num(table.values)
        detector.fit(rows[:warmup])
        parts = [detector.score(rows[start : start + CHUNK]) for start in range(warmup, len(rows), CHUNK)]
        score = np.concatenate([np.zeros(warmup), *(part[0] for part in parts)])
        found.append((score, np.concatenate([np.zeros(warmup, bool), *(part[1] for part in parts)])))
    return found


def contestants() -> list[str]:
    """Return the names of all rows of the table."""
    from bench.detection.baselines import BASELINES

    absent = [name for name in REGISTRY if evidence_class(name).absent()]
    alone = [name for name in REGISTRY if name not in absent]
    return [*BASELINES, *alone, "ensemble", *(f"ensemble + {name}" for name in OPTIONAL if name not in absent)]


def line(name: str, paths: Sequence[Path], kind: Kind, warmup: int, threshold: str) -> str:
    """Run one contestant and return its line of the table."""
    tables, truth = [offline.read(path)[0] for path in paths], [labels(path) for path in paths]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    if name.startswith("ensemble"):
        scores = ours(
            tables, [*DEFAULT_ON, *(part for part in OPTIONAL if name.endswith(part))], kind, warmup, threshold
        )
    elif name in REGISTRY:
        scores = ours(tables, [name], kind, warmup, threshold)
    else:
        scores = baseline(tables, name, kind, warmup)
    spent = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ranks, counts = [], Tally()
    for (score, alarm), label in zip(scores, truth, strict=True):
        score, alarm, label = score[warmup:], alarm[warmup:], label[warmup:]
        tally(counts, label, alarm, kind)
        if (label == ANOMALY).any():
            care = label != DONT_CARE
            ranks.append(vus_pr(label[care] == ANOMALY, score[care], kind.buffer))
    rows = sum(len(table.values) for table in tables)
    days = counts.normal_rows / kind.rows_per_day
    delay = f"{np.median(counts.delays):.0f}" if counts.delays else "-"
    return (
        f"{name:30} {np.mean(ranks):7.3f} {min(ranks):6.3f} {max(ranks):5.3f} "
        f"{counts.recall:5.2f} {counts.precision:5.2f} {counts.f1:5.2f} "
        f"{counts.false / days:8.2f} {delay:>6} {rows / max(spent, 1e-9):9.0f} {memory / 1024:7.0f} "
        f"{(memory - before) / 1024:6.0f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m bench.detection", description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--kind", choices=KINDS, default="process")
    parser.add_argument("--warmup", type=int, metavar="ROWS", help="instead of the usual 240 or 5760")
    parser.add_argument("--only", metavar="NAME,...", help="some rows of the table")
    parser.add_argument("--threshold", choices=THRESHOLDS, default=THRESHOLDS[0], help="of ours")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    kind = KINDS[options.kind]
    if not options.data.is_dir():
        parser.error(f"argument DATA_DIR: {options.data} is no directory")
    try:
        paths = offline.files([str(options.data)])
    except offline.InputError as error:
        parser.error(str(error))
    if options.one:
        print(line(options.one, paths, kind, options.warmup or kind.warmup, options.threshold), flush=True)
        return 0
    known = contestants()
    names = [name.strip() for name in options.only.split(",")] if options.only else known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"argument --only: no detector {unknown[0]!r}: there are {', '.join(known)}")
    print(f"{'detector':30} VUS-PR lowest  best  evR   evP   evF1   FA/day  delay    rows/s  RSS MB   own", flush=True)
    failed = 0
    for name in names:
        command = [sys.executable, "-m", "bench.detection", *sys.argv[1:], "--one", name]
        failed |= subprocess.run(command, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
