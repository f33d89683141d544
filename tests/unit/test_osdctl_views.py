"""The views of osdctl: the board of top, lines of the log, checks of the doctor."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from osdctl import called, machine, record, threads, vitals
from osdctl.board import Board, frame, visible
from osdctl.curve import Curve, Range
from osdctl.errors import OsdctlError
from osdctl.inside import Thread
from osdctl.model import Anomaly, Blame, Daemon, Process, Target, number_of
from osdctl.text import Look, width_of

HOSTILE = "\x1b[2J\u202eevil\n"
OPENED_US = 1_795_356_131_000_000


def a_target(number: int, **changes: object) -> Target:
    target = Target(
        number, f"comm:p{number}", "normal", 1, True, True, 0, number / 100, 1.0,
        (Process(1000 + number, 1, "worker", "normal", 0.1, 1.0),), {"memory.rss": 2.0**20},
    )  # fmt: skip
    return replace(target, **changes)


def a_thread(tid: int, cpu: float, pid: int = 42, comm: str = "worker", cpu_s: float = 0.0) -> Thread:
    return Thread(pid, tid, comm, "R", cpu, cpu_s, 101, 103)


def an_anomaly(number: int = 7, target: int = 1, **changes: object) -> Anomaly:
    blames = (Blame("memory.rss", "bytes", 0.7, 212 * 2.0**20, 118 * 2.0**20, 131 * 2.0**20, OPENED_US),)
    anomaly = Anomaly(
        number, target, "comm:p1", 1234, "worker", "open", "anomaly", OPENED_US, 0, 9.1, 3e-6, ("level",), blames,
        "worker[1234]: memory", 0, "",
    )  # fmt: skip
    return replace(anomaly, **changes)


DAEMON = Daemon("9.8.7", (), (), {"ring": 0}, {"cpu_percent": 0.4}, "connected", {"memory.rss": "bytes"})


def a_board(targets, anomalies=()) -> Board:
    board = Board()
    board.take(DAEMON, targets, anomalies)
    return board


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (132, 43), (80, 5)])
def test_a_frame_fits_its_terminal(width, height):
    targets = [a_target(i, spec=f"comm:{'x' * 89}", state="anomalous") for i in range(1, 98)]
    board = a_board(targets, [an_anomaly()])
    board.press("\r")

    lines = frame(board, Look(terminal=True, width=width, height=height)).split("\n")

    assert len(lines) <= height
    assert max(width_of(line) for line in lines) <= width


def test_a_frame_shows_no_foreign_escape_sequence():
    target = a_target(
        1, spec=f"comm:{HOSTILE}", processes=(Process(1, 1, HOSTILE, "normal", 0.0, 1.0),), latest={HOSTILE: 1.0}
    )
    board = a_board([target], [an_anomaly(comm=HOSTILE)])
    board.press("\r")

    assert all(line.isprintable() for line in frame(board, Look()).split("\n"))


def test_the_loudest_target_is_on_top_and_s_sorts_otherwise():
    board = a_board([a_target(1, score=0.2), a_target(2, score=7.0), a_target(3, score=3.0)])

    assert [target.id for target in board.targets] == [2, 3, 1]
    for _ in range(5):
        board.press("s")
    assert (board.sort, [target.id for target in board.targets]) == ("id", [1, 2, 3])


def test_the_selection_stays_on_its_target_and_in_sight():
    board = a_board([a_target(i) for i in range(1, 98)])
    for _ in range(53):
        board.press("j")
    chosen = board.selected
    board.take(DAEMON, [a_target(i, score=float(i % 7)) for i in range(1, 98)], [])

    assert board.selected == chosen
    assert any(row.key == chosen for row in visible(board.rows(), chosen, 11))


def test_a_target_that_left_is_no_longer_selected_or_open():
    board = a_board([a_target(1), a_target(2)])
    board.press("\r")
    gone = board.selected[1]
    board.take(DAEMON, [a_target(3 - gone)], [])

    assert board.selected == ("target", 3 - gone, 3 - gone)
    assert board.opened == set()


def test_the_selection_goes_up_to_its_target_where_what_was_selected_is_gone():
    board = a_board([a_target(1), a_target(2)])
    board.selected = ("target", 1, 1)
    for key in ("\r", "j"):
        board.press(key)
    assert board.selected == ("process", 1, 1001)
    board.take(DAEMON, [a_target(1, processes=()), a_target(2)], [])

    assert board.selected == ("target", 1, 1)


def test_an_open_target_tells_anomalies_the_metrics_that_matter_and_processes_with_their_threads():
    board = a_board([a_target(1)], [an_anomaly()])
    board.press(" ")
    assert vitals.chosen(board.targets[0], board.anomalies) == ["memory.rss"]
    times, mib = (1, 2, 3), 2.0**20
    series = {"memory.rss": (times, (mib, mib, 212 * mib)), "memory.rss:low": ((1, 3), (118 * mib,) * 2),
              "memory.rss:high": ((1, 3), (131 * mib,) * 2)}  # fmt: skip
    board.press("j")
    board.press("j")
    board.press("\r")
    busy = [a_thread(1001 + i, 0.5 / (i + 1), pid=1001, comm=f"worker{HOSTILE}") for i in range(11)]
    board.take_details({1: vitals.curves(["memory.rss"], DAEMON.units, series)}, {1001: busy})
    lines = frame(board, Look()).split("\n")

    assert board.open_processes() == [(board.targets[0], {1001})]
    assert [target.id for target in board.open_targets()] == [1]
    assert lines[3].split() == ["#7", "worker[1234]:", "memory"]
    assert lines[4].split() == ["METRIC", "NOW", "EXPECTED", "THE", "LAST", "2", "MIN"]
    del lines[4]
    assert lines[4].split()[:5] == ["memory.rss", "212", "MiB", "118-131", "MiB"] and lines[4].endswith("▁▁█")
    assert lines[5].split()[:3] == ["1001", "worker", "normal,"]
    assert lines[6].split()[0] == "1001" and lines[6].endswith("50 %") and all(line.isprintable() for line in lines)
    assert "and 3 more threads" in lines[-1]


def test_a_metric_that_is_to_blame_comes_before_the_usual_ones():
    target = a_target(1, latest={"memory.rss": 1.0, "cpu.on_cpu": 1.0, "files.odd": 1.0})
    blame = an_anomaly().metrics[0]
    anomaly = an_anomaly(metrics=(replace(blame, metric="files.odd"), replace(blame, metric="gone.metric")))

    assert vitals.chosen(target, [anomaly]) == ["files.odd", "cpu.on_cpu", "memory.rss"]
    assert vitals.chosen(target, [an_anomaly(target=2)]) == ["cpu.on_cpu", "memory.rss"]


def test_a_value_out_of_its_range_is_known_and_one_without_a_range_is_not():
    def curve(value, low, high):
        return Curve("x", "", (1,), (value,), Range(), Range((1,), (low,), (high,)))

    assert [vitals.outside(curve(value, 2.0, 3.0)) for value in (1.0, 2.5, 4.0)] == [True, False, True]
    assert not vitals.outside(Curve("x", "", (1,), (9.0,), Range(), Range()))


def test_a_muted_target_says_so_until_its_time_is_over():
    now_us = int(time.time() * 1e6)
    muted, told = a_target(1, muted_until_us=now_us + 3_600_000_000), a_target(2, muted_until_us=now_us - 1)
    rows = {row.cells[0]: row.cells[1] for row in a_board([muted, told]).rows() if row.cells}
    assert rows == {"1": "normal, muted", "2": "normal"}
    assert (muted.condition, told.condition) == ("normal, muted", "normal")


def test_enter_and_e_ask_for_an_anomaly_by_its_number():
    board = a_board([a_target(1), a_target(2)], [an_anomaly(9), an_anomaly(7)])
    board.selected = ("target", 1, 1)

    assert (board.explained_by("e"), board.explained_by("\r")) == (9, None)
    board.press("\r")
    for _ in range(2):
        board.press("j")
    assert board.selected == ("anomaly", 1, 7)
    assert (board.explained_by("\r"), board.explained_by("e"), board.explained_by("j")) == (7, 7, None)
    board.selected = ("target", 2, 2)
    assert board.explained_by("e") is None


def test_threads_tell_the_share_of_a_core_since_the_last_look_that_is_not_too_short_ago(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    look = threads.Threads()

    def shares(*told: tuple[int, float]) -> list[tuple[int, float]]:
        rows = [a_thread(tid, 0.125, cpu_s=cpu_s) for tid, cpu_s in told]
        return [(thread.tid, thread.cpu) for thread in look.look(rows).get(42, [])]

    assert shares((42, 1.0), (43, 0.0)) == [(42, 0.125), (43, 0.125)]
    now[0] = 102.0
    assert shares((42, 1.5), (43, 2.0)) == [(43, 1.0), (42, 0.25)]
    now[0] = 102.01
    assert shares((42, 1.51), (43, 2.0)) == [(43, 1.0), (42, 0.25)]
    now[0] = 104.0
    assert shares((42, 2.0)) == [(42, 0.25)]
    assert shares() == []


def test_q_leaves_and_other_keys_do_not():
    board = a_board([])

    assert not board.press("q")
    assert all(board.press(key) for key in ("s", "j", "k", "\r", "x", "\x1b[A"))


def test_the_log_tells_opening_and_closing_in_order_of_time():
    early = an_anomaly(5, opened_us=OPENED_US, closed_us=OPENED_US + 11_000_000)
    late = an_anomaly(7, opened_us=OPENED_US + 3_000_000)

    rows = record.past([late, early], None, None)

    assert [(phase, anomaly.id) for phase, anomaly in rows] == [("opened", 5), ("opened", 7), ("closed", 5)]
    assert [anomaly.id for _, anomaly in record.past([late, early], OPENED_US + 1, OPENED_US + 4_000_000)] == [7]


def test_a_log_line_is_one_harmless_line():
    line = record.anomaly_line("opened", an_anomaly(message=f"{HOSTILE}: odd"), Look())

    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_an_exit_tells_status_or_signal():
    details = {"Pid": 17, "Comm": HOSTILE, "Code": 3, "Signal": 0}

    assert "exited with status 3" in record.exit_line(OPENED_US, 1, details, Look())
    assert record.exit_line(OPENED_US, 1, {**details, "Code": -1}, Look()).endswith(": ended\n")
    assert "killed by signal 9" in record.exit_line(OPENED_US, 1, {**details, "Signal": 9}, Look())
    assert json.loads(record.exit_line(OPENED_US, 1, details, Look(json="short"))) == {
        "event": "exited", "time_us": OPENED_US, "target": 1, "pid": 17, "comm": HOSTILE, "code": 3, "signal": 0,
    }  # fmt: skip


def test_the_json_of_an_anomaly_has_names_that_stay():
    assert list(an_anomaly().json()) == [
        "id", "target", "spec", "pid", "comm", "state", "kind", "opened_us", "closed_us", "score", "p_value",
        "detectors", "metrics", "message", "recurrence", "useful",
    ]  # fmt: skip
    assert list(a_target(1).json()) == [
        "id", "spec", "state", "since_us", "persistent", "children", "muted_until_us", "score", "progress",
        "processes", "latest",
    ]  # fmt: skip


@pytest.mark.parametrize("properties", [{}, {"Spec": 3}, {"Spec": "pid:1", "State": None}])
def test_an_answer_of_another_version_is_an_error_and_no_crash(properties):
    with pytest.raises(OsdctlError, match="one version"):
        Target.of("/org/osdetector1/target/1", properties)
    with pytest.raises(OsdctlError):
        number_of("/org/osdetector1/target/x")


def test_a_machine_without_kernel_types_fails(tmp_path):
    assert machine.btf(tmp_path).state == "fail"
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    (tmp_path / "sys/kernel/btf/vmlinux").touch()
    assert machine.btf(tmp_path).state == "ok"


@pytest.mark.parametrize(
    ("text", "state"),
    [("[none] integrity confidentiality\n", "ok"), ("none [integrity] confidentiality\n", "ok"),
     ("none integrity [confidentiality]\n", "fail")],
)  # fmt: skip
def test_lockdown_fails_only_where_bpf_may_not_read(tmp_path, text, state):
    (tmp_path / "sys/kernel/security").mkdir(parents=True)
    (tmp_path / "sys/kernel/security/lockdown").write_text(text)

    assert machine.lockdown(tmp_path).state == state


@pytest.mark.parametrize(
    ("held", "state", "word"),
    [
        ("000001ffffffffff", "ok", "root"),
        ("0000000000000000", "fail", "CAP_BPF"),
        ("000000c000000000", "fail", "PTRACE"),
    ],
)
def test_root_needs_its_capabilities(tmp_path, held, state, word):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(f"Name:\tx\nCapInh:\t0\nCapEff:\t{held}\nCapBnd:\t0\n")

    check = machine.user(tmp_path, 0)

    assert check.state == state
    assert word in check.said


def test_a_stranger_is_told_how_to_come_in(tmp_path):
    check = machine.user(tmp_path, 65534)

    assert check.state in ("ok", "warn")
    assert check.state == "ok" or check.todo


def test_no_systemd_and_no_journal_are_warnings(tmp_path):
    assert [check.state for check in machine.unit(tmp_path)] == ["warn"]
    assert machine.journal(tmp_path).state == "warn"


def test_a_program_that_is_missing_is_no_crash():
    assert machine.ask([f"/nonexistent/{os.getpid()}"])[0] == -1


@pytest.mark.parametrize(("checkout", "command"), [(True, "sudo ./run watch PID"), (False, "sudo osdetectord")])
def test_without_systemd_the_way_to_start_the_daemon_is_one_that_is_there(tmp_path, monkeypatch, checkout, command):
    monkeypatch.setattr(called, "CHECKOUT", checkout)
    (check,) = machine.unit(tmp_path)
    assert check.todo == f"the daemon runs without it, start it with: {command}"
