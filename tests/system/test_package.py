"""The packages: what they hold, what they need, and that a purge leaves nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import subprocess
from pathlib import Path

from box import Box, until

# bpf(2), the kernel's include/uapi/linux/bpf.h; the machine's architecture decides the number of the call
BPF_CALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID = 13, 14


def exists(command: int, number: int) -> bool:
    """Return whether the kernel has a BPF program or map of that number."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 128)
    fd = libc.syscall(BPF_CALL, command, attributes, 128)
    if fd >= 0:
        os.close(fd)
        return True
    assert ctypes.get_errno() == errno.ENOENT, os.strerror(ctypes.get_errno())
    return False


def bpf_ids(box: Box, pid: int) -> dict[str, set[int]]:
    """Return the numbers of the BPF programs and maps that a process of the box holds."""
    text = box.run("sh", "-c", f"cat /proc/{pid}/fdinfo/*")
    return {kind: {int(n) for n in re.findall(rf"^{kind}_id:\s*(\d+)", text, re.MULTILINE)} for kind in ("prog", "map")}


def field(deb: Path, name: str) -> str:
    """Return a field of a package's control file."""
    return subprocess.run(
        ["/usr/bin/dpkg-deb", "--field", deb, name], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_every_page_that_a_manual_names_is_in_the_package_under_that_name(debs: dict[str, Path]) -> None:
    manuals = "".join(page.read_text("utf-8") for page in (Path(__file__).parents[2] / "docs/man").iterdir())
    named = set(re.findall(r"/usr/share/doc/[\w/.-]+\w", manuals))
    listed = subprocess.run(
        ["/usr/bin/dpkg-deb", "--contents", debs["osdetectord"]], capture_output=True, text=True, check=True
    ).stdout

    assert named and {f".{page}" for page in named} <= set(listed.split())


def test_every_link_of_a_page_leads_to_a_file_of_the_package(debs: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run(["/usr/bin/dpkg-deb", "--extract", debs["osdetectord"], tmp_path], check=True)
    pages = list((tmp_path / "usr/share/doc/osdetectord").rglob("*.md"))
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)[)#]", page.read_text("utf-8"))]

    assert {page.name for page, _ in links} >= {"README.md", "cost.md"}
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_lintian_has_nothing_to_say(debs: dict[str, Path]) -> None:
    changes = next(debs["osdetectord"].parent.glob("*.changes"))
    done = subprocess.run(
        ["/usr/bin/lintian", "--allow-root", "--pedantic", changes], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_client_needs_neither_bcc_nor_numbers(debs: dict[str, Path]) -> None:
    needed = {part.split()[0] for part in field(debs["osdctl"], "Depends").split(",")}
    assert needed == {"python3:any", "python3-dbus-next"}


def test_torch_is_only_recommended(debs: dict[str, Path]) -> None:
    assert "torch" not in field(debs["osdetectord"], "Depends")
    assert "python3-torch" in field(debs["osdetectord"], "Recommends")
    assert "python3-matplotlib" in field(debs["osdetectord"], "Suggests")


def test_a_purge_leaves_nothing(bare_box: Box, debs: dict[str, Path]) -> None:
    box = bare_box

    def files() -> set[str]:
        tops = ("/etc", "/usr", "/var/lib", "/var/log", "/var/cache", "/run")
        # what dpkg, systemd and the journal keep of every package and every run
        apart = r"/var/lib/(dpkg|systemd)/|/var/log/(journal|dpkg)|/var/cache/(man|ldconfig)/|/run/(systemd|log|udev)/"
        apart += r"|/run/(dbus|user)/|/etc/(group|gshadow|passwd|shadow|subuid|subgid)-?$|/etc/ld.so.cache"
        found = box.run("find", *tops, "-xdev", "-not", "-type", "s", timeout_s=120).splitlines()
        return {path for path in found if not re.match(apart, path)}

    before, groups, units = files(), box.read("/etc/group"), box.run("systemctl", "list-unit-files", "--no-legend")
    box.run("dpkg", "--install", *(str(path) for path in debs.values()), timeout_s=120)
    until("the service is up", lambda: box.unit("osdetectord", "ActiveState") == "active")
    box.run("osdctl", "watch", "pid:1")
    box.write("/etc/osdetectord/conf.d/50-mine.yml", "interval_s: 2\n")
    until("the detector is connected", lambda: box.osdctl_json("status")["worker"] == "connected")
    ids = bpf_ids(box, box.main_pid("osdetectord"))
    assert all(exists(BPF_PROG_GET_FD_BY_ID, number) for number in ids["prog"])
    assert ids["prog"]
    assert ids["map"]
    box.run("rm", "/etc/osdetectord/conf.d/50-mine.yml")

    box.run("dpkg", "--purge", "osdctl", "osdetectord")

    assert files() - before == set()
    assert before - files() == set()
    assert box.read("/etc/group") == groups
    assert box.run("systemctl", "list-unit-files", "--no-legend") == units
    assert box.run("systemctl", "list-units", "--all", "--no-legend", "osdetectord*") == ""
    assert "osdetectord" not in box.run("journalctl", "--list-catalog")
    assert not any(exists(BPF_PROG_GET_FD_BY_ID, number) for number in ids["prog"])
    assert not any(exists(BPF_MAP_GET_FD_BY_ID, number) for number in ids["map"])
