"""The measurement of detection: what it is asked for wrongly is told before anything runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_detector_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("t,a,label\n0,1,0\n")
    command = [sys.executable, "-m", "bench.detection", tmp_path, "--only", "level,none"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    *_, said = done.stderr.splitlines()
    assert "--only: no detector 'none': there are random, " in said
    assert ", level, " in said and ", ensemble" in said


def test_a_directory_without_data_is_named_before_anything_runs(tmp_path: Path) -> None:
    for directory, why in ((tmp_path, "no .csv and no .csv.gz in it"), (tmp_path / "none", "is no directory")):
        command = [sys.executable, "-m", "bench.detection", directory]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].endswith(why)
        assert str(directory) in done.stderr
