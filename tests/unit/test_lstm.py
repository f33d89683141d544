"""The LSTM evidence: needs torch (Debian's python3-torch, or a later one)."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from evidence_driver import WARMUP, drive, fitted, made, row, series

from osdetectord.detection.evidences.lstm import Lstm

ROOT = Path(__file__).parents[2]
FAULT = slice(100, 130)


def quick(**kwargs):
    """Trained in few passes, for tests that do not ask how well it foretells."""
    return made(Lstm, passes=3, **kwargs)


def test_a_shift_of_all_metrics_scores_far_above_everything_before_it():
    z = series(WARMUP + 200)
    z[WARMUP + FAULT.start : WARMUP + FAULT.stop] += 5.0
    evidence = made(Lstm)
    fitted(evidence, z[:WARMUP], [0])

    scores = drive(evidence, z[WARMUP:])

    assert scores[FAULT.start + 3] > 2 * scores[: FAULT.start].max()
    assert scores[: FAULT.start].max() < 1.0 < scores[FAULT].max()


def test_forecasts_of_a_regular_signal_beat_repeating_its_last_row():
    time = np.arange(WARMUP + 120)[:, None]
    z = 2 * np.sin(2 * np.pi * (time / 12.0 + np.arange(5) / 5.0))
    evidence = made(Lstm, metrics=5)
    fitted(evidence, z[:WARMUP], [0])
    missed = []
    for now in z[WARMUP:]:
        missed.append(np.abs(evidence["forecast"][0] - now).mean())
        evidence.update(row(now, [0]), np.ones(1))

    assert np.mean(missed) < 0.5 * np.abs(np.diff(z, axis=0)).mean()


def test_each_process_has_weights_of_its_own():
    one, other = series(WARMUP), series(WARMUP, seed=29)[:, ::-1] * 2
    evidence = quick(capacity=2)
    fitted(evidence, one, [0])
    before = evidence["recurrent"][0].copy()

    fitted(evidence, other, [1])

    assert np.array_equal(evidence["recurrent"][0], before)
    assert not np.array_equal(evidence["recurrent"][1], before)


def test_neighbours_do_not_change_a_score():
    z, others = series(WARMUP + 97), series(WARMUP + 97, seed=23)
    alone = quick()
    fitted(alone, z[:WARMUP], [0])
    expected = drive(alone, z[WARMUP:])
    together = quick(capacity=3)
    fitted(together, z[:WARMUP], [0, 2])
    fitted(together, others[:WARMUP], [1])

    scores = []
    for now, other in zip(z[WARMUP:], others[WARMUP:], strict=True):
        rows = row(np.stack([now, other, now]), [0, 1, 2])
        scores.append(together.score(rows))
        together.update(rows, np.ones(3))

    assert np.array(scores)[:, 0] == pytest.approx(expected, rel=1e-9)
    assert np.array(scores)[:, 2] == pytest.approx(expected, rel=1e-9)


def test_the_future_does_not_change_a_score():
    z = series(WARMUP + 97)
    other = z.copy()
    other[WARMUP + 53 :] = 12.0
    scores = []
    for rows in (z, other):
        evidence = quick()
        fitted(evidence, rows[:WARMUP], [0])
        scores.append(drive(evidence, rows[WARMUP:]))

    assert np.array_equal(scores[0][:53], scores[1][:53])


def test_score_changes_nothing():
    z = series(WARMUP + 1)
    evidence = quick()
    fitted(evidence, z[:WARMUP], [0])
    before = evidence.state(0)

    evidence.score(row(z[-1], [0]))

    for name, array in evidence.state(0).items():
        assert np.array_equal(array, before[name], equal_nan=True)


def test_a_restored_state_goes_on_as_if_nothing_had_happened():
    z = series(WARMUP + 140)
    evidence = quick()
    fitted(evidence, z[:WARMUP], [0])
    drive(evidence, z[WARMUP : WARMUP + 43])
    restored = quick(capacity=2)
    restored.restore(1, evidence.state(0))

    rest = z[WARMUP + 43 :]
    assert np.array_equal(drive(restored, rest, slot=1), drive(evidence, rest))


def test_weights_go_on_learning_in_calm_rows_and_stand_still_in_an_alarm():
    z = series(WARMUP + 40)
    evidence = quick()
    fitted(evidence, z[:WARMUP], [0])
    fresh = evidence["recurrent"][0].copy()

    drive(evidence, z[WARMUP:], rate=0.1)
    assert np.array_equal(evidence["recurrent"][0], fresh)

    drive(evidence, z[WARMUP:], rate=1.0)
    assert not np.array_equal(evidence["recurrent"][0], fresh)


def test_errors_that_stand_out_do_not_raise_the_threshold():
    z = series(WARMUP + 120)
    z[WARMUP + 20 :] += 5.0
    evidence = made(Lstm)
    fitted(evidence, z[:WARMUP], [0])
    before = evidence["threshold"][0]

    scores = drive(evidence, z[WARMUP:])

    assert evidence["threshold"][0] < 1.3 * before
    assert scores[30:].min() > 1.0


def test_a_gap_is_no_error():
    z = series(WARMUP + 1)
    evidence = quick()
    fitted(evidence, z[:WARMUP], [0])

    assert evidence.score(row(z[-1] + 9.0, [0], fresh=True))[0] == 0.0


def test_nothing_is_said_before_anything_was_learnt():
    assert not drive(quick(), series(199)).any()


@pytest.mark.parametrize("metrics", [1, 45])
def test_constant_extreme_and_few_rows_give_finite_scores(metrics):
    evidence = quick(metrics=metrics)
    past = np.zeros((61, metrics))
    past[::2, 0] = 12.0
    fitted(evidence, past, [0])

    scores = drive(evidence, np.where(np.arange(70)[:, None] % 7, 0.0, -12.0) * np.ones(metrics))

    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_absent_torch_is_told_and_the_module_imports_without_it():
    done = run(
        """
        import sys
        sys.modules["torch"] = None
        from osdetectord.detection.evidences.lstm import Lstm
        print(Lstm.absent())
        """
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch cannot be imported: ")


def test_torch_is_not_imported_before_the_evidence_is_made():
    done = run(
        """
        import sys
        import osdetectord.detection.evidences.lstm
        print("torch" in sys.modules)
        """
    )

    assert done.stdout == "False\n", done.stderr


def test_it_learns_and_scores_where_no_memory_may_become_executable():
    """PR_SET_MDWE (Linux 6.3) is what systemd's MemoryDenyWriteExecute= amounts to."""
    done = run(
        """
        import ctypes, mmap, sys
        sys.path.insert(0, "tests/unit")
        if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0) != 0:
            sys.exit(f"prctl: errno {ctypes.get_errno()}")
        try:
            mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            sys.exit("memory may still be both written and executed")
        except PermissionError:
            pass
        from evidence_driver import drive, fitted, made, series
        from osdetectord.detection.evidences.lstm import Lstm
        evidence = made(Lstm, passes=3)
        fitted(evidence, series(61), [0])
        print(drive(evidence, series(97)).max() > 0)
        """
    )

    assert done.stdout == "True\n", done.stderr
