"""Settings of detection, parsed once from the mapping that ``detectors.yml`` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from osdetectord.detection import original
from osdetectord.detection.evidences import DEFAULT_ON, REGISTRY, evidence_class
from osdetectord.errors import ConfigError

KEYS = ("budget", "warmup_s", "memory_s", "threshold", "evidences")
BUDGET, WARMUP_S, MEMORY_S = 1.0, 60.0, 2400.0
THRESHOLDS = ("blocks", "spot", "dspot")
ORIGINAL = "compressed_sensing"
"""The evidence that the original's keys speak of."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to detect.

    Parameters
    ----------
    budget
        Expected false alarms per target and day: the one knob.
    warmup_s
        Seconds before the first score; at least 30 rows.
    memory_s
        How much of its own past a process is compared with.
    threshold
        How the alarm level is found, one of ``THRESHOLDS``: from block maxima, or by SPOT or DSPOT.
    evidences
        Name of each evidence that is on, with its tuning.
    """

    budget: float = BUDGET
    warmup_s: float = WARMUP_S
    memory_s: float = MEMORY_S
    threshold: str = THRESHOLDS[0]
    evidences: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: _evidences({}))

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Settings:
        """Return settings from a mapping; the keys of the original's ``detector-config.yml`` are taken too.

        Raises
        ------
        ConfigError
            Names key, value and what was expected.
        """
        for key in values:
            if key not in KEYS and key not in original.KEYS:
                raise ConfigError(str(key), values[key], f"one of the keys {', '.join(KEYS)}")
        evidences = values.get("evidences", {})
        if not isinstance(evidences, Mapping):
            raise ConfigError("evidences", evidences, "a mapping of evidence to its tuning")
        inherited = original.tuning(values)
        if any(key in original.KEYS for key in values):
            evidences = {ORIGINAL: _merged(inherited, evidences.get(ORIGINAL, True)), **_without(evidences, ORIGINAL)}
        return cls(
            budget=_number("budget", values.get("budget", BUDGET), 1e-4, 1e4),
            warmup_s=_number("warmup_s", values.get("warmup_s", WARMUP_S), 30.0, 1e8),
            memory_s=_number("memory_s", values.get("memory_s", MEMORY_S), 120.0, 1e8),
            threshold=_one_of("threshold", values.get("threshold", THRESHOLDS[0]), THRESHOLDS),
            evidences=_evidences(evidences),
        )

    @staticmethod
    def only(names: Sequence[str], evidences: object) -> dict[str, object]:
        """Return ``evidences`` changed so that just ``names`` are on, each with the tuning it has there."""
        tuned = evidences if isinstance(evidences, Mapping) else {}
        if not names:
            raise ConfigError("evidences", "", f"at least one of the evidences {', '.join(REGISTRY)}")
        off: dict[str, object] = dict.fromkeys(REGISTRY, False)
        return {**off, **{name: _switched_on(tuned.get(name)) for name in names}}


def _without(values: Mapping[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in values.items() if name != key}


def _switched_on(given: object) -> object:
    """Return an evidence's value with the same tuning, on even where it was off."""
    if isinstance(given, Mapping):
        return _without(given, "on")
    return True if given is False or given is None else given


def _merged(tuning: Mapping[str, object], given: object) -> object:
    """Return an evidence's value with ``tuning`` below what is given for it."""
    if isinstance(given, Mapping):
        return {**tuning, **_without(given, "on")} if given.get("on", True) is not False else False
    return dict(tuning) if given is True or given is None else given


def _number(key: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(key, value, f"a number from {low:g} to {high:g}")
    return float(value)


def _one_of(key: str, value: object, names: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in names:
        raise ConfigError(key, value, f"one of {', '.join(names)}")
    return value


def _evidences(values: Mapping[str, object]) -> dict[str, Mapping[str, float]]:
    for name in values:
        if name not in REGISTRY:
            raise ConfigError(f"evidences.{name}", values[name], f"one of the evidences {', '.join(REGISTRY)}")
    on: dict[str, Mapping[str, float]] = {}
    for name in REGISTRY:
        given = values.get(name, name in DEFAULT_ON)
        if given is False:
            continue
        if given is True or given is None:
            given = {}
        if not isinstance(given, Mapping):
            raise ConfigError(f"evidences.{name}", given, "true, false or a mapping of tuning keys")
        wanted = given.get("on", True)
        if not isinstance(wanted, bool):
            raise ConfigError(f"evidences.{name}.on", wanted, "true or false")
        if wanted:
            on[name] = _tuning(name, _without(given, "on"))
    if not on:
        raise ConfigError("evidences", dict(values), "at least one evidence that is on")
    return on


def _tuning(name: str, given: Mapping[str, object]) -> dict[str, float]:
    options = evidence_class(name).options
    for key in given:
        if key not in options:
            expected = f"one of the keys {', '.join(options)}" if options else "no key"
            raise ConfigError(f"evidences.{name}.{key}", given[key], expected)
    return {
        key: _number(f"evidences.{name}.{key}", given.get(key, default), low, high)
        for key, (default, low, high) in options.items()
    }
