"""``python3 -m osdetectord`` as a test has it: on a bus of its own, steered by the real osdctl."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from private_bus import wait_until

ROOT = Path(__file__).parents[2]


class Daemon:
    """``python3 -m osdetectord`` on a bus of its own, and ``osdctl`` for it."""

    def __init__(self, directory, bus):
        self.config, self.state = directory / "etc", directory / "state"
        self.config.mkdir()
        (self.config / "detectors.yml").write_text("warmup_s: 60\n")
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
