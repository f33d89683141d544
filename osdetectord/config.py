"""The daemon's configuration: YAML files merged in order over the defaults, parsed once into frozen values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from osdetectord.errors import ConfigError

DIRECTORY = Path("/etc/osdetectord")
MAIN, DETECTORS, DROP_INS = "osdetectord.yml", "detectors.yml", "conf.d"
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]iB|)")
CPU_SOURCES = ("bcc", "stat", "top")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    Parameters
    ----------
    interval_s
        Seconds between two samples.
    follow_children
        Whether a watch takes in the children of its processes where the caller does not say.
    cpu
        Who tells CPU times: the scheduler's events by BPF programs, /proc, or psutil.
    max_targets, max_processes, max_threads
        Bounds on what may be watched at once.
    packets
        Whether TCP segments are counted too.
    history_s
        Seconds for which samples are kept as they were taken; to 24 times that a row stands for 10 s, then for 60 s.
    history_days
        Days after which samples and anomalies are forgotten.
    history_bytes
        What samples and anomalies may take on the disk; the oldest go first.
    csv
        Whether the samples of each watched process are written to a CSV file, too.
    csv_bytes
        What these files may take on the disk; the oldest go first.
    log_level
        One of :data:`LOG_LEVELS`.
    detection
        What ``detectors.yml`` and the key ``detection`` say, for the detector to read.
    """

    interval_s: float = 1.0
    follow_children: bool = True
    cpu: str = "bcc"
    max_targets: int = 256
    max_processes: int = 4096
    max_threads: int = 32_768
    packets: bool = False
    history_s: int = 3600
    history_days: int = 30
    history_bytes: int = 256 << 20
    csv: bool = False
    csv_bytes: int = 1 << 30
    log_level: str = "info"
    detection: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    line: int


def _number(low: float, high: float) -> Callable[[object], object]:
    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def _whole(low: int, high: int) -> Callable[[object], object]:
    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return check


def _size(low: int, high: int) -> Callable[[object], object]:
    def check(value: object) -> object:
        found = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if found is not None:
            value = round(float(found[1]) * _UNITS[found[2]])
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a size from {low >> 20} MiB to {high >> 40} TiB, like 256 MiB")
        return value

    return check


def _yes_no(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("yes or no")
    return value


def _one_of(*names: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return value

    return check


_SCHEMA: dict[str, Callable[[object], object]] = {
    "interval_s": _number(0.1, 3600),
    "follow_children": _yes_no,
    "cpu": _one_of(*CPU_SOURCES),
    "max_targets": _whole(1, 100_000),
    "max_processes": _whole(1, 65_536),
    "max_threads": _whole(1024, 4_194_304),
    "packets": _yes_no,
    "history_s": _whole(60, 604_800),
    "history_days": _whole(1, 3660),
    "history_bytes": _size(1 << 20, 1 << 40),
    "csv": _yes_no,
    "csv_bytes": _size(1 << 20, 1 << 40),
    "log_level": _one_of(*LOG_LEVELS),
}


class _Loader(yaml.SafeLoader):
    """The safe loader; its constructor is used node by node, so that each key keeps its line."""


class Merged:
    """The values of several files, later ones over earlier ones, and where each stands."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._places: dict[str, _Place] = {}

    def add(self, path: Path, under: str = "") -> None:
        """Merge one file in; its top is the key ``under`` where given.

        Raises
        ------
        ConfigError
            If it can't be read, is not YAML, or is not a mapping.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError("", (error.strerror or str(error)).lower(), "a readable file", str(path)) from None
        except UnicodeDecodeError as error:
            raise ConfigError("", f"byte {error.start} is not UTF-8", "text", str(path)) from None
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            if node is None:
                return
            if not isinstance(node, yaml.MappingNode):
                raise ConfigError("", "not a mapping", "KEY: VALUE lines", str(path), node.start_mark.line + 1)
            value = self._walk(loader, node, str(path), under)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 0
            column = f" at column {mark.column + 1}" if mark else ""
            raise ConfigError("", f"{error.problem or 'not YAML'}{column}", "valid YAML", str(path), line) from None
        except yaml.YAMLError as error:
            raise ConfigError("", str(error).replace("\n", " "), "valid YAML", str(path)) from None
        except RecursionError:
            raise ConfigError("", "nested too deeply, or within itself", "KEY: VALUE lines", str(path)) from None
        _merge(self.values, {under: value} if under else value)

    def place(self, key: str) -> tuple[str, int]:
        """Return file and line of ``key`` or of the nearest key above it; empty and 0 where it is nowhere."""
        while key:
            if key in self._places:
                return self._places[key].file, self._places[key].line
            key = key.rpartition(".")[0]
        return "", 0

    def remove(self, key: str) -> bool:
        """Forget the value of ``key``; returns whether there was one."""
        inside: Any = self.values
        *path, last = key.split(".")
        for name in path:
            inside = inside.get(name) if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or last not in inside:
            return False
        del inside[last]
        return True

    def _walk(self, loader: _Loader, node: yaml.MappingNode, file: str, prefix: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if isinstance(key, bool):
                key = str(key_node.value)  # YAML 1.1 reads the words on, off, yes and no so
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(prefix or "key", key, "a name as key", file, line)
            dotted = f"{prefix}.{key}" if prefix else key
            if key in out:
                raise ConfigError("", f"{dotted} given twice", "each key once", file, line)
            self._places[dotted] = _Place(file, line)
            if isinstance(value_node, yaml.MappingNode):
                out[key] = self._walk(loader, value_node, file, dotted)
            else:
                out[key] = _value(loader, value_node, dotted, file, line)
        return out


def _value(loader: _Loader, node: yaml.Node, key: str, file: str, line: int) -> object:
    try:
        return loader.construct_object(node, deep=True)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # PyYAML takes a form for a value without looking: 2026-13-45 for a date, !!int for a number
        text = node.value if isinstance(node, yaml.ScalarNode) else node.tag
        raise ConfigError(key, text, "a value that YAML knows", file, line) from None


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def files(directory: Path) -> Sequence[tuple[Path, str]]:
    """Return each file that is read, in order, and the key that it stands under; raises ConfigError."""
    try:
        if not directory.is_dir():
            raise ConfigError("", "no such directory", "the directory of the configuration", str(directory))
        return tuple(_files(directory))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError("", why, "a directory that can be read", str(error.filename or directory)) from None


def _files(directory: Path) -> Iterator[tuple[Path, str]]:
    if (directory / MAIN).exists():
        yield directory / MAIN, ""
    if (directory / DETECTORS).exists():
        yield directory / DETECTORS, "detection"
    drop_ins = directory / DROP_INS
    # a link that leads nowhere is there too; glob() says nothing of a directory that can't be read
    if drop_ins.is_symlink() or drop_ins.exists():
        for path in sorted(drop_ins.iterdir()):
            if path.suffix == ".yml":
                yield path, ""


def load(directory: Path, check_detection: Callable[[Mapping[str, Any]], object]) -> Config:
    """Return the configuration of ``directory``; what no file says has its default.

    Parameters
    ----------
    directory
        Holds ``osdetectord.yml``, ``detectors.yml`` and ``conf.d/*.yml``, each of which may be absent.
    check_detection
        Raises :class:`ConfigError` where the detector's part is wrong.

    Raises
    ------
    ConfigError
        At the first wrong value, with file, line, key, value and what was expected.
    """
    merged = Merged()
    for path, under in files(directory):
        merged.add(path, under)
    return parse(merged, check_detection)


def problems(directory: Path, check_detection: Callable[[Mapping[str, Any]], object]) -> list[ConfigError]:
    """Return everything that is wrong with the configuration of ``directory``; see :func:`load`."""
    merged, found = Merged(), []
    try:
        sources = files(directory)
    except ConfigError as error:
        return [error]
    for path, under in sources:
        try:
            merged.add(path, under)
        except ConfigError as error:
            found.append(error)
    # what is wrong is told and left out, until nothing is wrong with the rest
    while True:
        try:
            parse(merged, check_detection)
        except ConfigError as error:
            found.append(error)
            # detection names its keys without what they stand under
            keys = (error.key, f"detection.{error.key}")
            wrong = [key for key in keys if merged.place(key) == (error.file, error.line)]
            if not any(merged.remove(key) for key in wrong):
                return found
        else:
            return found


def parse(merged: Merged, check_detection: Callable[[Mapping[str, Any]], object]) -> Config:
    """Return the configuration that the merged values mean; see :func:`load`."""
    values = dict(merged.values)
    detection = values.pop("detection", None)
    if detection is None:
        detection = {}
    if not isinstance(detection, Mapping):
        raise ConfigError("detection", detection, "a mapping", *merged.place("detection"))
    parsed: dict[str, Any] = {"detection": detection}
    for key, value in values.items():
        if key not in _SCHEMA:
            raise ConfigError(key, value, f"one of the keys {', '.join([*_SCHEMA, 'detection'])}", *merged.place(key))
        try:
            parsed[key] = _SCHEMA[key](value)
        except ValueError as error:
            raise ConfigError(key, value, str(error), *merged.place(key)) from None
    try:
        check_detection(detection)
    except ConfigError as error:
        raise error.at(*merged.place(f"detection.{error.key}")) from None
    return Config(**parsed)


def show(config: Config) -> str:
    """Return the configuration as YAML, defaults included."""
    values: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(config)}
    values["detection"] = _plain(config.detection)
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(v) for v in value]
    return value
