"""Which running processes a specification means, as /proc and the control groups tell."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from osdetectord.errors import NoSuchUser
from osdetectord.proc import PF_KTHREAD
from osdetectord.target import COMM_BYTES, Spec, SpecKind


class Matcher:
    """Finds processes; a process that ends meanwhile is simply not found.

    Parameters
    ----------
    proc
        Where procfs is mounted.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._own = os.getpid()
        # the service manager's own group tells what it calls the root: another one within a container
        self._root = (self.cgroup(1) or "/").removesuffix("/init.scope").rstrip("/")

    def pids(self) -> Iterator[int]:
        """Yield every process but this one and the kernel's own threads."""
        with os.scandir(self._proc) as entries:
            for entry in entries:
                if entry.name.isdigit() and int(entry.name) != self._own:
                    yield int(entry.name)

    def among(self, pids: Iterable[int], spec: Spec, group: str = "") -> list[int]:
        """Return those of these processes that are meant.

        Parameters
        ----------
        spec
            Any but ``pid:``, which names its process itself.
        group
            Control group of a unit as the service manager tells it.
        """
        try:
            is_meant = self._test(spec, group)
        except NoSuchUser:  # any more: nobody's processes
            return []
        return [pid for pid in pids if is_meant(pid)]

    def find(self, spec: Spec, group: str = "") -> list[int]:
        """Return all processes that are meant, by pid; raises NoSuchUser."""
        return sorted(filter(self._test(spec, group), self.pids()))

    def _test(self, spec: Spec, group: str) -> Callable[[int], bool]:
        """Return what tells whether a process is meant; what is the same for all is looked up once."""
        if spec.kind is SpecKind.COMM:
            return lambda pid: self._comm(pid) == spec.value and not self._is_kernel_thread(pid)
        if spec.kind is SpecKind.EXE:
            # /bin/sh is a link to a link; the kernel tells where they lead, and the target of a link may change
            paths = (spec.value, os.path.realpath(spec.value))
            return lambda pid: self.exe(pid) in paths
        if spec.kind is SpecKind.USER:
            uid = user_id(spec)
            return lambda pid: self._uid(pid) == uid and not self._is_kernel_thread(pid)
        wanted = self._root + group if spec.kind is SpecKind.UNIT else spec.value
        if not wanted or wanted == self._root:
            return lambda pid: False
        return lambda pid: f"{self.cgroup(pid) or ''}/".startswith(wanted + "/")

    def exe(self, pid: int) -> str:
        """Return the path of the executable without the kernel's `` (deleted)``; empty where it can't be read."""
        try:
            return os.readlink(self._proc / str(pid) / "exe").removesuffix(" (deleted)")
        except OSError:
            return ""

    def cmdline(self, pid: int) -> str:
        """Return the arguments, joined by blanks; empty where they can't be read."""
        return self._text(pid, "cmdline").replace("\0", " ").strip()

    def cgroup(self, pid: int) -> str | None:
        """Return the path in the hierarchy that the service manager uses, or None for no such process."""
        unified = None
        for line in self._text(pid, "cgroup").splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if controllers == "name=systemd":
                return path
            if number == "0":
                unified = path
        return unified

    def _text(self, pid: int, name: str) -> str:
        try:
            return (self._proc / str(pid) / name).read_bytes().decode("utf-8", "surrogateescape")
        except OSError:
            return ""

    def _comm(self, pid: int) -> str:
        """Return the name without the first bytes of a character that the kernel has cut in two."""
        name = self._text(pid, "comm").rstrip("\n")
        data = name.encode("utf-8", "surrogateescape")
        return data.decode(errors="ignore") if len(data) == COMM_BYTES else name

    def _uid(self, pid: int) -> int:
        try:
            return (self._proc / str(pid)).stat().st_uid
        except OSError:
            return -1

    def _is_kernel_thread(self, pid: int) -> bool:
        fields = self._text(pid, "stat").rpartition(")")[2].split()
        return len(fields) < 7 or bool(int(fields[6]) & PF_KTHREAD)


def user_id(spec: Spec) -> int:
    """Return the uid that a ``user:`` specification names.

    Raises
    ------
    NoSuchUser
        If there is no such user.
    """
    if spec.value.isascii() and spec.value.isdecimal():
        return int(spec.value)
    try:
        return pwd.getpwnam(spec.value).pw_uid
    except KeyError:
        raise NoSuchUser(f"no user {spec.value!r}") from None
