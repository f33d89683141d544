"""Detection over the rows of snooping: learnt, judged, written; one file for each metric file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from osdetectord.detection.settings import Settings
from osdetectord.snoop.moment import Row
from osdetectord.snoop.results import ANOMALY_COLUMNS, Judge, Results, Sheet
from osdetectord.snoop.table import CannotWrite

QUIET, FAULT = 211, 31
IDENTITY = ("TIME", "PID", "COMM")
SETTINGS = Settings.parse({"warmup_s": 30, "evidences": Settings.only(["level"], {})})


def make(outcome: Path, told: list[str], columns: dict[int, str] | None = None) -> tuple[Results, Judge]:
    results = Results(outcome, 3600.0, told.append)
    judge = results.judge("cpu", columns or {1: "OFF CPU", 2: "CPU%"}, IDENTITY, SETTINGS, 1.0)
    return results, judge


def sheet(t: int, rows: Sequence[Row]) -> Sheet:
    return Sheet(1_660_000_000.0 + t, (t + 1) * 1_000_000_000, tuple(rows))


def row(series: int, on: float, comm: str = "work") -> Row:
    return Row(series, 0, 1000 + series, comm, (on, 1000 - on, on / 10))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [line for line in csv.DictReader(file) if line["TIME"] != "END"]


def fed(results: Results, judge: Judge, faulty: int = 2) -> None:
    random = np.random.default_rng(7)
    for t in range(QUIET + FAULT):
        rows = [row(series, float(random.normal(200, 10))) for series in (1, 2)]
        if t >= QUIET:
            rows[faulty - 1] = row(faulty, 990.0)
        results.add(judge, sheet(t, rows))


def test_finds_what_one_of_two_processes_did(tmp_path):
    told: list[str] = []
    results, judge = make(tmp_path, told)
    fed(results, judge)
    found = results.stop() if not results.round() else ()

    assert told == []
    (anomaly,) = found
    assert (anomaly.file, anomaly.who, anomaly.comm) == ("cpu", 1002, "work")
    assert QUIET <= anomaly.first_s - 1_660_000_000 < QUIET + 10
    assert judge.learned
    lines = read(tmp_path / "cpu.csv")
    assert len(lines) == 2 * (QUIET + FAULT)
    alarmed = [line for line in lines if line["alarm"] == "1"]
    assert {line["PID"] for line in alarmed} == {"1002"}
    assert {line["anomaly"] for line in alarmed} == {str(anomaly.number)}
    assert {line["top"] for line in alarmed} <= {"OFF CPU", "CPU%"}
    with (tmp_path / "anomalies.csv").open(newline="") as file:
        (told_of,) = list(csv.DictReader(file))
    assert (told_of["file"], told_of["PID"], told_of["COMM"]) == ("cpu", "1002", "work")
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")


def test_has_a_header_and_an_end_even_without_rows(tmp_path):
    results, _ = make(tmp_path, [])
    results.stop()

    assert (tmp_path / "anomalies.csv").read_text() == ",".join(ANOMALY_COLUMNS) + "\n"
    assert (tmp_path / "cpu.csv").read_text() == "TIME,PID,COMM,score,p_value,alarm,anomaly,top\nEND\n"


def test_rounds_change_nothing_but_when_it_is_said(tmp_path):
    once, judge = make(tmp_path / "once", [])
    fed(once, judge)
    once.round()
    once.stop()
    often, judge = make(tmp_path / "often", [])
    random = np.random.default_rng(7)
    for t in range(QUIET + FAULT):
        rows = [row(series, float(random.normal(200, 10))) for series in (1, 2)]
        if t >= QUIET:
            rows[1] = row(2, 990.0)
        often.add(judge, sheet(t, rows))
        if t == 97:
            often.round()
    often.round()
    often.stop()

    for name in ("cpu.csv", "anomalies.csv"):
        assert (tmp_path / "often" / name).read_text() == (tmp_path / "once" / name).read_text()


def test_a_program_that_starts_again_is_known(tmp_path):
    results, judge = make(tmp_path, [])
    random = np.random.default_rng(7)
    for t in range(2 * QUIET):
        results.add(judge, sheet(t, [row(1 if t < QUIET else 2, float(random.normal(200, 10)))]))
    results.round()
    results.stop()
    scores = [float(line["score"]) for line in read(tmp_path / "cpu.csv")]

    assert not any(scores[:29])
    assert any(scores[QUIET : QUIET + 10])


def test_an_outcome_that_can_not_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="file/outcome: can't be written: not a directory"):
        Results(tmp_path / "file/outcome", 60.0, lambda _: None)
