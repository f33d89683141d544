"""A machine of its own for a test: the real systemd as PID 1, its bus and its journal, over this root."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MANAGER = ("org.osdetector1", "/org/osdetector1", "org.osdetector1.Manager")

T = TypeVar("T")


class Box:
    """A running box; every command is run inside it as root.

    Parameters
    ----------
    name
        Distinguishes boxes that run at the same time.
    """

    def __init__(self, name: str) -> None:
        self.name = f"{name}-{os.getpid()}"
        self._environment = {**os.environ, "SDBOX": self.name}

    def up(self, *options: str) -> None:
        """Boot; ``options`` are systemd-nspawn's."""
        done = self._sdbox("up", *options, timeout_s=150)
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        """Power off and leave nothing."""
        done = self._sdbox("down", timeout_s=60)
        assert done.returncode == 0, done.stdout + done.stderr

    def try_run(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside, whatever becomes of it."""
        return self._sdbox("run", *command, timeout_s=timeout_s)

    def run(self, *command: str, timeout_s: float = 60) -> str:
        """Run a command inside that must succeed; return what it wrote."""
        done = self.try_run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1"', "sh", path, text)

    def read(self, path: str) -> str:
        """Read a file inside."""
        return self.run("cat", path)

    def exists(self, path: str) -> bool:
        """Return whether there is such a path inside, be it a broken link."""
        return self.try_run("sh", "-c", 'test -e "$1" || test -L "$1"', "sh", path).returncode == 0

    def unit(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def main_pid(self, unit: str) -> int:
        """Return the main process of a unit as the box numbers it, 0 where there is none."""
        return int(self.unit(unit, "MainPID"))

    def records(self, *match: str) -> list[dict[str, Any]]:
        """Return the journal's records that match, oldest first."""
        out = self.run("journalctl", "--sync", "--quiet") + self.run(
            "journalctl", "--quiet", "--no-pager", "--output=json", *match
        )
        return [json.loads(line) for line in out.splitlines()]

    def osdctl_json(self, *words: str) -> Any:
        """Return what a command of osdctl says, as JSON."""
        return json.loads(self.run("osdctl", "--json=pretty", *words))

    def _sdbox(self, *words: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HERE / "sdbox", *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def until(what: str, look: Callable[[], T], timeout_s: float = 30, every_s: float = 0.2) -> T:
    """Return the first true thing that ``look`` sees; fail, naming ``what``, when it takes too long."""
    end = time.monotonic() + timeout_s
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(every_s)
