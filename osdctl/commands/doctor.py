"""``osdctl doctor``: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import Any

from osdctl import called, machine, program
from osdctl.command import Answer
from osdctl.errors import NotRunning, OsdctlError, Status
from osdctl.machine import Check
from osdctl.manager import Manager
from osdctl.model import Daemon, Hook
from osdctl.text import STATE_COLOURS, Look, as_json, pad, shown, width_of

NAME = "doctor"
HELP = "check this machine and the daemon, and say what to do"

HOOK_PROGRAM = "osdetectord.bpf.check"


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


async def run(args: argparse.Namespace, manager: Manager) -> Answer:
    """Return a line for each check; the status is 1 if one failed."""
    look: Look = args.look
    checks = list(await asyncio.to_thread(machine.checks))
    told, daemon = await _bus(manager)
    checks += told
    if daemon is not None:
        checks += [*_hooks(daemon.collectors), *_daemon(daemon)]
    elif os.geteuid() == 0:
        checks += await asyncio.to_thread(_probed)
    else:
        checks.append(Check("hooks", "warn", "not tried", "only root can: sudo osdctl doctor"))
    status = Status.FAILED if any(check.state == "fail" for check in checks) else Status.DONE
    if look.json != "off":
        return Answer(as_json([check.json() for check in checks], look.json), status)
    wide = max(width_of(shown(check.name)) for check in checks)
    return Answer("".join(_line(check, wide, look) for check in checks), status)


def _line(check: Check, wide: int, look: Look) -> str:
    said = shown(check.said) + (f"; {shown(called.here(check.todo))}" if check.todo else "")
    return f"{look.paint(f'{check.state:4}', STATE_COLOURS[check.state])}  {pad(shown(check.name), wide)}  {said}\n"


async def _bus(manager: Manager) -> tuple[list[Check], Daemon | None]:
    try:
        connection = await manager.connected()
    except OsdctlError as error:
        return [Check("message bus", "fail", error.message, error.hint)], None
    checks = [Check("message bus", "ok", f"reached: {connection.place}")]
    try:
        daemon = await manager.daemon()
    except NotRunning as error:
        if await connection.can_start_daemon():
            said = "not running, starts at the first osdctl watch"
            return [*checks, Check("daemon", "warn", said, "or now: systemctl start osdetectord")], None
        return [*checks, Check("daemon", "fail", "not running", error.hint)], None
    except OsdctlError as error:
        return [*checks, Check("daemon", "fail", error.message, error.hint)], None
    return [*checks, Check("daemon", "ok", f"osdetectord {daemon.version} is running")], daemon


def _hooks(rows: tuple[Hook, ...]) -> list[Check]:
    return [_hook(row) for row in rows] or [Check("hooks", "fail", "the daemon has no collector", "see its journal")]


def _hook(row: Hook) -> Check:
    name = f"hook {row.collector}"
    if row.rank < 0:
        return Check(name, "fail", f"nothing serves it: {row.why or 'no reason given'}", "see man osdetectord")
    if row.rank > 0:
        return Check(name, "warn", f"{row.hook}, a fallback: {row.why}")
    return Check(name, "ok", row.why if row.off else row.hook)


def _probed() -> list[Check]:
    """Try the hooks by the daemon's own program, because no daemon runs that could tell."""
    if not program.has_module(HOOK_PROGRAM):
        return [Check("hooks", "warn", f"not tried: there is no {HOOK_PROGRAM}", "apt install osdetectord")]
    status, out, said = machine.ask([program.PYTHON, "-m", HOOK_PROGRAM])
    try:
        report: Any = json.loads(out)
        found = tuple(Hook(str(x["collector"]), str(x["hook"]), int(x["rank"]), str(x["why"])) for x in report["hooks"])
        error = str(report["error"])
    except (ValueError, TypeError, KeyError):
        last = said.strip().rpartition("\n")[2] or f"it ended with status {status} and no report"
        return [Check("hooks", "fail", f"they could not be tried: {last}", f"run {program.PYTHON} -m {HOOK_PROGRAM}")]
    if error:
        return [Check("BPF programs", "fail", error, "without them signals are few and coarse"), *_hooks(found)]
    return [Check("BPF programs", "ok", "they load and attach"), *_hooks(found)]


def _daemon(daemon: Daemon) -> list[Check]:
    checks = []
    for detector in daemon.detectors:
        said = detector.state + (f": {detector.why}" if detector.why else "")
        checks.append(Check(f"detector {detector.name}", "warn" if detector.state == "absent" else "ok", said))
    connected = daemon.worker == "connected"
    checks.append(
        Check("detector worker", "ok", "connected")
        if connected
        else Check("detector worker", "warn", daemon.worker, "see journalctl -u osdetectord-detector")
    )
    losses = {cause: amount for cause, amount in sorted(daemon.lost.items()) if amount}
    if losses:
        said = ", ".join(f"{amount} {cause}" for cause, amount in losses.items())
        checks.append(
            Check("losses", "warn", f"{said} since the daemon's start", "the daemon's manual says what each is")
        )
    else:
        checks.append(Check("losses", "ok", "nothing was lost"))
    if "bpf_s" not in daemon.cost:
        said = "the run time of the BPF programs is not measured"
        checks.append(Check("cost", "ok", said, "to have it in osdctl status: sysctl kernel.bpf_stats_enabled=1"))
    return checks
