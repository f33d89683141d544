"""Programs that do what they are told, one order at a time, and say when it is done."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
PROBED = HERE / "probed.c"


class Obedient:
    """A running one; it says "ready" first."""

    def __init__(self, *command: str | Path) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = self.process.pid
        self.hears("ready")

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def hears(self, word: str) -> None:
        assert self.answer() == word

    def write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def tell(self, order: str) -> None:
        self.write(f"{order}\n")

    def do(self, order: str) -> str:
        """Give an order, and return its answer."""
        self.tell(order)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Scripted(Obedient):
    """A program beside this file, in Python without what slows its start; behind a ``prefix`` of its command."""

    def __init__(self, script: str, *prefix: str) -> None:
        super().__init__(*prefix, "/usr/bin/python3", "-S", HERE / script)


class Workload(Scripted):
    """See workload.py."""

    def __init__(self, *prefix: str) -> None:
        super().__init__("workload.py", *prefix)


class Probed(Obedient):
    """The program of probed.c, or one like it; its orders are single letters."""

    def __init__(self, *command: str | Path) -> None:
        self.path = Path(command[0])
        super().__init__(*command)

    def tell(self, order: str) -> None:
        self.write(order)

    def work(self) -> None:
        self.tell("w")
        self.hears("done")

    def is_probed(self, symbol: str = "search") -> bool:
        """Whether there is a breakpoint at the function in the process's memory."""
        table = subprocess.run(["nm", self.path], capture_output=True, text=True, check=True).stdout
        address = next(int(line.split()[0], 16) for line in table.splitlines() if line.split()[-1] == symbol)
        begin = int(Path(f"/proc/{self.pid}/maps").read_text().split("-")[0], 16)
        with open(f"/proc/{self.pid}/mem", "rb") as memory:
            memory.seek(begin + address)
            return memory.read(1) == b"\xcc"
