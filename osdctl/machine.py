"""What of this machine the daemon needs: kernel, permissions, packages, unit, journal."""

from __future__ import annotations

import grp
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from osdctl import called, program
from osdctl.called import GROUP

UNIT = "osdetectord.service"
TIMEOUT_S = 30.0

# bit numbers, include/uapi/linux/capability.h
NEEDED_CAPABILITIES = {"CAP_SYS_PTRACE": 19, "CAP_PERFMON": 38, "CAP_BPF": 39}

_IMPORT_BCC = "import bcc; bcc.BPF; print(getattr(bcc, '__version__', 'unknown'))"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``ok``, ``warn`` or ``fail``, what was seen, what to do."""

    name: str
    state: str
    said: str
    todo: str = ""

    def json(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def checks(root: Path = Path("/")) -> Iterator[Check]:
    """Look at everything that needs no daemon; ``root`` is where the file systems are."""
    yield btf(root)
    yield lockdown(root)
    yield user(root, os.geteuid())
    yield bcc()
    yield package()
    yield from unit(root)
    yield journal(root)


def btf(root: Path) -> Check:
    """The kernel's own type information, from which the BPF programs are compiled."""
    path = root / "sys/kernel/btf/vmlinux"
    if path.exists():
        return Check("kernel types", "ok", "/sys/kernel/btf/vmlinux is there")
    todo = "use a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian's are"
    return Check("kernel types", "fail", "/sys/kernel/btf/vmlinux is missing", todo)


def lockdown(root: Path) -> Check:
    """Kernel lockdown; kernel_lockdown(7): confidentiality forbids BPF to read kernel memory."""
    try:
        modes = (root / "sys/kernel/security/lockdown").read_text()
    except OSError:
        return Check("kernel lockdown", "ok", "none")
    mode = modes.partition("[")[2].partition("]")[0] or "unknown"
    if mode == "confidentiality":
        return Check("kernel lockdown", "fail", "confidentiality: BPF may read nothing", "boot with lockdown=integrity")
    return Check("kernel lockdown", "ok", mode)


def user(root: Path, uid: int) -> Check:
    """What this user may do."""
    if uid == 0:
        lacking = _lacking(root)
        if lacking:
            todo = "in a container: start it with these capabilities"
            return Check("permission", "fail", f"root without {', '.join(lacking)}", todo)
        return Check("permission", "ok", "root, with all capabilities that tracing needs")
    try:
        group = grp.getgrnam(GROUP)
    except KeyError:
        return Check("permission", "warn", f"there is no group {GROUP}", "you can look; to watch, use sudo")
    if group.gr_gid in os.getgroups() or group.gr_gid == os.getegid():
        return Check("permission", "ok", f"in the group {GROUP}: may watch")
    todo = f"sudo adduser $USER {GROUP}, then log in again"
    return Check("permission", "warn", f"not in the group {GROUP}: may look, not watch", todo)


def _lacking(root: Path) -> list[str]:
    try:
        status = (root / "proc/self/status").read_text()
        held = int(status.partition("CapEff:")[2].split()[0], 16)
    except (OSError, ValueError, IndexError):
        return ["/proc/self/status"]
    return [name for name, bit in NEEDED_CAPABILITIES.items() if not held >> bit & 1]


def bcc() -> Check:
    """BCC in the distribution's Python; the package of that name on PyPI has no class BPF."""
    status, out, said = ask([program.PYTHON, "-c", _IMPORT_BCC])
    if status == 0:
        return Check("python3-bpfcc", "ok", f"version {out.strip()}")
    reason = said.strip().rpartition("\n")[2] or "it does not run"
    return Check("python3-bpfcc", "fail", f"{program.PYTHON} cannot load it: {reason}", "apt install python3-bpfcc")


def package() -> Check:
    """The daemon's own package."""
    if called.CHECKOUT:
        return Check("package", "ok", f"not installed, this is the checkout {Path(called.__file__).parents[1]}")
    if program.has_module(program.PACKAGE):
        return Check("package", "ok", f"{program.PACKAGE} is installed")
    return Check("package", "fail", f"{program.PACKAGE} is not installed", f"apt install {program.PACKAGE}")


def unit(root: Path) -> Iterator[Check]:
    """The unit's state; nothing where systemd does not run."""
    if not (root / "run/systemd/system").is_dir():
        yield Check("systemd", "warn", "not running here", f"the daemon runs without it, {called.how_to_start(False)}")
        return
    names = "LoadState,ActiveState,SubState,Result,NRestarts"
    _, out, _ = ask(["systemctl", "show", UNIT, f"--property={names}"])
    found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        yield Check("unit", "fail", f"{UNIT} is {found.get('LoadState', 'unknown')}", f"apt install {program.PACKAGE}")
        return
    said = f"{found.get('ActiveState')} ({found.get('SubState')})"
    restarts = found.get("NRestarts", "0")
    if found.get("ActiveState") == "failed":
        yield Check("unit", "fail", f"{said}, result {found.get('Result')}", f"see journalctl -u {UNIT}")
    elif restarts != "0":
        yield Check("unit", "warn", f"{said}, restarted {restarts} times", f"see journalctl -u {UNIT}")
    else:
        yield Check("unit", "ok", said)


def journal(root: Path) -> Check:
    """Where anomalies are told."""
    if (root / "run/systemd/journal/socket").exists():
        return Check("journal", "ok", "anomalies go to the journal")
    return Check(
        "journal", "warn", "there is no journal", "anomalies go to the daemon's standard error; see osdctl log"
    )


def ask(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a program and return its status, output and complaints; status -1 where it does not run or end."""
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr
