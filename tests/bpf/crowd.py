"""Many processes of many threads each, and what the machine must allow for them; see crowd.c."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("crowd.c")


def room_for_threads() -> dict[str, int]:
    """How many threads there may be, by the limit that says so, less those that there are."""
    here = sum(len(list(tasks.iterdir())) for tasks in Path("/proc").glob("[0-9]*/task") if tasks.exists())
    limits = {name: Path("/proc/sys/kernel", name) for name in ("threads-max", "pid_max")}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "pids"):
            base = Path("/sys/fs/cgroup", controllers)
            for parent in (base / group[1:], *(base / group[1:]).parents):
                if parent.is_relative_to(base):
                    limits[f"pids.max of {parent}"] = parent / "pids.max"
    texts = {name: path.read_text().strip() for name, path in limits.items() if path.exists()}
    return {name: int(text) - here for name, text in texts.items() if text != "max"}


class Crowd:
    """So many processes with so many threads each, children of ``pid``."""

    def __init__(self, program: Path, processes: int, threads: int) -> None:
        self.process = subprocess.Popen(
            [program, str(processes), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self.process.pid
        self.threads = self.answer()

    @staticmethod
    def build(directory: Path) -> Path:
        """Compile the program."""
        program = directory / "crowd"
        subprocess.run(["gcc", "-O2", "-pthread", "-o", program, SOURCE], check=True)
        return program

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline() or -1)

    def do(self, order: str) -> int:
        """Give an order, and return the number that answers it."""
        self.tell(order)
        return self.answer()

    def end(self) -> None:
        """Let everybody end."""
        if self.process.poll() is None:
            self.do("end")
        self.process.communicate()
