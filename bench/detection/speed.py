"""What detection costs: time of a step, share of a core and memory, beside plain robust z-scores of the same rows.

    python3 -m bench.detection.speed [--processes N] [--metrics M] [--rows N] [--with NAME,...]

The rows are made: each process works under a wave of load and noise of its own.  One thread; the times are of the
processor, so that what else runs on the machine disturbs them little.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from osdetectord import heap, statm  # noqa: E402
from osdetectord.detection.engine import HISTORY_ROWS, Engine  # noqa: E402
from osdetectord.detection.evidences import DEFAULT_ON  # noqa: E402
from osdetectord.detection.settings import Settings  # noqa: E402
from osdetectord.metric import Kind, Metric  # noqa: E402
from osdetectord.sample import Frame  # noqa: E402

Floats = NDArray[np.float64]
SECOND_NS = 10**9
SETTLED = 60
"""Rows that are not measured after all is learnt."""
WINDOW = 60
"""Rows from which the baseline takes median and MAD anew for each row."""
MAD = 1.4826


class Made:
    """Rows of any number of processes, shape ``(processes, metrics)`` each."""

    def __init__(self, processes: int, metrics: int) -> None:
        self._random = np.random.default_rng(1)
        self._size = self._random.uniform(5.0, 5000.0, (processes, metrics))
        self._phase = self._random.uniform(0.0, 2 * np.pi, (processes, 1))

    def row(self, t: int) -> Floats:
        """Return the row of second ``t``; to be asked for in order."""
        load = 0.3 * np.sin(2 * np.pi * t / 97 + self._phase)
        return np.asarray(self._size * np.exp(load + self._random.normal(0.0, 0.05, self._size.shape)))


def mib(number: int) -> float:
    return number / 2**20


def took_ms(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return 1e3 * (time.process_time() - began_s)


def static_z(row: Floats, centre: Floats, spread: Floats) -> Floats:
    """Return the largest robust z of each process, against what was learnt once."""
    return np.asarray(np.abs((row - centre) / spread).max(axis=1))


def rolling_z(row: Floats, past: Floats) -> Floats:
    """Return the same against median and MAD of the last rows, ``past`` of shape ``(processes, WINDOW, metrics)``."""
    centre = np.median(past, axis=1)
    return static_z(row, centre, MAD * np.median(np.abs(past - centre[:, None]), axis=1) + 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.detection.speed", description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=1000, metavar="N")
    parser.add_argument("--metrics", type=int, default=40, metavar="M")
    parser.add_argument("--rows", type=int, default=60, metavar="N", help="rows measured")
    parser.add_argument("--with", dest="more", default="", metavar="NAME,...", help="evidences beyond the usual")
    given = parser.parse_args()
    heap.settle()  # as the detector does
    more = [name for name in given.more.split(",") if name]
    settings = Settings.parse({"evidences": Settings.only([*DEFAULT_ON, *more], {})})
    metrics = tuple(Metric(f"m{m}", "", Kind.GAUGE) for m in range(given.metrics))
    made, numbers = Made(given.processes, given.metrics), np.arange(given.processes, dtype=np.uint64)
    engine = Engine(settings, metrics, 1.0)
    empty = statm.rss_bytes(os.getpid())
    for number in numbers.tolist():
        engine.add(number, str(number))

    def step(t: int) -> float:
        frame = Frame((t + 1) * SECOND_NS, 1.0, numbers, metrics, made.row(t))
        return took_ms(lambda: engine.step(frame))

    # a few processes learn in each row, and all of them have learnt for the last time some rows after they could
    learning = HISTORY_ROWS + given.processes // 16 + SETTLED
    learnt = [step(t) for t in range(learning)]
    steps = [step(learning + t) for t in range(given.rows)]
    resident, most = statm.rss_bytes(os.getpid()), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    past = np.stack([made.row(t) for t in range(WINDOW)], axis=1)
    centre, spread = np.median(past, axis=1), np.ptp(past, axis=1) / 4
    row = made.row(WINDOW)
    cost = {
        "detection": float(np.median(steps)),
        "robust z, learnt once": min(took_ms(lambda: static_z(row, centre, spread)) for _ in range(20)),
        f"robust z of the last {WINDOW} rows": min(took_ms(lambda: rolling_z(row, past)) for _ in range(5)),
    }
    print(f"{given.processes} processes x {given.metrics} metrics, a row a second, one thread")
    print(f"evidences: {', '.join(settings.evidences)}")
    print(f"{'':28} ms/step  of a core  detection is")
    for name, ms in cost.items():
        print(f"{name:28} {ms:7.2f} {ms / 10:8.2f} %  {cost['detection'] / max(ms, 1e-6):10.2f} x")
    own_ms = (sum(learnt) - learning * cost["detection"]) / given.processes
    print(f"slowest step {max(steps):.1f} ms, while learning {max(learnt):.0f} ms; to learn {own_ms:.0f} ms a process")
    print(f"resident {mib(resident):.0f} MiB, at most {mib(most):.0f} MiB; without a process {mib(empty):.0f} MiB")


if __name__ == "__main__":
    main()
