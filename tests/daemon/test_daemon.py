"""The whole daemon on this kernel, a private bus and its own detector, steered by the real osdctl."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from private_bus import wait_until

from tests.daemon.whole_daemon import Work

ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(tmp_path):
    work = Work(tmp_path / "spin")
    yield work
    work.end()


def test_what_cannot_be_watched_is_refused_in_one_line_and_nothing_is_lost(daemon):
    zombie = subprocess.Popen(["/bin/true"])
    time.sleep(0.2)
    cases = {
        "999999": "no process 999999",
        "2": "thread of the kernel",
        str(zombie.pid): f"process {zombie.pid} (true) has ended",
        "unit:none": "none.service",
        "user:nosuchuser": "no user 'nosuchuser'",
    }
    for spec, said in cases.items():
        done = daemon.osdctl("watch", spec)
        assert done.returncode == 4, (spec, done)
        assert said in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
    assert daemon.osdctl("watch", "abc").returncode == 2
    assert daemon.ask("list") == []
    assert "Traceback" not in daemon.said()
    zombie.wait()


def test_a_process_that_ends_is_told_and_its_target_goes(daemon):
    child = subprocess.Popen(["/bin/sleep", "60"])
    daemon.ask("watch", child.pid)
    assert daemon.targets() == [f"pid:{child.pid}"]
    child.kill()
    child.wait()
    daemon.waits_to_say(rf"sleep\[{child.pid}\] of pid:{child.pid} killed by signal 9")
    wait_until(lambda: daemon.ask("list") == [], 10)


def test_after_kill_9_the_watches_are_back_and_the_blind_time_is_told(own_daemon, work):
    daemon = own_daemon
    daemon.ask("watch", work.pid)
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    assert daemon.osdctl("list").returncode == 3
    daemon.start()
    assert daemon.waits_to_say(rf"watching pid:{work.pid} again; was blind for \d+\.\d s")
    assert daemon.targets() == [f"pid:{work.pid}"]


def test_a_targets_number_is_never_given_again(own_daemon, work):
    daemon = own_daemon
    daemon.ask("watch", "--runtime", work.pid)
    assert [target["id"] for target in daemon.ask("list")] == [1]
    daemon.ask("unwatch", 1)
    daemon.stop()
    daemon.start()
    daemon.ask("watch", work.pid)
    assert [target["id"] for target in daemon.ask("list")] == [2]


def test_a_killed_detector_is_told_and_replaced_while_collection_goes_on(own_daemon, work):
    daemon = own_daemon
    daemon.ask("watch", work.pid)
    wait_until(lambda: daemon.worker_state() == "connected", 20)
    old = daemon.worker()
    os.kill(old, signal.SIGKILL)
    daemon.waits_to_say(r"the detector is lost \(detector killed by SIGKILL\)")
    wait_until(lambda: daemon.worker_state() == "connected", 20)
    assert daemon.worker() != old and daemon.targets() == [f"pid:{work.pid}"]


def test_a_wrong_configuration_is_refused_by_its_line_and_the_old_one_stays(own_daemon):
    daemon = own_daemon
    (daemon.config / "osdetectord.yml").write_text("# one\ninterval_s: fast\n")
    call = ["busctl", f"--address={daemon.environment['DBUS_SYSTEM_BUS_ADDRESS']}", "call"]
    where = ["org.osdetector1", "/org/osdetector1", "org.osdetector1.Manager", "Reload"]
    done = subprocess.run([*call, *where], capture_output=True, text=True, check=False)
    wrong = "osdetectord.yml:2: interval_s is 'fast', expected a number from 0.1 to 3600"
    assert done.returncode == 1 and wrong in done.stderr
    daemon.waits_to_say(f"configuration refused, the old one stays in force: .*{re.escape(wrong)}")
    (daemon.config / "osdetectord.yml").write_text("interval_s: 0.5\n")
    assert subprocess.run([*call, *where], check=False).returncode == 0
    daemon.waits_to_say("configuration reloaded")


def test_samples_are_recorded_where_the_configuration_says_so(own_daemon, work, tmp_path):
    daemon = own_daemon
    (daemon.config / "osdetectord.yml").write_text("csv: yes\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.waits_to_say("configuration reloaded")
    assert daemon.osdctl("watch", work.pid).returncode == 0
    wait_until(lambda: list(daemon.state.glob("csv/*.csv")), 60)
    daemon.stop()
    (path,) = daemon.state.glob("csv/*.csv")
    done = daemon.osdctl("detect", "-o", tmp_path / "out", path)
    header, *rows = path.read_text().splitlines()
    judged = (tmp_path / "out" / path.name).read_text().splitlines()

    assert re.fullmatch(rf"python3-{work.pid}-\d{{8}}T\d{{6}}Z", path.stem)
    assert header.startswith("t,")
    assert len(rows) >= 5
    assert done.returncode == 0, done.stderr
    assert len(judged) == len(rows) + 1


def test_what_the_daemon_needs_and_lacks_is_one_clear_sentence(tmp_path):
    def start(*words, **variables):
        command = [sys.executable, "-m", "osdetectord", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    etc = tmp_path / "etc"
    etc.mkdir()
    nobus = start("--config", str(etc), DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={tmp_path}/none")
    assert nobus.returncode == 1 and "bus" in nobus.stderr.splitlines()[-1] and "Traceback" not in nobus.stderr
    noconfig = start("--config", str(tmp_path / "gone"))
    assert noconfig.returncode == 78 and "no such directory" in noconfig.stderr
    assert start("--nonsense").returncode == 2


def test_a_command_that_starts_later_is_watched_from_its_start(daemon, tmp_path):
    name = f"osd{os.getpid() % 100000}late"
    program = tmp_path / name
    shutil.copy("/bin/sleep", program)
    daemon.ask("watch", f"comm:{name}")
    assert daemon.ask("list")[0]["state"] == "waiting"
    child = subprocess.Popen([program, "60"])
    wait_until(lambda: daemon.ask("list")[0]["state"] == "learning", 4)
    assert [process["pid"] for process in daemon.ask("list")[0]["processes"]] == [child.pid]
    child.kill()
    child.wait()
    wait_until(lambda: daemon.ask("list")[0]["state"] == "waiting", 4)
