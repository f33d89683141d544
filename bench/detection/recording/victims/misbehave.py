"""Vices of the programs beside this file: each is off until a datagram ``WORD VALUE`` says otherwise."""

from __future__ import annotations

import hashlib
import math
import os
import random
import socket
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

ROOM = Path(sys.argv[1])
RANDOM = random.Random(int(sys.argv[2]))
SLICE_S = 0.1
LEAK_PER_SLICE = 102
DISK_PER_SLICE = 100_000

vices: defaultdict[str, float] = defaultdict(float, rate=1.0, usual=1.0)
lock = threading.Lock()
_kept: list[bytes] = []
_open: list[int] = []
_period_s = RANDOM.uniform(240, 600)
_walk = 0.0


def load() -> float:
    """Return how many times the usual load it is now."""
    global _walk
    _walk = 0.97 * _walk + RANDOM.gauss(0.0, 0.02)
    return vices["rate"] * vices["usual"] * max(0.1, 1 + 0.35 * math.sin(2 * math.pi * time.time() / _period_s) + _walk)


def pause(per_s: float) -> None:
    """Wait for the next piece of work, of which there are about so many a second."""
    rate = per_s * load()
    time.sleep(RANDOM.expovariate(rate) if rate > 0 else 0.5)


def work(rounds: int) -> str:
    """Do a piece of work; slower or dearer if told so."""
    if vices["slow"]:
        time.sleep(vices["slow"] / 1000)
    for _ in range(int(vices["cost"])):
        hashlib.sha256(bytes(20000)).digest()
    found = "a"
    for _ in range(rounds):
        found = hashlib.sha256(found.encode()).hexdigest()
    return found


def _obey() -> None:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    control.bind(str(ROOM / "control"))
    while True:
        word, value = control.recv(100).decode().split()
        vices[word] = float(value)


def _misbehave() -> None:
    while True:
        time.sleep(SLICE_S)
        if vices["hog"]:
            until = time.monotonic() + vices["hog"] / 1000
            while time.monotonic() < until:
                sum(range(2000))
        if vices["leak"]:
            _kept.append(os.urandom(int(vices["leak"] * LEAK_PER_SLICE)))
        for _ in range(int(vices["fd"] / 10)):
            _open.append(os.open("/etc/hostname", os.O_RDONLY))
        for _ in range(int(vices["storm"] / 10)):
            os.getppid()
        for _ in range(int(vices["err"] / 10)):
            Path("/nonexistent").exists()
        for _ in range(int(vices["fork"] / 10)):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        if vices["lock"]:
            with lock:
                time.sleep(vices["lock"] / 1000)
        if vices["io"]:
            with (ROOM / "waste").open("wb") as file:
                file.write(os.urandom(int(vices["io"] * DISK_PER_SLICE)))
                file.flush()
                os.fsync(file.fileno())


for _run in (_obey, _misbehave):
    threading.Thread(target=_run, daemon=True).start()
