"""osdctl as a real program against a known daemon on a private bus: output, exit status, one line for each error."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_bus import AS_NOBODY, OPEN_POLICY, PrivateBus, wait_until

from bench.demos import __main__ as demos

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
OSDCTL = (PYTHON, "-m", "osdctl")
ENVIRON = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONPATH": str(ROOT),
    "TERM": "xterm",
    "TZ": "UTC",
}
NO_PID = "999983"


class Client:
    """osdctl with its environment; each call is a process of its own."""

    def __init__(self, address: str) -> None:
        self.environ = {**ENVIRON, "DBUS_SYSTEM_BUS_ADDRESS": address}

    def __call__(self, *words: str, user: tuple[str, ...] = (), **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*user, *OSDCTL, *words],
            cwd="/",
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*OSDCTL, *words], cwd="/", env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def on_terminal(self, *words: str, keys: str = "", until: str = "", **environ: str) -> tuple[str, int]:
        """Run it on a terminal of 80x24; press the keys once ``until`` is seen."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir("/")
            os.execve(OSDCTL[0], OSDCTL + words, {**self.environ, "COLUMNS": "80", "LINES": "24", **environ})
        seen, pressed, end = b"", not keys, time.monotonic() + 60
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not pressed and until.encode() in seen:
                os.write(terminal, keys.encode())
                pressed = True
        os.close(terminal)
        return seen.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class FakeDaemon:
    """The daemon of ``fake_daemon.py``, as a process."""

    def __init__(self, address: str) -> None:
        self.process = subprocess.Popen(
            [PYTHON, str(Path(__file__).with_name("fake_daemon.py"))],
            env={**ENVIRON, "DBUS_SYSTEM_BUS_ADDRESS": address},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def open_bus() -> Iterator[PrivateBus]:
    with PrivateBus(OPEN_POLICY) as bus:
        yield bus


@pytest.fixture
def osdctl(open_bus: PrivateBus) -> Iterator[Client]:
    daemon = FakeDaemon(open_bus.address)
    yield Client(open_bus.address)
    daemon.stop()


@pytest.fixture
def alone(open_bus: PrivateBus) -> Client:
    return Client(open_bus.address)


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("osdctl: ")
    assert lines[0].isprintable()
    return lines[0]


def test_status_is_the_daemon_in_a_line_each(osdctl):
    done = osdctl("status")

    assert (done.returncode, done.stderr) == (0, "")
    assert "osdetectord 9.8.7, running" in done.stdout
    assert "3 (1 anomalous, 1 learning, 1 normal)" in done.stdout
    hooks = "cpu by the best there is; network by sys_exit (fallback); packets off in the configuration"
    assert f"{hooks}; osdctl doctor says why" in done.stdout
    assert "on: level; absent: lstm (no torch)" in done.stdout
    assert "ring 13" in done.stdout
    assert "cpu 0.43 %, cpu time 7 s, rss 41 MiB" in done.stdout


def test_list_in_a_pipe_is_plain_and_whole(osdctl):
    done = osdctl("list")

    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ID", "STATE"], ["1", "anomalous"], ["2", "learning"], ["3", "normal"],
    ]  # fmt: skip
    assert r"comm:\x1b]0;owned\x07\x1b[2J\u202eevil\x0a" in done.stdout


def test_list_q_is_the_ids(osdctl):
    assert osdctl("list", "-q").stdout == "1\n2\n3\n"


def test_json_is_stable(osdctl):
    done = osdctl("--json=short", "list")

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0] == {
        "id": 1, "spec": "pid:1234", "state": "anomalous", "since_us": 1_795_356_131_000_000, "persistent": True,
        "children": True, "muted_until_us": 0, "score": 9.1, "progress": 1.0,
        "processes": [{"pid": 1234, "started_us": 1_795_356_131_000_000, "comm": "redis-server", "state": "anomalous",
                       "score": 9.1, "progress": 1.0}],
        "latest": {"memory.rss": 222_298_112.0, "cpu.on_cpu": 0.97},
    }  # fmt: skip
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert json.loads(osdctl("list", "--json=pretty").stdout) == rows


@pytest.mark.parametrize(
    "words", [("status",), ("show", "1"), ("anomalies",), ("explain", "7"), ("plot", "1", "memory.rss")]
)
def test_every_view_has_json(osdctl, words):
    assert json.loads(osdctl("--json=pretty", *words).stdout)


def test_show_finds_a_target_by_id_pid_spec_and_path(osdctl):
    texts = {osdctl("show", word).stdout for word in ("1", "1234", "pid:1234", "/org/osdetector1/target/1")}

    assert len(texts) == 1
    text = texts.pop()
    assert "redis-server" in text
    assert "memory.rss  212 MiB" in text
    assert "cpu.on_cpu     97 %" in text
    assert "#" not in text.splitlines()[0]


def test_anomalies_are_the_newest_first_and_filtered(osdctl):
    assert osdctl("anomalies", "-q").stdout == "7\n6\n5\n"
    assert osdctl("anomalies", "-q", "--open").stdout == "7\n"
    assert osdctl("anomalies", "-q", "-n", "2").stdout == "7\n6\n"
    assert osdctl("anomalies", "-q", "--target", "unit:nginx").stdout == "5\n"
    assert osdctl("anomalies", "-q", "--since", "@1795356132").stdout == ""
    assert osdctl("anomalies", "-q", "--until", "2026-11-22 14:02:11 UTC").stdout == "7\n6\n5\n"


def test_no_anomaly_is_said_and_no_error(osdctl):
    done = osdctl("anomalies", "--since", "@1795356132")

    assert (done.returncode, done.stdout) == (0, "")
    assert only_line(done) == "osdctl: no anomalies"


def test_log_is_a_line_for_each_opening_and_closing(osdctl):
    lines = osdctl("log").stdout.splitlines()

    assert [line.split()[2:4] for line in lines] == [
        ["opened", "#5"], ["opened", "#6"], ["opened", "#7"], ["closed", "#5"], ["closed", "#6"],
    ]  # fmt: skip
    assert lines[0].startswith("2026-11-22 14:02:11 ")
    assert "closed after 11s" in lines[3]
    assert all(line.isprintable() for line in lines)
    assert osdctl("log", "-n", "2").stdout.splitlines() == lines[-2:]


def test_explain_tells_metrics_shares_and_order(osdctl):
    text = osdctl("explain", "7").stdout

    assert "resident memory 212 MiB, expected 118-131 MiB" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("memory.rss", "cpu.on_cpu"))]
    assert rows[0][:6] == ["memory.rss", "72", "%", "212", "MiB", "118-131"]
    assert rows[0][-1] == "first"
    assert rows[1][-2:] == ["5s", "later"]
    assert "The first of them left its range 7s before the alarm." in text
    assert "osdctl plot 1 memory.rss cpu.on_cpu" in text


def test_explain_tells_what_changed_and_what_happened_around_it(osdctl):
    text = osdctl("explain", "7").stdout

    assert "System calls that changed most, in 10s against the 50s before:" in text
    (futex,) = (line.split() for line in text.splitlines() if line.startswith("futex"))
    assert futex == ["futex", "101/s", "1/s", "10", "us", "20", "us", "10", "%"]
    assert not any(line.startswith("read ") for line in text.splitlines())  # it goes on as before
    (malloc,) = (line.split() for line in text.splitlines() if line.startswith("libc:malloc"))
    assert malloc[:3] == ["libc:malloc", "7/s", "-"]
    assert "busiest \\x1b]0;owned" in text and "[1234] 97 % of a core" in text and "bio" not in text
    around = text.partition("Around it:\n")[2].splitlines()
    assert "started \\x1b]0;owned" in around[0] and around[0].endswith("31 times, target 2")
    assert around[1].endswith("reloaded the configuration")
    assert {line.split()[1] for line in around[2:4]} == {"#5", "#6"}
    assert "yes|no" not in text


def test_explain_goes_on_where_the_evidence_is_gone(osdctl):
    done = osdctl("explain", "5")

    assert done.returncode == 0
    assert "the evidence of anomaly 5 was thinned out" in done.stdout


def test_plot_draws_a_large_answer_in_its_width(osdctl):
    done = osdctl("plot", "1", "memory.rss", "cpu.on_cpu")

    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert max(map(len, lines)) <= 80
    assert lines[0] == "memory.rss of pid:1234"
    assert any("#7" in line and "expected 118-131 MiB" in line for line in lines)
    assert any(line.strip().startswith("▲") for line in lines)
    row = json.loads(osdctl("plot", "--json=short", "1", "memory.rss").stdout)
    assert len(row["values"]) == len(row["max"]) == 20_011 and row["expected"]["high"] == [7.0, 7.0]


def test_plot_draws_a_picture_and_prints_nothing(osdctl, tmp_path):
    for kind, begin in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        done = osdctl("plot", "1", "memory.rss", f"--{kind}", tmp_path / f"x.{kind}")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / f"x.{kind}").read_bytes().startswith(begin)
    done = osdctl("plot", "1", "memory.rss", "--png", tmp_path / "none/x.png")
    assert done.returncode == 1 and "cannot write" in only_line(done)


def test_top_in_a_pipe_is_as_many_frames_as_asked_for(osdctl):
    done = osdctl("top", "-n", "1")

    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 5
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert osdctl("top").returncode == 2


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("watch", NO_PID), 4, f"no process {NO_PID}"),
        (("watch", "unit:none"), 4, "no unit none.service"),
        (("watch", "user:root"), 4, "uid 1000 may not watch processes of root"),
        (("watch", "user:nobody"), 4, "not allowed for this user"),
        (("watch", "comm:crowd"), 4, "at most 1000"),
        (("watch", "abc"), 2, "no target specification: abc"),
        (("watch", "pid:\x1b[2J"), 2, r"\x1b[2J"),
        (("unwatch", "77"), 4, "no target 77"),
        (("unwatch", "comm:\x1b[2J"), 4, r"no target comm:\x1b[2J"),
        (("show", "comm:x"), 4, "no target comm:x"),
        (("explain", "77"), 4, "no anomaly 77"),
        (("feedback", "77", "no"), 4, "no anomaly 77"),
        (("plot", "1", "nope"), 4, "no metric nope"),
        (("anomalies", "--since", "whenever"), 2, "not a time: whenever"),
        (("nonsense",), 2, "nonsense"),
        ((), 2, "COMMAND"),
        (("run",), 2, "no program"),
    ],
)
def test_an_error_is_one_line_with_its_status(osdctl, words, status, said):
    done = osdctl(*words)

    assert (done.returncode, done.stdout) == (status, "")
    assert said in only_line(done)


NEEDING_A_DAEMON = (
    ("status",), ("list",), ("show", "1"), ("anomalies",), ("log",), ("log", "-f"), ("explain", "7"),
    ("top", "-n", "1"), ("plot", "1", "x"), ("mute", "1", "1h"), ("feedback", "7", "no"), ("watch", "1"),
    ("unwatch", "1"),
    ("run", "--", "touch", "/nonexistent/x"),
)  # fmt: skip


@pytest.mark.parametrize("words", NEEDING_A_DAEMON)
def test_without_a_daemon_the_status_is_3_and_the_line_says_how_to_start_it(alone, words):
    done = alone(*words)

    assert (done.returncode, done.stdout) == (3, "")
    assert only_line(done).startswith("osdctl: the daemon is not running; start it with: ")


@pytest.mark.parametrize("address", ["unix:path=/nonexistent/bus", "nonsense", "unix:path=/dev/null"])
def test_without_a_bus_the_status_is_3(address):
    done = Client(address)("list")

    assert (done.returncode, done.stdout) == (3, "")
    assert "no message bus" in only_line(done)


def test_reading_does_not_start_a_daemon_that_could_be_started(tmp_path):
    services = tmp_path / "services"
    services.mkdir()
    mark = tmp_path / "started"
    (services / "org.osdetector1.service").write_text(
        f"[D-BUS Service]\nName=org.osdetector1\nExec=/usr/bin/touch {mark}\n"
    )
    config = tmp_path / "bus.conf"
    config.write_text(
        f"<busconfig><type>custom</type><listen>unix:path={tmp_path}/bus</listen><auth>EXTERNAL</auth>"
        # the program that is started never takes the name
        "<limit name='service_start_timeout'>500</limit>"
        f"<servicedir>{services}</servicedir><policy context='default'><allow user='*'/><allow own='*'/>"
        "<allow send_destination='*'/><allow eavesdrop='true'/></policy></busconfig>"
    )
    bus = subprocess.Popen(["dbus-daemon", f"--config-file={config}", "--nofork"], stderr=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "bus").exists)
        client = Client(f"unix:path={tmp_path}/bus")
        for words in (("status",), ("list",), ("log", "-f"), ("doctor",)):
            client(*words)
        assert not mark.exists()
        done = client("watch", "1")
        wait_until(mark.exists)
    finally:
        bus.kill()
        bus.wait()
    assert done.returncode == 3
    assert "the daemon is not running" in only_line(done)


def test_the_shipped_policy_lets_strangers_look_and_not_watch():
    with PrivateBus() as bus:
        daemon = FakeDaemon(bus.address)
        try:
            osdctl = Client(bus.address)
            looked = osdctl("list", "-q", user=AS_NOBODY)
            watched = osdctl("watch", "1", user=AS_NOBODY)
        finally:
            daemon.stop()

    assert (looked.returncode, looked.stdout) == (0, "1\n2\n3\n")
    assert watched.returncode == 4
    assert "be root" in only_line(watched)


def test_watch_tells_number_and_specification(osdctl):
    done = osdctl("watch", "comm:x", "comm:y")

    assert (done.returncode, done.stdout) == (0, "4\tcomm:x\n5\tcomm:y\n")
    assert osdctl("watch", "-q", "comm:x").stdout == "4\n"
    assert osdctl("unwatch", "4", "comm:y").stdout == "4\tcomm:x\n5\tcomm:y\n"
    assert osdctl("list", "-q").stdout == "1\n2\n3\n"


def test_watch_hands_its_options_on(osdctl):
    osdctl("watch", "--runtime", "--no-children", "comm:x")

    found = json.loads(osdctl("--json=short", "show", "comm:x").stdout)
    assert (found["persistent"], found["children"]) == (False, False)


def test_one_target_that_cannot_be_watched_does_not_keep_the_others_from_it(osdctl):
    done = osdctl("watch", "unit:none", "comm:x")

    assert (done.returncode, done.stdout) == (4, "4\tcomm:x\n")
    assert "no unit none.service" in only_line(done)


def test_watch_f_ends_with_its_target(osdctl):
    worker = subprocess.Popen(["sleep", "60"])
    follower = osdctl.start("watch", "-f", str(worker.pid))
    assert follower.stdout is not None
    try:
        first = [follower.stdout.readline() for _ in range(2)]
        worker.kill()
        worker.wait()
        rest, said = follower.communicate(timeout=30)
    finally:
        worker.kill()
        follower.kill()

    assert (follower.returncode, said) == (0, "")
    assert first[0] == f"4\tpid:{worker.pid}\n"
    assert "opened" in first[1]
    assert [line.split()[2] for line in rest.splitlines()] == ["closed", "exited"]


@pytest.mark.parametrize("words", [("watch", "-f", "comm:x"), ("log", "-f")])
def test_ctrl_c_ends_what_follows_quietly(osdctl, words):
    follower = osdctl.start(*words)
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    said = follower.communicate(timeout=30)[1]

    assert (follower.returncode, said) == (0, "")


def test_ctrl_c_ends_everything_else_with_130(osdctl):
    waiting = osdctl.start("top", "-n", "1000")
    assert waiting.stdout is not None
    waiting.stdout.readline()
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=30)[1]

    assert (waiting.returncode, said) == (130, "")


def test_log_f_tells_what_comes(osdctl):
    follower = osdctl.start("--json=short", "log", "-f", "-n", "1")
    assert follower.stdout is not None
    old = json.loads(follower.stdout.readline())
    osdctl("watch", "comm:x")
    new = json.loads(follower.stdout.readline())
    follower.kill()
    follower.wait()

    assert (old["event"], old["anomaly"]["id"]) == ("closed", 6)
    assert (new["event"], new["anomaly"]["id"], new["anomaly"]["spec"]) == ("opened", 8, "comm:x")


def test_a_demonstration_prints_what_is_told_of_its_server_and_nothing_from_before(osdctl, monkeypatch):
    monkeypatch.setattr(demos, "UNDER_SYSTEMD", False)
    server = demos.Server(os.getpid(), 0)
    osdctl("watch", server.target)
    command = demos.follower(server)
    follower = osdctl.start("--json=short", *command[command.index("log") :])
    assert follower.stdout is not None
    while not select.select([follower.stdout], [], [], 0)[0]:
        osdctl("watch", "comm:x")
        osdctl("watch", server.target)
    first = json.loads(follower.stdout.readline())["anomaly"]
    follower.kill()
    follower.wait()

    assert first["id"] > 8
    assert first["spec"] == server.target


def test_a_forged_signal_is_not_believed(osdctl, open_bus):
    follower = osdctl.start("--json=short", "log", "-f", "-n", "1")
    assert follower.stdout is not None
    follower.stdout.readline()
    names = open_bus.busctl("list", "--acquired").stdout + open_bus.busctl("list", "--unique").stdout
    ours = [row["name"] for part in names.splitlines() for row in json.loads(part) if row["pid"] == follower.pid]
    for _ in range(3):
        sent = open_bus.busctl(
            "emit", f"--destination={ours[0]}", "/org/osdetector1", "org.osdetector1.Manager", "TargetExited",
            "oa{sv}", "/org/osdetector1/target/1", "1", "Pid", "u", "31337",
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
    osdctl("watch", "comm:x")
    first = json.loads(follower.stdout.readline())
    follower.kill()
    follower.wait()

    assert first["event"] == "opened"


def test_log_f_outlives_the_daemon(open_bus):
    osdctl, daemon = Client(open_bus.address), FakeDaemon(open_bus.address)
    follower = osdctl.start("log", "-f")
    assert follower.stdout is not None
    assert follower.stderr is not None
    follower.stdout.readline()
    daemon.stop()
    gone = follower.stderr.readline()
    daemon = FakeDaemon(open_bus.address)
    back = follower.stderr.readline()
    follower.kill()
    follower.wait()
    daemon.stop()

    assert gone == "osdctl: the daemon stopped; waiting for it to come back\n"
    assert back == "osdctl: the daemon is back\n"


@pytest.mark.parametrize(
    ("command", "status"), [("exit 7", 7), ("true", 0), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_run_ends_as_the_program_does(osdctl, command, status):
    done = osdctl("run", "-q", "--", "sh", "-c", command)

    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_run_leaves_standard_output_to_the_program_and_sums_up(osdctl):
    done = osdctl("run", "--", "sh", "-c", "echo 997; sleep 0.3; exit 3")

    assert (done.returncode, done.stdout) == (3, "997\n")
    assert "exited with status 3" in done.stderr
    assert "1 anomaly" in done.stderr
    assert osdctl("list", "-q").stdout == "1\n2\n3\n"


def test_run_watches_before_the_first_instruction(osdctl, tmp_path):
    mark = tmp_path / "mark"
    done = osdctl("run", "-q", "--", "sh", "-c", f"{sys.executable} -m osdctl list -q >{mark}")

    assert done.returncode == 0
    assert mark.read_text() == "1\n2\n3\n4\n"


@pytest.mark.parametrize(("program", "status"), [("/nonexistent/program", 127), ("/etc/passwd", 126)])
def test_run_of_what_cannot_be_run_has_a_shells_status(osdctl, program, status):
    done = osdctl("run", "--", program)

    assert done.returncode == status
    assert f"cannot run {program}" in only_line(done)


def test_run_without_a_daemon_does_not_start_the_program(alone, tmp_path):
    done = alone("run", "--", "touch", str(tmp_path / "mark"))

    assert done.returncode == 3
    assert not (tmp_path / "mark").exists()


def test_run_hands_sigterm_on(osdctl):
    running = osdctl.start("run", "--", "sh", "-c", "trap 'exit 11' TERM; echo up; while :; do sleep 0.05; done")
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)

    assert running.returncode == 11


def test_mute_and_feedback_tell_what_is_now(osdctl):
    assert osdctl("mute", "1", "2h").stdout == "1\tpid:1234\tmuted until 2026-11-22 16:02:11\n"
    assert osdctl("mute", "1", "9999d").stdout.startswith("1\tpid:1234\tmuted until 2")
    assert osdctl("list").stdout.splitlines()[1].split()[:3] == ["1", "anomalous,", "muted"]
    assert "1 anomalous, 1 learning, 1 normal), 1 muted" in osdctl("status").stdout
    assert osdctl("mute", "pid:1234", "off").stdout == "1\tpid:1234\tno longer muted\n"
    assert osdctl("feedback", "7", "no").stdout == "7\tuseful: no\n"
    assert osdctl("feedback", "#7", "yes").stdout == "7\tuseful: yes\n"
    assert osdctl("anomalies").stdout.splitlines()[1].split().count("yes") == 1
    assert osdctl("feedback", "7", "undo").stdout == "7\tuseful: nothing said\n"
    assert "yes" not in osdctl("anomalies").stdout


def test_doctor_with_a_daemon_tells_its_hooks_detectors_and_losses(osdctl):
    rows = {row["name"]: row for row in map(json.loads, osdctl("--json=short", "doctor").stdout.splitlines())}

    assert rows["daemon"]["state"] == "ok"
    assert rows["hook cpu"]["state"] == "ok"
    assert rows["hook network"]["state"] == "warn"
    assert (rows["hook packets"]["state"], rows["hook packets"]["said"]) == ("ok", "off in the configuration")
    assert rows["detector lstm"]["said"] == "absent: no torch"
    assert rows["losses"]["said"].startswith("13 ring")
    assert "kernel.bpf_stats_enabled=1" in rows["cost"]["todo"]
    assert rows["python3-bpfcc"]["state"] == "ok"


def test_doctor_without_a_bus_still_tells_and_fails():
    done = Client("unix:path=/nonexistent/bus")("doctor")

    assert done.returncode == 1
    assert done.stderr == ""
    assert any(line.startswith("fail  message bus") for line in done.stdout.splitlines())
    assert any(line.startswith("ok    kernel types") for line in done.stdout.splitlines())


def test_a_reader_that_leaves_is_no_error(osdctl):
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(OSDCTL)} plot --json=pretty 1 memory.rss | head -n 1; echo ${{PIPESTATUS[0]}}"],
        env=osdctl.environ, cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stdout == "[\n141\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [(">/dev/full", 1, "osdctl: cannot write: no space left on device\n"), (">&-", 0, ""), ("<&- 2>&-", 0, "")],
)
def test_an_output_that_takes_nothing_is_no_crash(osdctl, redirection, status, said):
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(OSDCTL)} list {redirection}"],
        env=osdctl.environ, cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (status, said)


def test_on_a_terminal_tables_have_colour_and_fit(osdctl):
    seen, status = osdctl.on_terminal("--no-pager", "list")

    assert status == 0
    assert "\x1b[1;31manomalous" in seen
    assert "\x1b]0;owned" not in seen
    plain, _ = osdctl.on_terminal("--no-pager", "list", NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80


def test_on_a_terminal_output_goes_through_the_pager(osdctl):
    assert "<<ID" in osdctl.on_terminal("list", SYSTEMD_PAGER="sed s/^/<</", NO_COLOR="1")[0]
    assert "<<ID" not in osdctl.on_terminal("list", "--no-pager", SYSTEMD_PAGER="sed s/^/<</", NO_COLOR="1")[0]
    assert "ID" in osdctl.on_terminal("list", SYSTEMD_PAGER="/nonexistent/pager", NO_COLOR="1")[0]


def test_top_gives_the_terminal_back(osdctl):
    seen, status = osdctl.on_terminal("top", keys="q", until="enter open")

    assert status == 0
    assert "\x1b[?1049h" in seen
    assert seen.endswith("\x1b[?25h\x1b[?1049l")
    assert "Traceback" not in seen


COMPLETED = [
    (("show", ""), {"1", "2", "3"}),
    (("explain", ""), {"5", "6", "7"}),
    (("plot", "1", "mem"), {"memory.rss"}),
    (("wat",), {"watch"}),
    (("--json", "p"), {"pretty"}),
    (("watch", "--r"), {"--runtime"}),
    (("-H", "x", "feedback", "7", ""), {"yes", "no", "undo"}),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The directory with the completions that the build of the packages writes."""
    directory = tmp_path_factory.mktemp("completion")
    subprocess.run([ROOT / "packaging/completions.py", directory], check=True)
    return directory


@pytest.mark.parametrize(("words", "offered"), COMPLETED)
def test_fish_completes_commands_options_and_what_is_there_now(osdctl, written, tmp_path, words, offered):
    (tmp_path / "osdctl").write_text(f'#!/bin/sh\nexec {" ".join(OSDCTL)} "$@"\n')
    (tmp_path / "osdctl").chmod(0o755)
    done = subprocess.run(
        [
            "fish",
            "--no-config",
            "-c",
            f"source {written}/osdctl.fish; complete -C $argv",
            shlex.join(("osdctl", *words[:-1])) + " " + words[-1],
        ],
        env={**osdctl.environ, "PATH": f"{tmp_path}:{osdctl.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered, done.stderr


@pytest.mark.parametrize(("words", "offered"), COMPLETED)
def test_bash_completes_commands_options_and_what_is_there_now(osdctl, tmp_path, words, offered):
    (tmp_path / "osdctl").write_text(f'#!/bin/sh\nexec {" ".join(OSDCTL)} "$@"\n')
    (tmp_path / "osdctl").chmod(0o755)
    script = (
        "source /usr/share/bash-completion/bash_completion; source " + str(ROOT / "osdctl/completion/osdctl.bash") + ";"
        'COMP_WORDS=(osdctl "$@"); COMP_CWORD=$#; COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE};'
        '_osdctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env={**osdctl.environ, "PATH": f"{tmp_path}:{osdctl.environ['PATH']}"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert set(done.stdout.split()) == offered, done.stderr


def test_the_daemons_own_bus_server_is_understood(served, core, bus):
    osdctl = Client(bus.address)

    assert osdctl("list", "-q").stdout == "1\n"
    assert osdctl("anomalies", "-q").stdout == "3\n2\n1\n"
    for words in (
        ("status",),
        ("show", "1"),
        ("log",),
        ("explain", "3"),
        ("plot", "1", "cpu.on_cpu"),
        ("top", "-n", "1"),
    ):
        done = osdctl(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout
        assert "\x1b" not in done.stdout
    assert osdctl("feedback", "3", "no").stdout == "3\tuseful: no\n"
    assert osdctl("feedback", "3", "undo").stdout == "3\tuseful: nothing said\n"
    assert osdctl("unwatch", "1").stdout == "1\tpid:1009\n"
    assert only_line(osdctl("explain", "4")) == "osdctl: no anomaly 4; osdctl anomalies lists them"
    done = osdctl("watch", NO_PID)
    assert (done.returncode, only_line(done)) == (4, f"osdctl: no process {NO_PID}")


def test_another_host_is_asked_through_ssh(osdctl, tmp_path):
    (tmp_path / "osdctl").write_text(f'#!/bin/sh\nexec {" ".join(OSDCTL)} "$@"\n')
    (tmp_path / "ssh").write_text('#!/bin/sh\n[ "$2" = db1 ] || exit 255\nexec sh -c "$3"\n')
    for name in ("osdctl", "ssh"):
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{osdctl.environ['PATH']}"

    assert osdctl("-H", "db1", "list", "-q", PATH=path).stdout == "1\n2\n3\n"
    assert osdctl("show", "comm:a b;exit 9", "--host=db1", PATH=path).returncode == 4
    assert osdctl("-H", "elsewhere", "list", PATH=path).returncode == 1


def test_the_configuration_is_checked_by_the_daemons_own_program(alone, tmp_path):
    assert alone("config", "check", str(tmp_path)).returncode == 0
    (tmp_path / "osdetectord.yml").write_text("nonsense: 3\n")
    done = alone("config", "check", str(tmp_path))

    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_latency_is_a_histogram_of_eighty_columns(osdctl):
    done = osdctl("latency", "1")

    assert (done.returncode, done.stderr) == (0, "")
    head, quantiles, *bars = done.stdout.splitlines()
    assert head == "waits for a CPU: 1110"
    assert quantiles == "half within 6.1 us, 99 % within 9.9 us, longest more than 8 s"
    assert [bar.split()[-2:][0] for bar in bars[:1]] == ["3"]
    assert len(bars) == 24
    assert max(bars, key=len) == bars[3] and len(bars[3]) <= 80
    assert bars[3].endswith("#" * 40) and "997" in bars[3]
    # however few they are
    assert bars[-1].split()[-3:] == ["more", "2", "#"]
    assert not bars[1].endswith("#")


def test_latency_of_what_never_happened_is_none(osdctl):
    lines = osdctl("latency", "1", "block").stdout.splitlines()

    assert lines[0] == "reads from block devices: none"
    assert "writes to block devices: 1110" in lines


def test_latency_for_programs_has_its_buckets(osdctl):
    wait = json.loads(osdctl("--json=short", "latency", "1").stdout)["wait"]

    assert (wait["count"], wait["p50_s"], wait["longest_s"]) == (1110, 6.1e-6, None)
    assert wait["buckets"][2] == {"from_s": 4 * 1.024e-6, "to_s": 8 * 1.024e-6, "count": 101}
    assert wait["buckets"][-1]["to_s"] is None


def test_syscalls_tell_count_time_and_errors_by_name(osdctl):
    done = osdctl("syscalls", "1")
    rows = [line.split() for line in done.stdout.splitlines()]

    assert done.returncode == 0
    assert rows[0] == ["CALL", "COUNT", "TOTAL", "MEAN", "LONGEST", "ERRORS"]
    assert rows[1] == ["futex", "1234567", "7.5", "s", "6.08", "us", "250", "ms"]
    assert done.stdout.splitlines()[2].endswith("400 EBADF, 98 EINTR, 1 4711")
    one = [json.loads(line) for line in osdctl("--json=short", "syscalls", "1", "-n", "1").stdout.splitlines()]
    assert [row["name"] for row in one] == ["futex"]


def test_threads_are_shown_only_when_asked_for(osdctl):
    assert "TID" not in osdctl("show", "1").stdout
    shown = osdctl("show", "1", "--threads", "-n", "2").stdout
    rows = [line.split() for line in shown.splitlines()]

    at = next(index for index, row in enumerate(rows) if "TID" in row)
    assert rows[at + 1] == ["1234", "1240", "R", "97", "%", "7.5", "s", "101", "103", "redis-server"]
    assert rows[at + 2][1] == "1241" and rows[at + 3] == []
    assert "\x1b" not in shown
    found = json.loads(osdctl("--json=short", "show", "1", "-T").stdout)
    assert [thread["tid"] for thread in found["threads"]] == [1240, 1241, 1242]
