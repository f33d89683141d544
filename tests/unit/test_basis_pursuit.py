"""Basis pursuit: the least L1 norm, held against an exact solver."""

import numpy as np
import pytest
from scipy.optimize import linprog

from osdetectord.detection.basis_pursuit import basis_pursuit, cosine_basis
from osdetectord.errors import ShapeError

ROWS, SAMPLES, WINDOWS = 60, 24, 41


def least_norm(matrix, samples):
    """The optimum of ``min |c|_1, matrix @ c = samples`` by linear programming (HiGHS)."""
    both = np.hstack([matrix, -matrix])
    return linprog(np.ones(both.shape[1]), A_eq=both, b_eq=samples, bounds=(0, None), method="highs").fun


@pytest.fixture
def windows():
    random = np.random.default_rng(7)
    steps = np.cumsum(random.standard_normal((ROWS, WINDOWS)), axis=0)
    return steps + 3.0 * random.standard_normal(WINDOWS)


@pytest.fixture
def sampled():
    random = np.random.default_rng(11)
    return np.argsort(np.argsort(random.random((ROWS, WINDOWS)), axis=0), axis=0) < SAMPLES


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norm_is_within_one_percent_of_the_exact_one_when_each_window_has_its_own_samples(windows, sampled, dtype):
    found = basis_pursuit(windows.astype(dtype), sampled, tolerance=0.01, max_iterations=1000)

    basis = cosine_basis(ROWS)
    exact = np.array([least_norm(basis[sampled[:, k]], windows[sampled[:, k], k]) for k in range(WINDOWS)])
    ratio = np.abs(found.spectrum).sum(axis=0) / exact
    assert ratio.max() < 1.01
    assert ratio.min() > 1 - 1e-5
    assert found.spectrum.dtype == dtype


def test_norm_is_within_one_percent_of_the_exact_one_when_all_share_their_samples(windows, sampled):
    shared = sampled[:, 0]

    found = basis_pursuit(windows, shared, tolerance=0.01, max_iterations=1000)

    basis = cosine_basis(ROWS)
    exact = np.array([least_norm(basis[shared], windows[shared, k]) for k in range(WINDOWS)])
    ratio = np.abs(found.spectrum).sum(axis=0) / exact
    assert 1 - 1e-9 < ratio.min() <= ratio.max() < 1.01


def test_the_stated_gap_bounds_the_true_one(windows, sampled):
    found = basis_pursuit(windows, sampled, tolerance=0.2)

    basis = cosine_basis(ROWS)
    exact = np.array([least_norm(basis[sampled[:, k]], windows[sampled[:, k], k]) for k in range(WINDOWS)])
    norm = np.abs(found.spectrum).sum(axis=0)
    assert np.all((norm - exact) / norm <= found.gap + 1e-9)
    assert found.gap.max() <= 0.2


def test_samples_are_reproduced(windows, sampled):
    found = basis_pursuit(windows, sampled, tolerance=0.3)

    rebuilt = cosine_basis(ROWS) @ found.spectrum
    assert np.abs(rebuilt - windows)[sampled].max() < 1e-12


def test_what_is_not_sampled_does_not_matter(windows, sampled):
    other = np.where(sampled, windows, 1e6)

    assert np.array_equal(basis_pursuit(windows, sampled).spectrum, basis_pursuit(other, sampled).spectrum)


def test_a_signal_of_three_waves_is_recovered_from_two_fifths_of_its_rows(sampled):
    random = np.random.default_rng(13)
    spectrum = np.zeros((ROWS, WINDOWS))
    for k in range(WINDOWS):
        spectrum[random.choice(20, 3, replace=False), k] = random.uniform(2, 5, 3) * random.choice([-1, 1], 3)

    found = basis_pursuit(cosine_basis(ROWS) @ spectrum, sampled, tolerance=1e-6, max_iterations=20_000)

    right = np.abs(found.spectrum - spectrum).max(axis=0) < 1e-3
    assert right.mean() > 0.95


def test_a_transform_across_a_group_solves_the_joint_problem_of_the_paper():
    rows, metrics = 17, 3
    random = np.random.default_rng(17)
    window = np.cumsum(random.standard_normal((rows, metrics)), axis=0)
    chosen = np.sort(random.choice(rows, 7, replace=False))
    joint = np.kron(cosine_basis(rows)[chosen], cosine_basis(metrics))
    exact = least_norm(joint, window[chosen].ravel())
    sampled = np.isin(np.arange(rows), chosen)

    found = basis_pursuit(window @ cosine_basis(metrics), sampled, tolerance=1e-5, max_iterations=20_000)

    assert np.abs(found.spectrum).sum() == pytest.approx(exact, rel=1e-4)


def test_a_window_of_zeros_has_no_spectrum(windows, sampled):
    windows[:, 3] = 0.0

    found = basis_pursuit(windows, sampled)

    assert not found.spectrum[:, 3].any()
    assert found.gap[3] == 0
    assert found.spectrum[:, 2].any()


def test_more_windows_than_one_batch_are_all_solved():
    random = np.random.default_rng(19)
    many = random.standard_normal((16, 1031))
    sampled = np.arange(16) % 2 == 0

    found = basis_pursuit(many, sampled)

    assert np.abs((cosine_basis(16) @ found.spectrum - many)[sampled]).max() < 1e-9
    assert found.gap.max() <= 0.01


def test_the_basis_is_orthonormal():
    basis = cosine_basis(23)

    assert np.abs(basis @ basis.T - np.eye(23)).max() < 1e-14


def test_samples_of_another_shape_are_refused(windows):
    with pytest.raises(ShapeError, match=r"samples are \(59,\) for windows \(60, 41\)"):
        basis_pursuit(windows, np.ones(59, bool))
