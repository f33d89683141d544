"""Detection over files: the same answers as online, and one clear line for what is no table."""

from __future__ import annotations

import asyncio
import csv
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from osdetectord import offline
from osdetectord.detection.engine import Engine
from osdetectord.detection.settings import Settings
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame
from osdetectord.verdict import Verdict
from osdetectord.worker_client import Setup, WorkerClient

ROOT = Path(__file__).parents[2]
ROWS, WARMUP = 131, 60


def values(seed: int = 1) -> np.ndarray:
    table = np.random.default_rng(seed).lognormal(3.0, 0.1, (ROWS, 5))
    table[101:121, :3] *= 9.0
    return table


def write(path, table, head="t,a,b,c,d,e,label", first=10):
    lines = [head] + [f"{first + t}," + ",".join(map(repr, row)) + ",0" for t, row in enumerate(table.tolist())]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_answers_as_the_engine_does_online(tmp_path):
    source = write(tmp_path / "one.csv", values())
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "out"), str(source)]) == 0
    rows = rows_of(tmp_path / "out" / "one.csv")
    metrics = tuple(Metric(name, "", Kind.GAUGE) for name in "abcde")
    engine = Engine(Settings.parse({"warmup_s": WARMUP}), metrics, 1.0)
    engine.add(0, "one")
    for t, row in enumerate(values()):
        verdict = engine.step(Frame((t + 1) * 10**9, 1.0, np.zeros(1, np.uint64), metrics, row[None]))
        assert float(rows[t]["score"]) == pytest.approx(verdict.score[0], rel=1e-8, abs=1e-9)
        assert rows[t]["alarm"] == str(int(verdict.alarm[0]))
        assert rows[t]["t"] == str(10 + t)


@pytest.mark.parametrize("threshold", ["spot", "dspot"])
def test_the_threshold_of_the_configuration_counts_as_it_does_online(tmp_path, threshold):
    (tmp_path / "detectors.yml").write_text(f"threshold: {threshold}\nwarmup_s: {WARMUP}\nbudget: 50\n")
    long = np.concatenate([values(seed) for seed in range(3, 10)])
    source = write(tmp_path / "one.csv", long)
    assert offline.main(["--config", str(tmp_path / "detectors.yml"), "-o", str(tmp_path / "out"), str(source)]) == 0
    rows = rows_of(tmp_path / "out" / "one.csv")
    metrics = tuple(Metric(name, "", Kind.GAUGE) for name in "abcde")
    engine = Engine(Settings(threshold=threshold, warmup_s=WARMUP, budget=50.0), metrics, 1.0)
    engine.add(0, "one")
    for t, row in enumerate(long):
        verdict = engine.step(Frame((t + 1) * 10**9, 1.0, np.zeros(1, np.uint64), metrics, row[None]))
        assert float(rows[t]["score"]) == pytest.approx(verdict.score[0], rel=1e-8, abs=1e-9)
        assert rows[t]["alarm"] == str(int(verdict.alarm[0]))
    assert {"0", "1"} == {row["alarm"] for row in rows}


def test_the_daemons_own_worker_and_detection_over_files_agree(tmp_path):
    names, rows = tuple("abcde"), values()
    metrics = tuple(Metric(name, "", Kind.GAUGE) for name in names)
    table = offline.Table("one", tuple(map(str, range(ROWS))), names, rows)
    outcome = offline.detect([table], Settings(), 1.0)[0]
    heard, ready = asyncio.Queue[Verdict](), asyncio.Event()

    class Listener:
        def worker_ready(self, evidences):
            ready.set()

        def worker_verdict(self, verdict, group):
            heard.put_nowait(verdict)

        def worker_lost(self, why, asked):
            pytest.fail(why)

    async def online():
        client = WorkerClient(None, str(tmp_path), Setup({"": metrics}, 1.0, {}), Listener())
        client.add(7, "one")
        task = asyncio.ensure_future(client.run())
        await asyncio.wait_for(ready.wait(), 20)
        said = []
        for t, row in enumerate(rows):
            client.send(Frame((t + 1) * 10**9, 1.0, np.array([7], np.uint64), metrics, row[None]))
            said.append(await asyncio.wait_for(heard.get(), 20))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return said

    said = asyncio.run(online())
    assert outcome.alarm.any()
    assert [verdict.score[0] for verdict in said] == pytest.approx(outcome.score, rel=1e-9, abs=1e-12)
    assert [bool(verdict.alarm[0]) for verdict in said] == outcome.alarm.tolist()
    np.testing.assert_allclose(np.stack([verdict.high[0] for verdict in said]), outcome.high, rtol=1e-9)


@pytest.mark.parametrize("cut", [WARMUP + 7, 105, 128])
def test_no_row_is_judged_by_what_follows_it(tmp_path, cut):
    future = values()
    future[cut:] = np.random.default_rng(cut).lognormal(0.0, 3.0, (ROWS - cut, 5))
    sources = [write(tmp_path / "one.csv", values()), write(tmp_path / "other.csv", future)]
    shorter = write(tmp_path / "shorter.csv", values()[:cut])
    options = ["--warmup", str(WARMUP), "-o", str(tmp_path / "out")]
    assert offline.main([*options, *map(str, [*sources, shorter])]) == 0
    one, other, short = (rows_of(tmp_path / "out" / f"{name}.csv") for name in ("one", "other", "shorter"))
    assert one[:cut] == other[:cut] == short
    assert one[cut:] != other[cut:]


def test_the_fault_is_told_with_its_metrics(tmp_path):
    source = write(tmp_path / "one.csv.gz", values())
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path), str(source)]) == 0
    rows = rows_of(tmp_path / "one.csv")
    assert len(rows) == ROWS
    assert list(rows[0]) == ["t", "score", "p_value", "alarm", "anomaly", "top"]
    assert {float(row["score"]) for row in rows[:WARMUP]} == {0.0}
    assert rows[110]["alarm"] == "1"
    assert rows[110]["anomaly"] == "1"
    assert rows[110]["top"] in ("a", "b", "c")
    told = rows_of(tmp_path / "one.anomalies.csv")
    assert len(told) == 1
    assert 111 <= int(told[0]["first"]) <= 117
    assert "expected" in told[0]["metrics"]


def test_a_directory_side_by_side_answers_as_each_file_alone(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for seed in (1, 2, 3):
        write(source / f"s{seed}.csv", values(seed))
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "all"), str(source)]) == 0
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "alone"), str(source / "s2.csv")]) == 0
    assert (tmp_path / "all" / "s2.csv").read_bytes() == (tmp_path / "alone" / "s2.csv").read_bytes()


def test_a_label_changes_nothing_and_empty_fields_are_missing(tmp_path):
    write(tmp_path / "a.csv", values())
    text = (tmp_path / "a.csv").read_text()
    (tmp_path / "b.csv").write_text(text.replace(",0\n", ",1\n"))
    options = ["--warmup", str(WARMUP), "-o"]
    assert offline.main([*options, str(tmp_path / "out"), str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]) == 0
    assert (tmp_path / "out" / "a.csv").read_text() == (tmp_path / "out" / "b.csv").read_text()
    lines = text.splitlines()
    lines[90] = lines[90].split(",")[0] + ",,,,,,0"
    (tmp_path / "c.csv").write_text("\n".join(lines))
    assert offline.main([*options, str(tmp_path / "out"), str(tmp_path / "c.csv")]) == 0
    assert rows_of(tmp_path / "out" / "c.csv")[89]["score"] == "0"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "row 1"),
        ("t,label\n1,0\n", "no metric"),
        ("a,a\n1,2\n", "row 1, column 2: 'a' is not a name of its own"),
        ("t,a,t\n1,2,3\n", "row 1, column 3: 't' is not a name of its own"),
        ("t,a,label,label\n1,2,0,0\n", "row 1, column 4: 'label' is not a name of its own"),
        ("a,\n1,2\n", "row 1, column 2: '' is not a name of its own"),
        ("\n\n", "row 1: no header"),
        ("a,b\n1,2,3\n", "row 2: 3 fields, the header has 2"),
        ("a,b\n1_000,2\n", "row 2, column a: '1_000' is not a number"),
        ("a,b\n1;5,2\n", "row 2, column a: '1;5' is not a number"),
        ("a,b\n1,\x1b[31m\n", r"row 2, column b: '\x1b[31m' is not a number"),
        ("a,b\n1," + 997 * "9" + "x\n", "column b: '" + 60 * "9" + "...' is not a number"),
        ("a,b\n1," + 200_000 * "9" + "\n", "row 2: field larger than field limit"),
        ("\xff\xfea\x00", "cannot be read"),
        ("a,b\n1,2\n3,x\n", "row 3, column b: 'x' is not a number"),
        ("a,b\n\n1,2\n\n3,x\n", "row 5, column b: 'x' is not a number"),
        ('t,PID,COMM,a\n1,7,"new\nline",1\n2,7,"new\nline",x\n', "row 5, column a: 'x' is not a number"),
        ("a,b\n1,2\n3\n", "row 3: 1 fields, the header has 2"),
        ("\x00\xff", "cannot be read"),
        ('a,b\n"1,2\n', "row"),
    ],
)
def test_a_malformed_file_is_named_with_row_column_and_value(tmp_path, capsys, content, said):
    path = tmp_path / "bad.csv"
    path.write_bytes(content.encode("latin-1"))
    assert offline.main(["-o", str(tmp_path / "out"), str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert said in error


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content + b"more",
        lambda content: content[:200] + bytes([content[200] ^ 0xFF]) + content[201:],
        lambda content: gzip.decompress(content),
    ],
)
def test_a_damaged_gzip_file_fails_in_one_line(tmp_path, capsys, damage):
    path = write(tmp_path / "one.csv.gz", values())
    path.write_bytes(damage(path.read_bytes()))
    assert offline.main(["-o", str(tmp_path / "out"), str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{path}: cannot be read: " in error


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_a_table_that_is_too_short_is_not_called_normal(tmp_path, capsys, rows):
    source = write(tmp_path / "one.csv", values()[:rows])
    assert offline.main(["-o", str(tmp_path / "out"), str(source)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"one: too few values to judge in {rows} row") and said.count("\n") == 1
    assert len(rows_of(tmp_path / "out" / "one.csv")) == rows


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", ["huge", "huge and small", "infinite", "none", "constant", "zero", "spikes of all"])
def test_any_numbers_give_scores_that_are_numbers_and_no_warning(tmp_path, capsys, what):
    table = values()
    if what == "huge":
        table *= 1e305
    if what == "huge and small":
        table[97:] *= 1e300
        table[:, 1] *= 1e-300
    if what == "infinite":
        table[40:50], table[107], table[110, 2] = np.inf, -np.inf, np.nan
    if what == "none":
        table[:, :3] = np.nan
    if what == "constant":
        table[:] = 5.0
    if what == "zero":
        table[:, 1:] = 0.0
    if what == "spikes of all":
        table[70::7] = np.where(np.arange(5) % 2, 1e308, -1e308)
    source = write(tmp_path / "one.csv", table)
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "out"), str(source)]) == 0
    assert capsys.readouterr().err == ""
    rows = rows_of(tmp_path / "out" / "one.csv")
    assert len(rows) == ROWS
    assert all(0.0 <= float(row["score"]) < np.inf and 0.0 <= float(row["p_value"]) <= 1.0 for row in rows)
    assert "nan" not in (tmp_path / "out" / "one.anomalies.csv").read_text()


def test_a_result_is_never_written_over_what_was_read(tmp_path, capsys):
    source = write(tmp_path / "one.csv", values())
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (tmp_path, tmp_path / "link"):
        assert offline.main(["-o", str(out), str(source)]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert source.read_bytes() == before


@pytest.mark.parametrize("place", ["a file", "below a file", "a directory in the way", "no room"])
def test_results_that_cannot_be_written_are_one_line(tmp_path, capsys, place):
    source, out = write(tmp_path / "one.csv", values()), tmp_path / "out"
    if place == "a file":
        out.write_text("")
    if place == "below a file":
        out = source / "out"
    if place == "a directory in the way":
        (out / "one.csv").mkdir(parents=True)
    if place == "no room":
        out.mkdir()
        (out / "one.csv").symlink_to("/dev/full")
    assert offline.main(["-o", str(out), str(source)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(out) in error


def test_a_name_with_dots_is_kept_whole(tmp_path):
    names = ("python3.11-1.csv", "python3.11-2.csv.gz")
    sources = [str(write(tmp_path / name, values()[:30])) for name in names]
    assert offline.main(["-o", str(tmp_path / "out"), *sources]) == 0
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {f"python3.11-{n}{ending}" for n in (1, 2) for ending in (".csv", ".anomalies.csv")}


@pytest.mark.parametrize("names", [("one.csv", "one.csv.gz"), ("one.csv", "one.anomalies.csv")])
def test_two_files_whose_results_would_be_one_are_refused(tmp_path, capsys, names):
    sources = [str(write(tmp_path / name, values()[:30])) for name in names]
    assert offline.main(["-o", str(tmp_path / "out"), *sources]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"osdctl detect: {sources[1]}: would be written over ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("| true", 141, ""),
        (">/dev/full", 1, "osdctl detect: cannot write to standard output: No space left on device\n"),
        (">&-", 0, ""),
    ],
)
def test_a_standard_output_that_takes_nothing_is_not_put_down_to_the_results(tmp_path, end, status, said):
    source = write(tmp_path / "one.csv", values()[:30])
    words = f"{sys.executable} -m osdetectord.offline -o {tmp_path / 'out'} {source} {end}; exit ${{PIPESTATUS[0]}}"
    environ = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(["bash", "-c", words], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, said)
    assert len(rows_of(tmp_path / "out" / "one.csv")) == 30


def test_only_the_files_of_a_directory_are_read_and_a_name_may_hold_anything(tmp_path, capsys):
    source = tmp_path / "in"
    (source / "directory.csv").mkdir(parents=True)
    os.mkfifo(source / "pipe.csv")
    write(source / "new\nline\x1b.csv", values())
    (source / "lost.csv").symlink_to("nowhere")
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "out"), str(source)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("new\\nline\\x1b: ") and said.out.count("\n") == 1
    assert "lost.csv: cannot be read: No such file or directory" in said.err and said.err.count("\n") == 1


def test_what_was_found_is_said_in_a_line_for_each_file(tmp_path, capsys):
    faulty, quiet = values(), values()
    quiet[101:121, :3] /= 9.0
    sources = [str(write(tmp_path / "b.csv", faulty)), str(write(tmp_path / "a.csv", quiet))]
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "out"), *sources]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"a: nothing abnormal in {ROWS} rows; {tmp_path}/out/a.csv"
    assert lines[1].startswith(f"b: 1 anomaly in {ROWS} rows (the first at 11")
    assert lines[1].endswith(f"; {tmp_path}/out/b.csv") and len(lines) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# one\nbudget: 1\nevidences:\n  level: 5\n", "detectors.yml:4: evidences.level is 5, expected true"),
        ("budget: [1\n", "detectors.yml:2: "),
        ("- a\n", "detectors.yml:1: not a mapping"),
    ],
)
def test_a_wrong_configuration_is_named_with_its_line(tmp_path, capsys, text, said):
    (tmp_path / "detectors.yml").write_text(text)
    source = write(tmp_path / "one.csv", values())
    arguments = ["-o", str(tmp_path / "out"), "--config", str(tmp_path / "detectors.yml"), str(source)]
    assert offline.main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["-o", "x"], ["f.csv"], ["-o", "x", "--warmup", "5", "f.csv"], ["-o", "x", "--detectors", "level,none", "f.csv"]],
)
def test_wrong_usage_is_told_and_exits_with_two(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    try:
        status = offline.main(arguments)
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("called", ["osdctl", "sudo ./run"])
def test_the_hint_of_wrong_usage_names_the_command_as_it_is_called(capsys, monkeypatch, called):
    monkeypatch.setenv(offline.CALLED, called)
    with pytest.raises(SystemExit):
        offline.main(["-o", "x"])
    assert capsys.readouterr().err.endswith(f"; see {called} detect --help\n")


@pytest.mark.parametrize(
    "wrong",
    [["--budget", "1e9"], ["--detectors", "level,none"], ["--interval", "1e9"], ["--warmup", "100000000"]],
)
def test_a_wrong_option_is_not_put_down_to_the_configuration(tmp_path, capsys, wrong):
    (tmp_path / "detectors.yml").write_text("budget: 1\nevidences: {level: true}\n")
    source = write(tmp_path / "one.csv", values())
    try:
        status = offline.main([*wrong, "--config", str(tmp_path / "detectors.yml"), "-o", str(tmp_path), str(source)])
    except SystemExit as left:
        status = left.code
    error = capsys.readouterr().err
    assert status == 2
    assert "detectors.yml" not in error and error.count("\n") == 1


def test_the_warm_up_is_of_rows_however_short_they_are(tmp_path):
    source = write(tmp_path / "one.csv", values())
    assert offline.main(["--warmup", "40", "--interval", "0.5", "-o", str(tmp_path / "out"), str(source)]) == 0
    scores = [float(row["score"]) for row in rows_of(tmp_path / "out" / "one.csv")]
    assert not any(scores[:40]) and any(scores[40:60])


def test_an_evidence_that_is_asked_for_and_lacks_its_library_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("osdetectord.detection.evidences.lstm.Lstm.absent", classmethod(lambda cls: "no torch"))
    source = write(tmp_path / "one.csv", values())
    assert offline.main(["--detectors", "level,lstm", "-o", str(tmp_path / "out"), str(source)]) == 1
    assert capsys.readouterr().err == "osdctl detect: lstm cannot take part: no torch\n"


@pytest.mark.parametrize(("raised", "status", "said"), [(KeyboardInterrupt, 130, ""), (MemoryError, 1, "memory")])
def test_what_ends_it_leaves_no_traceback(tmp_path, capsys, monkeypatch, raised, status, said):
    def decompress(_):
        raise raised

    monkeypatch.setattr(offline.gzip, "decompress", decompress)
    source = write(tmp_path / "one.csv.gz", values())
    assert offline.main(["-o", str(tmp_path / "out"), str(source)]) == status
    assert said in capsys.readouterr().err


def test_a_missing_file_fails_in_one_line(tmp_path, capsys):
    assert offline.main(["-o", str(tmp_path / "out"), str(tmp_path / "none.csv")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_only_the_chosen_evidences_take_part(tmp_path):
    source = write(tmp_path / "one.csv", values())
    options = ["--warmup", str(WARMUP), "--detectors", "level, innovation", "-o", str(tmp_path / "out")]
    assert offline.main([*options, str(source)]) == 0
    spoken = {name for row in rows_of(tmp_path / "out" / "one.anomalies.csv") for name in row["detectors"].split()}
    assert spoken and spoken <= {"level", "innovation"}


def test_a_bad_file_of_a_directory_is_named_and_the_others_are_done(tmp_path, capsys):
    source = tmp_path / "in"
    source.mkdir()
    write(source / "good.csv", values())
    (source / "bad.csv").write_text("a,b\n1,x\n")
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "out"), str(source)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "bad.csv: row 2, column b: 'x' is not a number" in error
    assert len(rows_of(tmp_path / "out" / "good.csv")) == ROWS


@pytest.mark.parametrize("who", ["PID", "SPID"])
def test_a_file_of_several_processes_is_judged_for_each_as_if_it_were_alone(tmp_path, who):
    both, alone = [f"TIME,{who},COMM,a,b,c,d,e"], ["TIME,a,b,c,d,e"]
    for t, (mine, others) in enumerate(zip(values(1).tolist(), values(2).tolist(), strict=True)):
        both.append(f"{t}.50,1009,le ak," + ",".join(map(repr, mine)))
        both.append(f"{t}.50,1013,other," + ",".join(map(repr, others)))
        alone.append(f"{t}.50," + ",".join(map(repr, mine)))
    (tmp_path / "cpu.csv").write_text("\n".join([*both, "END"]) + "\n")
    (tmp_path / "alone.csv").write_text("\n".join(alone) + "\n")
    arguments = ["--warmup", str(WARMUP), "-o", str(tmp_path / "out")]
    assert offline.main([*arguments, str(tmp_path / "cpu.csv"), str(tmp_path / "alone.csv")]) == 0
    assert rows_of(tmp_path / "out" / "cpu-1009.csv") == rows_of(tmp_path / "out" / "alone.csv")
    assert len(rows_of(tmp_path / "out" / "cpu-1013.csv")) == ROWS


def test_rows_without_a_time_are_numbered_without_the_blank_lines_between_them(tmp_path):
    (tmp_path / "one.csv").write_text("a,b\n\n1,2\n\n\n3,4\n")
    assert offline.main(["-o", str(tmp_path / "out"), str(tmp_path / "one.csv")]) == 0
    assert [row["t"] for row in rows_of(tmp_path / "out" / "one.csv")] == ["0", "1"]


@pytest.mark.parametrize("head", ["t", "T", "time", "TIME", "Time"])
def test_the_time_of_a_row_stands_in_its_result(tmp_path, head):
    source = write(tmp_path / "one.csv", values(), f"{head},a,b,c,d,e,label", first=1000)
    assert offline.main(["--warmup", str(WARMUP), "-o", str(tmp_path / "out"), str(source)]) == 0
    assert [int(row["t"]) for row in rows_of(tmp_path / "out" / "one.csv")] == list(range(1000, 1000 + ROWS))
