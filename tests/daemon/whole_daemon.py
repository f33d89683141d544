"""``python3 -m osdetectord`` as a test has it: on a bus of its own, steered by the real osdctl."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from private_bus import PrivateBus, wait_until

ROOT = Path(__file__).parents[2]
# calls and sleeps ten times a second; spins while the file is there
WORK = """
import os, sys, time
while True:
    while os.path.exists(sys.argv[1]):
        pass
    for _ in range(20):
        os.getppid()
    time.sleep(0.1)
"""


class Daemon:
    """``python3 -m osdetectord`` on a bus of its own, and ``osdctl`` for it."""

    def __init__(self, directory, bus):
        self.config, self.state = directory / "etc", directory / "state"
        self.config.mkdir()
        # the shortest warm-up that the configuration allows: a test waits for it in earnest
        (self.config / "detectors.yml").write_text("warmup_s: 30\n")
        self.log = directory / "log"
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address, "PYTHONPATH": str(ROOT)}
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "osdetectord", "--config", self.config, "--state", self.state]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        wait_until(lambda: self.osdctl("status").returncode == 0, 30)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0, self.said()

    def osdctl(self, *words):
        command = [sys.executable, "-m", "osdctl", *map(str, words)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30, check=False)

    def ask(self, *words):
        """Return the objects that osdctl shows, one a line."""
        done = self.osdctl("--json=short", *words)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def objects(self):
        """Return kind and number of each target, probe, trace and allocations; one call, as it is made often."""
        where = ["org.osdetector1", "/org/osdetector1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"]
        command = ["busctl", f"--address={self.environment['DBUS_SYSTEM_BUS_ADDRESS']}", "--json=short", "call", *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        paths = [path.split("/") for path in json.loads(done.stdout)["data"][0]]
        return [(path[-2], path[-1]) for path in paths if path[-2] in ("target", "probe", "trace", "allocations")]

    def targets(self):
        return [target["spec"] for target in self.ask("list")]

    def worker_state(self):
        return self.ask("status")[0]["worker"]

    def said(self):
        return self.log.read_text()

    def waits_to_say(self, pattern, timeout_s=30):
        wait_until(lambda: re.search(pattern, self.said()), timeout_s)
        return re.search(pattern, self.said())

    def worker(self):
        children = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "osdetectord.worker"], capture_output=True
        )
        return int(children.stdout.split()[0])


@contextmanager
def running(directory, **settings):
    """Run one, whose files are in the directory, until the end of the block, if it does not end before."""
    with PrivateBus() as bus:
        daemon = Daemon(directory, bus)
        (daemon.config / "osdetectord.yml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
        daemon.start()
        yield daemon
        if daemon.process.poll() is None:
            daemon.stop()


class Work:
    """A process with a little to do, which spins for as long as the file ``spin`` is there."""

    def __init__(self, spin):
        self.spin = spin
        self._process = subprocess.Popen([sys.executable, "-c", WORK, str(spin)])
        self.pid = self._process.pid

    def end(self):
        self._process.kill()
        self._process.wait()
