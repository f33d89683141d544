"""``-H HOST``: the same command, by osdctl on another host through ssh."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence

from osdctl.errors import OsdctlError, UsageError

_SSH_FAILED = 255


def without_host(argv: Sequence[str]) -> list[str]:
    """Return the command line without its first ``-H``; a later one belongs to a program that osdctl runs."""
    words = list(argv)
    for i, word in enumerate(words):
        if word in ("-H", "--host"):
            return words[:i] + words[i + 2 :]
        if word.startswith("--host=") or (word.startswith("-H") and len(word) > 2):
            return words[:i] + words[i + 1 :]
    return words


def command_line(host: str, argv: Sequence[str], *, terminal: bool) -> list[str]:
    """Return the ssh command; ssh hands its words to a shell, so they are quoted for one."""
    if not host or host.startswith("-"):
        raise UsageError(f"no host: {host or 'nothing'}")
    words = " ".join(shlex.quote(word) for word in ["osdctl", *without_host(argv)])
    return ["ssh", *(["-t"] if terminal else []), "--", host, words]


def run(host: str, argv: Sequence[str], *, terminal: bool) -> int:
    """Run it and return its exit status; 1 where ssh itself failed."""
    command = command_line(host, argv, terminal=terminal)
    if shutil.which("ssh") is None:
        raise OsdctlError("there is no ssh", "install it with: apt install openssh-client")
    status = subprocess.run(command, check=False).returncode
    return 1 if status in (_SSH_FAILED, -1) else status if status >= 0 else 128 - status
