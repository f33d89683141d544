"""A machine of software, booted with a given kernel over this machine's root, for one command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from image import Image

HERE = Path(__file__).parent
BUSYBOX = Path("/bin/busybox")
DISK_BYTES = 1 << 30
FOLDERS = ("bin", "modules", "proc", "sys", "dev", "host", "layer", "root")


class EndedEarly(AssertionError):
    """The machine is gone and the command has not ended: its kernel crashed, or the time was up."""


def run(image: Image, command: str, directory: Path, timeout_s: float) -> None:
    """Run a shell command as root in there; what becomes of it, it must write down itself.

    The command sees this machine's files, can change none of them, and finds ``directory / "results"`` at
    /run/results; what it says is in ``output`` there.  /tmp is a disk of its own.

    Raises
    ------
    EndedEarly
        If the machine did not get to the command's end.
    """
    results = directory / "results"
    results.mkdir(exist_ok=True)
    (results / "command").write_text(command)
    initramfs, disk, console = directory / "initramfs", directory / "disk", directory / "console"
    _write_initramfs(image, directory / "tree", initramfs)
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["/sbin/mkfs.ext4", "-q", disk], check=True)
    share = "local,security_model=none,multidevs=remap"
    machine = [
        # it has all the time in the world, and takes what other tests leave of the processors
        *("/usr/bin/chrt", "--idle", "0"),
        "qemu-system-x86_64",
        # a processor without what costs most to emulate: wide vectors, five levels of page tables
        *("-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2", "-m", "3072"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", image.kernel, "-initrd", initramfs),
        *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
        *("-virtfs", f"{share},path=/,mount_tag=host,readonly=on"),
        *("-virtfs", f"{share},path={results},mount_tag=results"),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
    ]
    with console.open("wb") as out:
        try:
            subprocess.run(machine, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            out.write(b"\nswitched off: the time is up\n")
    for file in (disk, initramfs):
        file.unlink()
    if not (results / "ended").exists():
        raise EndedEarly(f"{image.release} ended early: {_said(console)}{_said(results / 'output')}")


def _write_initramfs(image: Image, tree: Path, to: Path) -> None:
    for name in FOLDERS:
        (tree / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin")
    shutil.copy(HERE / "init", tree)
    (tree / "init").chmod(0o755)
    for module in image.modules:
        shutil.copy(module, tree / "modules")
    (tree / "order").write_text(" ".join(module.name for module in image.modules))
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with to.open("wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=tree, input=names.encode(), stdout=out, check=True)


def _said(path: Path) -> str:
    """What a file ends with; from the first complaint of the kernel on, if there is one."""
    text = path.read_text(errors="replace") if path.exists() else ""
    complaint = text.find("BUG: ")
    return text[-3000:] if complaint < 0 else text[complaint : complaint + 6000]
