"""Events of a recording, and the labels that follow from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.detection.metrics import ANOMALY, DONT_CARE, NORMAL

FILE = "events.json"


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a process, from row ``first`` up to, not including, row ``last``."""

    process: str
    name: str
    job: bool
    first: int
    last: int
    aftermath: int
    noisy: bool


def write_events(directory: Path, events: Sequence[Event]) -> None:
    """Write what happened beside the tables."""
    (directory / FILE).write_text(json.dumps([asdict(event) for event in events], indent=1) + "\n")


def read_events(directory: Path) -> list[Event]:
    """Return what :func:`write_events` wrote."""
    return [Event(**event) for event in json.loads((directory / FILE).read_text())]


def labels(process: str, rows: int, events: Sequence[Event]) -> list[int]:
    """Return the label of each row of a process."""
    label = np.full(rows, NORMAL)
    for event in events:
        if event.noisy or event.process == process:
            label[event.first : event.last + event.aftermath] = NORMAL if event.job else DONT_CARE
    for event in events:
        if event.process == process and not event.job:
            label[event.first : event.last] = ANOMALY
    return label.tolist()
