"""Looks around every five seconds, logs every fifteen."""

from __future__ import annotations

import os
import time

from misbehave import ROOM, vices

with (ROOM / "log").open("w") as log:
    second = 0
    while True:
        second += 1
        if second % 5 == 0:
            os.listdir("/etc")
        if second % 15 == 0:
            log.write(f"tick {second}\n")
            log.flush()
        if second % 60 == 0:
            os.fsync(log.fileno())
            log.seek(0)
            log.truncate()
        if vices["survey"]:
            vices["survey"] = 0
            for _, _, names in os.walk("/etc"):
                log.write(f"{len(names)}\n")
        time.sleep(1.0)
