"""``./run`` where there is no systemd: the daemon lives for as long as the command that started it, and not less."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

RUN = Path(__file__).parents[2] / "run"
# with a /run of its own: no systemd is there, and no other ./run
KEEP = f"""
mount -t tmpfs none /run
{RUN} watch $$
echo "status $?"
flock --nonblock /run/osdetectord/lock echo free
"""


def test_who_keeps_a_daemon_that_is_killed_ends_with_it_and_lets_go_of_the_lock() -> None:
    command = ["unshare", "--mount", "bash", "-c", KEEP]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert keeper.stdout is not None

    def kill(words: str, number: signal.Signals) -> None:
        pgrep = ["pgrep", f"--ns={keeper.pid}", "--nslist=mnt", "--full", "--", words]
        for pid in subprocess.run(pgrep, capture_output=True, check=False).stdout.split():
            os.kill(int(pid), number)

    try:
        assert keeper.stdout.readline() == f"1\tpid:{keeper.pid}\n"
        kill("-m osdetectord --config", signal.SIGKILL)
        told, said = keeper.communicate(timeout=20)
    finally:
        kill(f"{RUN} watch", signal.SIGTERM)
    assert told == "status 3\nfree\n"
    assert "osdctl: the daemon stopped, and its message bus with it" in said
    assert "the daemon ends with this command" not in said
