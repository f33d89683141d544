"""All commands, in the order in which the help lists them."""

from __future__ import annotations

from osdctl.command import Command
from osdctl.commands import (
    allocations,
    anomalies,
    config,
    detect,
    doctor,
    drill,
    explain,
    feedback,
    list_,
    log,
    mute,
    plot,
    probe,
    run,
    show,
    snoop,
    status,
    top,
    trace,
    unwatch,
    watch,
)

COMMANDS: tuple[Command, ...] = (
    status,
    doctor,
    drill,
    watch,
    unwatch,
    list_,
    show,
    top,
    anomalies,
    log,
    explain,
    plot,
    mute,
    feedback,
    probe,
    trace,
    allocations,
    run,
    snoop,
    detect,
    config,
)
