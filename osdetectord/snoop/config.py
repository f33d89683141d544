"""The original's ``config.json``: which signals are collected, into which files, how often, and for whom."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osdetectord.errors import ConfigError, InvalidArgument
from osdetectord.probing.location import SINGLE_COLON, Location
from osdetectord.probing.signature import TraceForm, parse_formats

MOST_BYTES = 1 << 20

CPU_WAYS = ("bcc", "stat", "top")
MEMORY_WAYS = ("bcc", "bcc_user", "bcc_kernel")
NETWORK_WAYS = ("bcc", "bcc_user", "bcc_kernel")
SYSCALL_WAYS = ("bcc",)

INTERVAL_S = 3.0
"""What the original takes where its configuration does not say."""
DETECT_S = 60.0
LEAST_S, MOST_S = 0.1, 86400

PROBE_KEYS = ("event_name", "output_file", "spid")
TRACE_KEYS = ("tracee_name", "output_file", "enter_msg_format", "return_msg_format", "spid")
FILES = {
    "cpu_output_file": "cpu.csv",
    "mem_output_file": "mem.csv",
    "network_output_file": "net.csv",
    "syscall_output_file": "syscall.csv",
    "probes.output_file": "probe.csv",
    "trace.output_file": "trace.csv",
}
"""Name of each file where the configuration gives none."""

JUDGED = ("snoop_cpu", "snoop_mem", "snoop_network")
"""Those whose rows detection looks at."""

KEYS = (
    *("snoop_cpu", "cpu_output_file", "snoop_mem", "mem_output_file", "probes", "trace"),
    *("snoop_network", "network_output_file", "snoop_syscall", "syscall_output_file"),
    *("interval", "trace_multiprocess", "show_all_threads", "csvpath", "outcomepath", "detect_interval"),
)


@dataclass(frozen=True, slots=True)
class Output:
    """A signal that is on.

    Parameters
    ----------
    way
        How it is collected, as the configuration names it.
    path
        Its CSV file.
    """

    way: str
    path: Path


@dataclass(frozen=True, slots=True)
class ProbeOutput:
    """Functions whose calls are measured, into one file; ``tid`` 0 means all threads."""

    locations: tuple[str, ...]
    tid: int
    path: Path


@dataclass(frozen=True, slots=True)
class TracePoint:
    """A function that is traced, and its two messages as they stand in the configuration."""

    location: str
    entry: str | None
    returned: str | None
    form: TraceForm


@dataclass(frozen=True, slots=True)
class TraceOutput:
    """Functions whose entries and returns are told, into one file; ``tid`` 0 means all threads."""

    points: tuple[TracePoint, ...]
    tid: int
    path: Path


@dataclass(frozen=True, slots=True)
class SnoopConfig:
    """What to collect; None is off.

    Parameters
    ----------
    interval_s
        Seconds between two rows of a process.
    children
        Whether child processes are followed.
    threads
        Whether threads have rows of their own.
    outcome
        Directory of what detection says; None without detection.
    detect_s
        Seconds between two rounds of detection.
    """

    cpu: Output | None = None
    memory: Output | None = None
    network: Output | None = None
    syscalls: Output | None = None
    probes: ProbeOutput | None = None
    trace: TraceOutput | None = None
    interval_s: float = INTERVAL_S
    children: bool = False
    threads: bool = False
    outcome: Path | None = None
    detect_s: float = DETECT_S

    def paths(self) -> dict[str, Path]:
        """File of each signal that is on, by the key that switches it on."""
        signals = {
            "snoop_cpu": self.cpu,
            "snoop_mem": self.memory,
            "snoop_network": self.network,
            "snoop_syscall": self.syscalls,
            "probes": self.probes,
            "trace": self.trace,
        }
        return {key: signal.path for key, signal in signals.items() if signal is not None}


def defaults(base: Path) -> SnoopConfig:
    """What is collected where there is no configuration; files go below ``base``."""
    return SnoopConfig(
        cpu=Output("bcc", base / "csv/cpu.csv"),
        memory=Output("bcc_kernel", base / "csv/mem.csv"),
        network=Output("bcc", base / "csv/net.csv"),
        interval_s=1.0,
        children=True,
        outcome=base / "outcome",
    )


def load(path: Path, base: Path) -> SnoopConfig:
    """Return what a file says.

    Parameters
    ----------
    path
        The ``config.json``.
    base
        Directory that relative paths in it begin from.

    Raises
    ------
    ConfigError
        At the first thing that is wrong, with file, line, key, value and what was expected.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError("", (error.strerror or str(error)).lower(), "a readable file", str(path)) from None
    if len(data) > MOST_BYTES:
        raise ConfigError("", f"more than {MOST_BYTES} bytes", "a configuration", str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("", f"byte {error.start} is not UTF-8", "text", str(path)) from None
    try:
        return parse(text, base)
    except ConfigError as error:
        line = error.line or (line_of(text, error.key) if error.key else 0)
        raise error.at(str(path), line) from None


def parse(text: str, base: Path) -> SnoopConfig:
    """Return what the text of a ``config.json`` says; raises ConfigError, see :func:`load`."""
    values = decode(text)
    _known(values, KEYS, "")
    directory = base / (_text(values, "csvpath") or "")
    outcome = _text(values, "outcomepath")
    config = SnoopConfig(
        cpu=_output(values, "snoop_cpu", "cpu_output_file", CPU_WAYS, directory),
        memory=_output(values, "snoop_mem", "mem_output_file", MEMORY_WAYS, directory),
        network=_output(values, "snoop_network", "network_output_file", NETWORK_WAYS, directory),
        syscalls=_output(values, "snoop_syscall", "syscall_output_file", SYSCALL_WAYS, directory),
        probes=_probes(values, directory, base),
        trace=_trace(values, directory, base),
        interval_s=_seconds(values, "interval", INTERVAL_S, LEAST_S),
        children=_flag(values, "trace_multiprocess"),
        threads=_flag(values, "show_all_threads"),
        outcome=None if outcome is None else base / outcome,
        detect_s=_seconds(values, "detect_interval", DETECT_S, 1.0),
    )
    _apart(config)
    return config


# ---- JSON


def decode(text: str) -> dict[str, Any]:
    """Return the object that a text is; raises ConfigError with line and column."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _syntax(text, error) from None
    except ValueError:
        # Python makes a number of 4300 digits at most
        raise ConfigError("", "a number of too many digits", "a smaller one") from None
    except RecursionError:
        raise ConfigError("", "too deeply nested", "an object of keys and values") from None
    if not isinstance(value, dict):
        raise ConfigError("", "not an object", "an object of keys and values", line=1)
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ConfigError(key, value, "each key once")
        out[key] = value
    return out


def _no_constant(name: str) -> float:
    raise ConfigError("", name, "a number that JSON knows")


def _syntax(text: str, error: json.JSONDecodeError) -> ConfigError:
    """Tell what is wrong; a comma is missing behind the last value, not where the next key stands."""
    at, found = error.pos, text[error.pos : error.pos + 1]
    what, expected = f"{error.msg[0].lower()}{error.msg[1:]}", "JSON"
    if error.msg.startswith("Expecting ',' delimiter") and found in ('"', "{", "["):
        following = text[at:].split("\n", 1)[0].strip()
        at = len(text[:at].rstrip())
        what, expected = "a comma is missing", f"one before {following[:40]}"
    elif found in ("#", "/"):
        what, expected = "a comment", "JSON, which has none"
    elif error.msg.startswith("Expecting property name") and found == "}":
        at = len(text[:at].rstrip()) - 1
        what, expected = "a comma behind the last value", "none there"
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return ConfigError("", f"column {column}: {what}", expected, line=line)


def line_of(text: str, key: str) -> int:
    """Return the line of a dotted key, 1-based; of the nearest key above it; 0 where none is there."""
    at, line = 0, 0
    for name in key.split("."):
        found = re.compile(rf"{re.escape(json.dumps(name))}\s*:").search(text, at)
        if found is None:
            break
        at, line = found.end(), text.count("\n", 0, found.start()) + 1
    return line


# ---- values


def _known(values: Mapping[str, Any], keys: Sequence[str], above: str) -> None:
    for key, value in values.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            expected = f"{near[0]}?" if near else f"one of the keys {', '.join(keys)}"
            raise ConfigError(above + key, value, expected)


def _given(values: Mapping[str, Any], key: str) -> Any:
    """The value, None where it is off."""
    value = values.get(key)
    return None if value in (None, "None", "") else value


def _text(values: Mapping[str, Any], key: str, above: str = "") -> str | None:
    value = _given(values, key)
    if value is not None and (not isinstance(value, str) or not value.isprintable()):
        raise ConfigError(above + key, value, "a text or null")
    return value


def _flag(values: Mapping[str, Any], key: str) -> bool:
    value = _given(values, key)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        # the original's own sample has "true"
        return value.lower() == "true"
    if value is not None and not isinstance(value, bool):
        raise ConfigError(key, value, "true or false")
    return bool(value)


def _seconds(values: Mapping[str, Any], key: str, default: float, least: float) -> float:
    value = _given(values, key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= MOST_S:
        raise ConfigError(key, value, f"seconds, a number from {least:g} to {MOST_S}")
    return float(value)


def _output(values: Mapping[str, Any], key: str, file_key: str, ways: Sequence[str], directory: Path) -> Output | None:
    way = _given(values, key)
    name = _text(values, file_key)
    if way is None:
        return None
    if way not in ways:
        raise ConfigError(key, way, f"one of {', '.join(ways)}, null")
    return Output(way, directory / (name or FILES[file_key]))


def _object(values: Mapping[str, Any], key: str, keys: Sequence[str]) -> Mapping[str, Any] | None:
    value = _given(values, key)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ConfigError(key, value, f"an object with {', '.join(keys)}")
    _known(value, keys, f"{key}.")
    return value


def _texts(values: Mapping[str, Any], key: str, above: str) -> tuple[str | None, ...]:
    value = _given(values, key)
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(text is None or isinstance(text, str) for text in value):
        raise ConfigError(above + key, value, "a list of texts")
    return tuple(None if text in (None, "None", "") else text for text in value)


def _locations(values: Mapping[str, Any], key: str, above: str, base: Path) -> tuple[str, ...]:
    out = []
    for text in _texts(values, key, above):
        if text is None:
            raise ConfigError(above + key, values[key], "locations like ./program:function")
        place = located(text, base)
        try:
            Location.parse(place)
        except InvalidArgument as error:
            raise ConfigError(above + key, text, f"a location like ./program:function ({error})") from None
        out.append(place)
    return tuple(out)


def located(text: str, base: Path) -> str:
    """Return a location whose binary, if it is a relative path, begins from ``base``."""
    colon = SINGLE_COLON.search(text)
    if colon is None:
        return text
    binary = text[: colon.start()].strip()
    if "/" in binary and not binary.startswith("/"):
        binary = os.path.normpath(base / binary)
    return f"{binary}:{text[colon.end() :].strip()}"


def _tid(values: Mapping[str, Any], above: str) -> int:
    value = _given(values, "spid")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 22:
        raise ConfigError(f"{above}spid", value, "the id of a thread, or null")
    return value


def _probes(values: Mapping[str, Any], directory: Path, base: Path) -> ProbeOutput | None:
    given = _object(values, "probes", PROBE_KEYS)
    if given is None:
        return None
    places = _locations(given, "event_name", "probes.", base)
    if not places:
        return None
    name = _text(given, "output_file", "probes.") or FILES["probes.output_file"]
    return ProbeOutput(places, _tid(given, "probes."), directory / name)


def _trace(values: Mapping[str, Any], directory: Path, base: Path) -> TraceOutput | None:
    given = _object(values, "trace", TRACE_KEYS)
    if given is None:
        return None
    places = _locations(given, "tracee_name", "trace.", base)
    messages: list[tuple[str | None, ...]] = []
    for key in ("enter_msg_format", "return_msg_format"):
        texts = _texts(given, key, "trace.") or (None,) * len(places)
        if len(texts) != len(places):
            raise ConfigError(f"trace.{key}", given[key], f"one message for each tracee_name, which has {len(places)}")
        messages.append(texts)
    if not places:
        return None
    points = []
    for place, entry, returned in zip(places, *messages, strict=True):
        try:
            points.append(TracePoint(place, entry, returned, parse_formats(entry, returned)))
        except InvalidArgument as error:
            key = "trace.return_msg_format" if returned and repr(returned) in str(error) else "trace.enter_msg_format"
            wrong = returned if key.startswith("trace.return") else entry
            raise ConfigError(
                key, wrong, f"a message like 'n=%d' % (arg1), which is parsed and never run ({error})"
            ) from None
    name = _text(given, "output_file", "trace.") or FILES["trace.output_file"]
    return TraceOutput(tuple(points), _tid(given, "trace."), directory / name)


def _apart(config: SnoopConfig) -> None:
    """Refuse two signals in one file, and results in the place of what they are of."""
    taken: dict[Path, str] = {}
    for key, path in config.paths().items():
        if path in taken:
            raise ConfigError(key, str(path), f"a file of its own, {taken[path]} has that one")
        taken[path] = key
    if config.outcome is None:
        return
    taken[config.outcome / "anomalies.csv"] = "outcomepath"
    for key, path in config.paths().items():
        if key in JUDGED:
            result = config.outcome / f"{path.stem}.csv"
            if result in taken:
                raise ConfigError(key, str(path), f"another name or outcomepath: its results would go to {result} too")
            taken[result] = key


def needs_kernel(config: SnoopConfig) -> tuple[str, ...]:
    """Keys that only BPF programs can serve."""
    keys = {
        "snoop_cpu": config.cpu is not None and config.cpu.way == "bcc",
        "snoop_mem": config.memory is not None and config.memory.way != "bcc_kernel",
        "snoop_network": config.network is not None,
        "snoop_syscall": config.syscalls is not None,
        "probes": config.probes is not None,
        "trace": config.trace is not None,
    }
    return tuple(key for key, needed in keys.items() if needed)
