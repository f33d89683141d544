"""``osdctl config import``: the original's configuration as ours, with a remark for each key."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from osdetectord.config import Merged
from osdetectord.detection import original
from osdetectord.detection.settings import ORIGINAL, Settings
from osdetectord.errors import ConfigError, OsdetectorError
from osdetectord.snoop import config as configuration

MOST_S = 3600.0
"""What ``interval_s`` may be at most."""

ALWAYS = "always collected, by the best hook that the machine has; `osdctl doctor` says which"
FILES = "the daemon keeps its samples itself: `osdctl plot`, `osdctl show`; CSV files by `csv: yes`, or `osdctl snoop`"
IDLE = "where files are, or how the original's solver goes about it"
REMARKS = {
    "snoop_cpu": ALWAYS,
    "snoop_mem": "resident memory and mappings are always collected; what allocators give out by `osdctl allocations`",
    "snoop_network": ALWAYS,
    "snoop_syscall": "counts, errors and times of system calls are always collected; each single one by `osdctl snoop`",
    "show_all_threads": "the daemon judges processes; `osdctl snoop` has rows for threads",
    "detect_interval": "each sample is judged when it comes",
    "outcomepath": "anomalies go to the journal: `osdctl anomalies`, `osdctl log -f`",
    "probes": "added while the daemon runs, as root: `osdctl probe add`",
    "trace": "added while the daemon runs, as root: `osdctl trace add`",
}


def converted(text: str, detectors: Mapping[str, Any], base: Path) -> str:
    """Return our YAML.

    Parameters
    ----------
    text
        The ``config.json``.
    detectors
        What its ``detector-config.yml`` holds, empty without one.
    base
        Directory that paths begin from.

    Raises
    ------
    ConfigError
        If either is wrong.
    """
    configuration.parse(text, base)
    lines = ["# osdetectord.yml, made by `osdctl config import`; see osdetectord.yml(5).", ""]
    for key, value in configuration.decode(text).items():
        lines += _key(key, value)
    return "\n".join([*lines, *_detection(detectors)]) + "\n"


def _key(key: str, value: Any) -> Iterator[str]:
    told = f"# {key}: {json.dumps(value)}"
    parsed = configuration.parse(json.dumps({key: value}), Path("/"))
    if key == "interval":
        seconds = min(parsed.interval_s, MOST_S)
        yield f"{told} - now interval_s" + ("" if seconds == parsed.interval_s else f", at most {MOST_S:g}")
        yield f"interval_s: {seconds:g}"
    elif key == "trace_multiprocess":
        yield f"{told} - now follow_children"
        yield f"follow_children: {'yes' if parsed.children else 'no'}"
    else:
        yield f"{told} - {REMARKS.get(key, FILES)}"
    yield ""


def _detection(detectors: Mapping[str, Any]) -> list[str]:
    if not detectors:
        return []
    for key in detectors:
        if key not in original.KEYS:
            raise ConfigError(str(key), detectors[key], f"one of the keys {', '.join(original.KEYS)}")
    Settings.parse(detectors)
    lines, idle = [], []
    for path, value in _leaves((), detectors):
        name, told = ".".join(path), json.dumps(value)
        if path in original.MEANING:
            ours = original.MEANING[path]
            lines += [f"      # {name}: {told} - now {ours}", f"      {ours}: {told}"]
        else:
            idle.append(f"# {name}: {told} - without effect: {IDLE}")
    switch = [f"    {ORIGINAL}:", *lines] if lines else [f"    {ORIGINAL}: yes"]
    return ["detection:", "  evidences:", *switch, "", *idle]


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves((*path, str(key)), below)
    else:
        yield path, value


def _detectors(path: Path) -> Mapping[str, Any]:
    """Return what a ``detector-config.yml`` says; raises ConfigError."""
    merged = Merged()
    merged.add(path)
    try:
        _detection(merged.values)
    except ConfigError as error:
        raise error.at(*merged.place(error.key)) from None
    return merged.values


def main(arguments: Sequence[str]) -> int:
    """Print what the files named are in our words; returns 0, or 1 where they are wrong."""
    path, *others = map(Path, arguments)
    try:
        configuration.load(path, Path.cwd())
        detectors: Mapping[str, Any] = {}
        for other in others:
            detectors = _detectors(other)
        sys.stdout.write(converted(path.read_text(encoding="utf-8-sig"), detectors, Path.cwd()))
    except OsdetectorError as error:
        sys.stderr.write(f"osdctl config import: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
