"""Time of basis pursuit, per window and metric, beside the solvers that others use for it.

    /usr/bin/python3 bench/detection/solver.py [FILE.csv[.gz]]

The peers: cvxpy with OSQP, as the original JumpStarter solves it, where cvxpy can be imported; and HiGHS through
scipy, an exact linear program, whose optimum is what the L1 norms are compared with.  Windows are cut from the
columns of FILE (a header row; columns named t, TIME and label are left out) or, without one, made.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

sys.path.insert(0, str(Path(__file__).parents[2]))

from osdetectord.detection.basis_pursuit import basis_pursuit, cosine_basis

WINDOW, SAMPLES = 60, 24
MANY = 4096
"""Windows for ours: enough to fill its batches."""
PEER_WINDOWS = 100
"""Windows for the peers, which take them one by one."""

Floats = NDArray[np.float64]


def made() -> Floats:
    """Return 31 made series: waves, walks and bursts, each with noise.  Shape ``(3001, 31)``."""
    random = np.random.default_rng(1)
    time_ = np.arange(3001)[:, None]
    waves = np.sin(2 * np.pi * time_ / random.uniform(10, 400, 31))
    walks = 0.05 * np.cumsum(random.standard_normal((3001, 31)), axis=0)
    bursts = 3.0 * (random.random((3001, 31)) < 0.01)
    series: Floats = waves + walks + bursts + 0.2 * random.standard_normal((3001, 31))
    return series


def read(path: Path) -> Floats:
    """Return the numeric columns of a CSV."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = csv.reader(file)
        names = next(rows)
        keep = [k for k, name in enumerate(names) if name not in ("t", "TIME", "label")]
        return np.array([[float(row[k]) for k in keep] for row in rows])


def windows(series: Floats, count: int) -> Floats:
    """Return ``count`` windows of all live columns in turn, scaled to ``[0, 1]``; shape ``(WINDOW, count)``."""
    span = np.ptp(series, axis=0)
    series = ((series - series.min(axis=0)) / np.where(span > 0, span, 1))[:, span > 0]
    starts = np.linspace(0, len(series) - WINDOW, -(-count // series.shape[1])).astype(int)
    cut = [series[start : start + WINDOW, column] for start in starts for column in range(series.shape[1])]
    return np.stack([window for window in cut if np.ptp(window) > 0][:count], axis=1)


def highs(matrix: Floats, samples: Floats) -> Floats:
    """Solve one window exactly, as a linear program."""
    both = np.hstack([matrix, -matrix])
    found = linprog(np.ones(both.shape[1]), A_eq=both, b_eq=samples, bounds=(0, None), method="highs")
    parts: Floats = found.x
    return parts[: matrix.shape[1]] - parts[matrix.shape[1] :]


def cvxpy_osqp(matrix: Floats, samples: Floats) -> Floats:
    """Solve one window as JumpStarter does."""
    import cvxpy

    spectrum = cvxpy.Variable(matrix.shape[1])
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(spectrum, 1)), [matrix @ spectrum == samples])
    problem.solve(solver="OSQP")
    value: Floats = spectrum.value
    return value


def line(name: str, seconds: float, spectra: Floats, exact: Floats, missed: float, slowest: float) -> str:
    ratio = np.abs(spectra).sum(axis=0)[: len(exact)] / exact
    return (
        f"{name:34s} {seconds * 1e6:10.1f} {slowest / seconds:9.0f}x {np.median(ratio):9.5f} {ratio.max():9.5f}"
        f" {missed:9.1e}"
    )


def peer(
    solve: Callable[[Floats, Floats], Floats], basis: Floats, cut: Floats, sampled: NDArray[np.bool_]
) -> tuple[float, Floats]:
    solve(basis[sampled[:, 0]], cut[sampled[:, 0], 0])
    start = time.perf_counter()
    spectra = [solve(basis[sampled[:, k]], cut[sampled[:, k], k]) for k in range(PEER_WINDOWS)]
    return (time.perf_counter() - start) / PEER_WINDOWS, np.stack(spectra, axis=1)


def ours(cut: Floats, sampled: NDArray[np.bool_]) -> tuple[float, Floats, Floats]:
    took = []
    for _ in range(3):
        start = time.perf_counter()
        found = basis_pursuit(cut.astype(np.float32), sampled, tolerance=0.01, max_iterations=1000)
        took.append((time.perf_counter() - start) / cut.shape[1])
    return min(took), found.spectrum.astype(np.float64), found.gap.astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description="time of basis pursuit beside other solvers")
    parser.add_argument("file", type=Path, nargs="?", help="CSV whose windows are solved")
    given = parser.parse_args()
    cut = windows(read(given.file) if given.file else made(), MANY)
    random = np.random.default_rng(2)
    sampled = np.argsort(np.argsort(random.random(cut.shape), axis=0), axis=0) < SAMPLES
    shared = sampled[:, 0]
    basis = cosine_basis(WINDOW)

    highs_s, highs_found = peer(highs, basis, cut, sampled)
    exact = np.abs(highs_found).sum(axis=0)
    rows = [("HiGHS (scipy)", highs_s, highs_found, exact, sampled)]
    if importlib.util.find_spec("cvxpy"):
        osqp_s, osqp_found = peer(cvxpy_osqp, basis, cut, sampled)
        rows.append(("OSQP (cvxpy), as the original", osqp_s, osqp_found, exact, sampled))
    own_s, own_found, own_gap = ours(cut, sampled)
    rows.append(("ours, each window its own samples", own_s, own_found, exact, sampled))
    same = np.repeat(shared[:, None], cut.shape[1], axis=1)
    shared_exact = np.abs(peer(highs, basis, cut, same)[1]).sum(axis=0)
    shared_s, shared_found, shared_gap = ours(cut, shared)
    rows.append(("ours, all windows the same samples", shared_s, shared_found, shared_exact, same))

    slowest = max(seconds for _, seconds, *_ in rows)
    print(f"{cut.shape[1]} windows of {WINDOW} rows, {SAMPLES} sampled; L1 norms as parts of the exact optimum")
    print(f"{'solver':34s} {'us/window':>10s} {'faster':>10s} {'median':>9s} {'largest':>9s} {'misfit':>9s}")
    for name, seconds, spectra, best, mask in rows:
        count = spectra.shape[1]
        missed = np.abs(basis @ spectra - cut[:, :count])[mask[:, :count]].max()
        print(line(name, seconds, spectra, best, float(missed), slowest))
    proved = max(own_gap.max(), shared_gap.max())
    print(f"ours, proved by the dual for every window: at most {proved:.2%} above the optimum")


if __name__ == "__main__":
    main()
