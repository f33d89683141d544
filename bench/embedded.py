"""The daemon of this checkout on a message bus of its own, for benchmarks that need the whole of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={directory}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>
"""


class Embedded:
    """A running daemon, and ``osdctl`` for it."""

    def __init__(self, environment: dict[str, str], process: subprocess.Popen[bytes], ready_s: float) -> None:
        self._environment = environment
        self.process = process
        self.ready_s = ready_s
        """Seconds from its start until it said READY."""

    def osdctl(self, *words: object) -> str:
        """Run osdctl; a failure ends the benchmark."""
        command = [sys.executable, "-m", "osdctl", *map(str, words)]
        return subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    def status(self) -> Any:
        """Return ``osdctl status`` as an object."""
        return json.loads(self.osdctl("--json=short", "status"))

    def worker_pid(self) -> int:
        """Return the pid of the detector."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "osdetectord.worker"], stdout=subprocess.PIPE, check=True
        )
        return int(found.stdout.split()[0])

    @property
    def address(self) -> str:
        """Return the address of its bus."""
        return self._environment["DBUS_SYSTEM_BUS_ADDRESS"]


@contextmanager
def daemon(**settings: object) -> Iterator[Embedded]:
    """Run bus and daemon until the end of the block; ``settings`` go to ``osdetectord.yml``."""
    with tempfile.TemporaryDirectory(prefix="osdetectord-bench-") as name:
        directory = Path(name)
        (directory / "etc").mkdir()
        (directory / "etc" / "osdetectord.yml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()))
        (directory / "bus.conf").write_text(_BUS.format(directory=directory))
        bus = subprocess.Popen(["dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork", "--nopidfile"])
        while not (directory / "bus").exists():
            time.sleep(0.01)
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/bus", "PYTHONPATH": str(ROOT)}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        began_s = time.monotonic()
        with (directory / "log").open("wb") as log:
            command = [
                sys.executable,
                "-m",
                "osdetectord",
                "--config",
                directory / "etc",
                "--state",
                directory / "state",
            ]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            while b"ready:" not in (directory / "log").read_bytes():
                if process.poll() is not None:
                    raise SystemExit((directory / "log").read_text())
                time.sleep(0.005)
            yield Embedded(environment, process, time.monotonic() - began_s)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            bus.terminate()
            bus.wait()


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)
