"""A private message bus with the shipped policy, and clients of several users on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from osdetectord.bus.server import BusServer
from osdetectord.core import Core

T = TypeVar("T")
SHIPPED = Path(__file__).parents[2] / "systemd" / "dbus"
HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "PYTHONDONTWRITEBYTECODE": "1"}
"""For the programs beside this file."""
GROUP = "games"
"""Stands for the service's group, which a package makes; this one is on every machine."""

# The rules of Debian's /usr/share/dbus-1/system.conf.
_CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <policy user="root">
    <allow own="org.freedesktop.systemd1"/>
    <allow send_destination="org.freedesktop.systemd1"/>
  </policy>
  <includedir>{policies}</includedir>
</busconfig>
"""
OPEN_POLICY = """<busconfig><policy context="default"><allow own="org.osdetector1"/>
<allow send_destination="org.osdetector1"/></policy></busconfig>"""
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
AS_MEMBER = ("setpriv", "--reuid=nobody", "--regid=nogroup", f"--groups={GROUP}")


class PrivateBus:
    """A ``dbus-daemon`` of its own; with the shipped policy, or one that lets everything through."""

    def __init__(self, policy: str | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"osdetectord-bus-{os.getpid()}-"))
        self.directory.chmod(0o755)
        policies = self.directory / "policies"
        policies.mkdir()
        if policy is None:
            policy = (SHIPPED / "org.osdetector1.conf").read_text().replace('"osdetector"', f'"{GROUP}"')
        (policies / "org.osdetector1.conf").write_text(policy)
        self.socket = self.directory / "bus"
        self._config = self.directory / "bus.conf"
        self._config.write_text(_CONFIG.format(socket=self.socket, policies=policies))
        self.address = f"unix:path={self.socket}"
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self._config}", "--nofork", "--nopidfile", "--nosyslog"],
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def _answers(self) -> bool:
        # the file is there a moment before anybody listens
        with socket.socket(socket.AF_UNIX) as caller:
            return caller.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.send_signal(signal.SIGCONT)
            self._daemon.wait()
            self._daemon = None
            self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Hang the daemon."""
        assert self._daemon
        self._daemon.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._daemon
        self._daemon.send_signal(signal.SIGCONT)

    def __enter__(self) -> PrivateBus:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def busctl(self, *words: str, user: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run busctl on this bus; ``user`` is what makes it another user's."""
        return subprocess.run(
            [*user, "busctl", f"--address={self.address}", "--json=short", *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def owner(self) -> str:
        """Return the unique name of the service."""
        bus = "org.freedesktop.DBus"
        said = self.busctl("call", bus, "/org/freedesktop/DBus", bus, "GetNameOwner", "s", "org.osdetector1")
        return str(json.loads(said.stdout)["data"][0])

    def call(
        self,
        *words: str,
        user: tuple[str, ...] = (),
        path: str = "/org/osdetector1",
        interface: str = "org.osdetector1.Manager",
    ) -> subprocess.CompletedProcess[str]:
        """Call a method: its name, and if it has arguments their signature and each of them."""
        return self.busctl("call", "org.osdetector1", path, interface, *words, user=user)


class Served:
    """A :class:`BusServer` over a core, in a thread with a loop of its own."""

    def __init__(self, core: Core, address: str) -> None:
        self.core = core
        self.server = BusServer(core, address, group=GROUP)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def do(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in the server's loop."""

        async def call() -> T:
            return function(*arguments)

        return self.run(call())

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def wait_until(true: Callable[[], object], timeout_s: float = 10) -> None:
    """Return when ``true()`` is; fail when it does not become so."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
