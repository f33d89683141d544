"""Writes of redis that wait for a slow disk: each is synced (appendfsync always), and a sync takes a fifth of a second.

The disk is a loop device with a file system of its own; it becomes slow by a limit of five writes a second that the
block layer puts on the server's control group, as a hypervisor or an administrator does.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import redis
from .scenario import Scenario, Server

CONTROL_GROUPS = Path("/sys/fs/cgroup")
# where it's in memory: what else the machine writes does not matter then
MEMORY = Path("/dev/shm")
SIZE_BYTES = 64 << 20
WRITES_HZ = 5
CHANGES = 0.04


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"demonstration: {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def disk(directory: Path) -> Iterator[str]:
    """Mount a small disk of its own there; yields its device's MAJOR:MINOR."""
    image = (MEMORY if MEMORY.is_dir() else directory.parent) / f"osdetectord-demo-{os.getpid()}.img"
    device = ""
    try:
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        _run("mkfs.ext2", "-q", image)
        device = _run("losetup", "--find", "--show", image)
        _run("mount", device, directory)
        number = os.stat(directory).st_dev
        yield f"{os.major(number)}:{os.minor(number)}"
    finally:
        if device:
            subprocess.run(["umount", directory], check=False)
            _run("losetup", "--detach", device)
        image.unlink(missing_ok=True)


@contextmanager
def serve(directory: Path) -> Iterator[Server]:
    """Run redis with its append-only file on that disk."""
    place = directory / "disk"
    place.mkdir()
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with disk(place) as device, redis.serve(place, *options, changes=CHANGES) as server:
        yield dataclasses.replace(server, device=device)


@contextmanager
def provoke(server: Server) -> Iterator[None]:
    """Limit the server to five writes a second on its disk; lift the limit."""
    group, file, limit, none = _control_group()
    before = _group_of(server.pid, group.parent)
    group.mkdir()
    try:
        try:
            (group / file).write_text(f"{server.device} {limit}")
        except OSError as error:
            raise SystemExit(f"demonstration: this kernel can't limit a disk: {error}") from None
        (group / "cgroup.procs").write_text(str(server.pid))
        try:
            yield
        finally:
            (group / file).write_text(f"{server.device} {none}")
            (before / "cgroup.procs").write_text(str(server.pid))
    finally:
        _remove(group)


def _control_group() -> tuple[Path, str, str, str]:
    """Return a control group that is not there yet, its file of limits, the limit, and no limit."""
    name = f"osdetectord-demo-{os.getpid()}"
    if (CONTROL_GROUPS / "blkio").is_dir():
        return CONTROL_GROUPS / "blkio" / name, "blkio.throttle.write_iops_device", str(WRITES_HZ), "0"
    with (CONTROL_GROUPS / "cgroup.subtree_control").open("w") as control:
        control.write("+io")
    return CONTROL_GROUPS / name, "io.max", f"wiops={WRITES_HZ}", "wiops=max"


def _group_of(pid: int, hierarchy: Path) -> Path:
    """Return the control group in which a process is."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers.split(",") in ([hierarchy.name], [""] if hierarchy == CONTROL_GROUPS else []):
            return hierarchy / path.lstrip("/")
    raise SystemExit(f"demonstration: process {pid} is in no control group below {hierarchy}")


def _remove(group: Path) -> None:
    """Remove a control group once the last process has left it."""
    for _ in range(100):
        try:
            return group.rmdir()
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"demonstration: can't remove {group}")


SCENARIO = Scenario(
    name="disk",
    normal=f"{redis.NORMAL} and syncs each change to its disk",
    fault="its disk becomes slow: a sync takes a fifth of a second",
    serve=serve,
    provoke=provoke,
    # A thread that waits for the disk does not wait for requests: what the first gains the second loses.  Where syncs
    # took a large part of the time before, the loss is the larger surprise.
    blamed=("syscalls.sync_time", "syscalls.poll_time"),
    among=4,
)
