"""The child process that compiles, loads and attaches the BPF programs, hands their descriptors over, and ends.

It alone imports BCC: what LLVM needs of memory ends with it.  Run as ``python3 -m osdetectord.bpf.loader FD``
with a plan (JSON) on its input; the answer goes to the socket FD, descriptors with it (SCM_RIGHTS).
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osdetectord.bpf import syscall, uprobe
from osdetectord.bpf.btf import Btf
from osdetectord.bpf.headers import write_tree
from osdetectord.errors import LoadError

MESSAGE_LINES = 6


def captured() -> str:
    """What BCC and LLVM wrote to the standard error, which the daemon has made a file."""
    with os.fdopen(os.dup(2), "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")


def reason(text: str) -> str:
    """The first lines of a compiler's or verifier's text that tell the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\berror\b|could not|not permitted|denied|invalid", line)]
    return "; ".join((telling or lines)[:MESSAGE_LINES])


class Loader:
    """One compilation of all sources, and what of it could be loaded and attached."""

    def __init__(self, plan: dict[str, Any]) -> None:
        tree = Path(plan["tree"])
        write_tree(tree, Btf.of_kernel())
        # read by BCC when it is asked to compile
        os.environ["BCC_KERNEL_SOURCE"] = str(tree)
        try:
            from bcc import BPF
        except ImportError as error:
            raise LoadError(f"BCC's Python module is missing ({error}): install python3-bpfcc") from None
        self._types = {
            "raw_tracepoint": BPF.RAW_TRACEPOINT,
            "tracepoint": BPF.TRACEPOINT,
            "uprobe": BPF.KPROBE,
        }
        self._loaded: dict[str, int] = {}
        text = "".join(Path(source).read_text() for source in plan["sources"])
        defines = [f"-D{name}={value}" for name, value in plan["defines"].items()]
        try:
            self._bpf = BPF(text=text, cflags=[*defines, "-Wno-macro-redefined"])
        except Exception as error:  # noqa: BLE001 - BCC raises nothing more special
            told = captured()
            if "could not open bpf map" in told:
                raise LoadError(f"the kernel refused a table: {reason(told)}") from None
            raise LoadError(f"the BPF sources do not compile: {reason(told) or error}") from None

    def table(self, name: str) -> int:
        """Descriptor of a table."""
        return int(self._bpf[name].map_fd)

    def program(self, name: str, kind: str = "raw_tracepoint") -> int:
        """Load a program; raises LoadError with the kernel's reason."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name, kind)
        return self._loaded[name]

    def _load(self, name: str, kind: str, attach_type: int = -1) -> int:
        before = len(captured())
        # BCC remembers what it loaded, as whatever type that was
        self._bpf.funcs.pop(name.encode(), None)
        try:
            return int(self._bpf.load_func(name.encode(), self._types[kind], attach_type=attach_type).fd)
        except Exception as error:  # noqa: BLE001 - BCC raises nothing more special
            told = captured()[before:]
            raise LoadError(f"program {name}: {str(error).rsplit(': ', 1)[-1]} {reason(told)}".strip()) from None

    def uprobes(self, names: Sequence[str], ways: Sequence[str]) -> tuple[str, str, dict[str, int]]:
        """Load programs of user functions for the first way of attaching that works: it, why no other, programs."""
        why: list[str] = []
        for way in ways:
            try:
                programs = {name: self._load(name, "uprobe", uprobe.ATTACH_TYPE[way]) for name in names}
            except LoadError as error:
                why.append(f"{way}: {error}")
                continue
            refusal = uprobe.refusal(way, programs[names[0]])
            if not refusal:
                return way, "; ".join(why), programs
            why.append(f"{way}: {refusal}")
            syscall.close_all(list(programs.values()))
        return "", "; ".join(why), {}

    def attach(self, program: str, kind: str, event: str) -> int:
        """Load and attach; returns the descriptor that holds it.  Raises LoadError."""
        fd = self.program(program, kind)
        try:
            if kind == "raw_tracepoint":
                return syscall.open_raw_tracepoint(fd, event)
            return self._attach_tracepoint(fd, event)
        except OSError as error:
            what = "no such event" if error.errno == errno.ENOENT else (error.strerror or str(error)).lower()
            raise LoadError(f"{event}: {what}") from None

    def _attach_tracepoint(self, fd: int, event: str) -> int:
        from bcc import lib

        category, _, name = event.partition(":")
        link = int(lib.bpf_attach_tracepoint(fd, category.encode(), name.encode()))
        if link < 0:
            raise OSError(-link, os.strerror(-link) if link < -1 else "not permitted, or no tracefs")
        return link

    def serve(self, hooks: Sequence[dict[str, Any]]) -> tuple[int, str, list[int]]:
        """Try hooks, best first: position of the one that serves (-1), why no better one does, descriptors."""
        why: list[str] = []
        for rank, hook in enumerate(hooks):
            links: list[int] = []
            try:
                for program, kind, event in hook["attachments"]:
                    links.append(self.attach(program, kind, event))
            except LoadError as error:
                syscall.close_all(links)
                why.append(f"{hook['name']}: {error}")
                continue
            return rank, "; ".join(why), links
        return -1, "; ".join(why), []


def load(plan: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Do what the plan says; returns the answer and the descriptors that it names by position."""
    loader = Loader(plan)
    descriptors: list[int] = []

    def passed(fd: int) -> int:
        descriptors.append(fd)
        return len(descriptors) - 1

    answer: dict[str, Any] = {
        "maps": {name: passed(loader.table(name)) for name in plan["maps"]},
        "programs": {name: passed(loader.program(name)) for name in plan["programs"]},
        "hooks": {},
        "links": [],
    }
    for collector, hooks in plan["chains"].items():
        rank, why, links = loader.serve(hooks)
        answer["hooks"][collector] = [rank, why]
        answer["links"] += [passed(fd) for fd in links]
    way, why_not, uprobes = loader.uprobes(plan["uprobes"], plan["uprobe_ways"])
    answer["uprobes"] = {"way": way, "why": why_not, "programs": {name: passed(fd) for name, fd in uprobes.items()}}
    # the programs that are attached too, for their own run time
    answer["attached"] = {name: passed(fd) for name, fd in loader._loaded.items() if name not in answer["programs"]}
    return answer, descriptors


def main(arguments: Sequence[str]) -> int:
    """Read the plan, answer, end."""
    with socket.socket(fileno=int(arguments[0])) as peer:
        plan = json.load(sys.stdin)
        try:
            answer, descriptors = load(plan)
        except LoadError as error:
            peer.send(json.dumps({"error": str(error)}).encode())
            return 1
        socket.send_fds(peer, [json.dumps(answer).encode()], descriptors)
    # BCC's own cleanup at exit would detach by names what is held by descriptors
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
