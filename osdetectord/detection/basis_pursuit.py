"""Basis pursuit over a cosine basis: the sparsest spectrum that passes through the samples of each window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.errors import ShapeError

Real = NDArray[np.floating[Any]]

# Over-relaxation between 1.5 and 1.8 speeds ADMM up.  Boyd et al. 2011, section 3.4.3, doi:10.1561/2200000016
RELAXATION = 1.6
# Shrinkage per step in units of the mean modulus of the least-norm spectrum.  Found by measurement: from 0.5 to 2
# the number of iterations is about the same, outside of it the number rises.
SHRINKAGE = 1.0
CHECK_EVERY = 10
# Columns per batch: its arrays then stay in the second-level cache.
BATCH = 512


@dataclass(frozen=True, slots=True)
class Solution:
    """Spectra of least L1 norm.

    Parameters
    ----------
    spectrum
        Shape ``(n, N)``: one column of cosine coefficients for each window.  Reproduces the samples to
        the precision of its type.
    gap
        Shape ``(N,)``: an upper bound, from a feasible point of the dual problem, on how much the L1 norm
        exceeds the least one, as a part of it.
    iterations
        Steps taken by the slowest column.
    """

    spectrum: Real
    gap: Real
    iterations: int


def cosine_basis(n: int) -> NDArray[np.float64]:
    """Return the orthonormal inverse DCT-II of size ``n``: ``signal = basis @ spectrum``.  Shape ``(n, n)``."""
    # imported here: only who asks for compressed sensing pays for it in memory
    from scipy.fft import idct

    basis: NDArray[np.float64] = idct(np.eye(n), axis=0, norm="ortho")
    return basis


def basis_pursuit(
    signal: Real,
    sampled: NDArray[np.bool_],
    tolerance: float = 0.01,
    max_iterations: int = 300,
) -> Solution:
    """Solve ``min |c|_1  subject to  (basis @ c)[sampled] == signal[sampled]`` for every column at once.

    ADMM (Boyd et al. 2011, section 6.2).  The rows of an orthonormal basis are orthonormal, so that the
    projection on the constraints needs no factorisation: go to the time domain, put the samples back,
    and return.  That is two matrix products for all windows, and each column may have samples of its own.
    Every few steps the scaled dual variable is made feasible for ``max b'y, |A'y|_inf <= 1``; its value
    bounds the least norm from below, and columns within the tolerance leave the batch.

    Parameters
    ----------
    signal
        Shape ``(n, N)``, one window a column, float32 or float64; what is not sampled is not looked at,
        and may be anything finite.
    sampled
        Which entries bind.  Shape ``(n, N)``, or ``(n,)`` when all columns share their samples.
    tolerance
        Stop a column when its norm is proved to be within this part of the least one.
    max_iterations
        Stop all at this step; what :attr:`Solution.gap` then says may exceed the tolerance.

    Raises
    ------
    ShapeError
        If ``sampled`` fits neither the columns nor the rows of ``signal``.
    """
    if signal.ndim != 2 or sampled.shape not in (signal.shape, signal.shape[:1]):
        raise ShapeError(f"samples are {sampled.shape} for windows {signal.shape}")
    basis = cosine_basis(len(signal)).astype(signal.dtype)
    shared = sampled.ndim == 1
    spectrum = np.zeros_like(signal)
    gap = np.zeros(signal.shape[1], signal.dtype)
    steps = 0
    for start in range(0, signal.shape[1], BATCH):
        part = slice(start, start + BATCH)
        if shared:
            rows, known, mask = basis[sampled], signal[sampled, part], None
        else:
            rows, mask = basis, sampled[:, part].astype(signal.dtype)
            known = signal[:, part] * mask
        scale = np.abs(known).max(axis=0, initial=0)
        alive = np.flatnonzero(scale > np.finfo(signal.dtype).tiny / np.finfo(signal.dtype).eps)
        scale = scale[alive]
        if len(alive):
            found, excess, took = _solve(
                rows, known[:, alive] / scale, None if mask is None else mask[:, alive], tolerance, max_iterations
            )
            spectrum[:, start + alive] = found * scale
            gap[start + alive] = excess
            steps = max(steps, took)
    return Solution(spectrum, gap, steps)


def _solve(
    rows: Real,
    known: Real,
    mask: Real | None,
    tolerance: float,
    max_iterations: int,
) -> tuple[Real, Real, int]:
    """Solve one batch of columns, none of them all zero, each scaled to a modulus of 1."""
    spectrum = np.empty((rows.shape[1], known.shape[1]), known.dtype)
    gap = np.empty(known.shape[1], known.dtype)
    left = np.arange(known.shape[1])
    z = rows.T @ known
    u = np.zeros_like(z)
    reach = SHRINKAGE * np.abs(z).mean(axis=0)
    step = 0
    while True:
        step += 1
        x = z - u
        wrong = rows @ x
        np.subtract(known, wrong, out=wrong)
        if mask is not None:
            wrong *= mask
        x += rows.T @ wrong
        w = x - z
        w *= RELAXATION
        w += z
        w += u
        np.minimum(w, reach, out=u)
        np.maximum(u, -reach, out=u)
        z = np.subtract(w, u, out=z)
        if step % CHECK_EVERY and step < max_iterations:
            continue
        excess = 1 - _lower_bound(rows, known, mask, u / reach) / np.abs(x).sum(axis=0)
        done = (excess <= tolerance) | (step >= max_iterations)
        spectrum[:, left[done]] = x[:, done]
        gap[left[done]] = np.maximum(excess[done], 0)
        stay = ~done
        if not stay.any():
            return spectrum, gap, step
        left, known, z, u, reach = left[stay], known[:, stay], z[:, stay], u[:, stay], reach[stay]
        mask = None if mask is None else mask[:, stay]


def _lower_bound(
    rows: Real,
    known: Real,
    mask: Real | None,
    subgradient: Real,
) -> Real:
    """Value of the dual at the feasible point nearest in direction to the current subgradient."""
    y = rows @ subgradient
    if mask is not None:
        y *= mask
    bound: Real = (known * y).sum(axis=0) / np.maximum(np.abs(rows.T @ y).max(axis=0), 1)
    return bound
