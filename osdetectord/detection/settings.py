"""Settings of detection, parsed once from the mapping that ``detectors.yml`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from osdetectord.detection.evidences import DEFAULT_ON, REGISTRY, evidence_class
from osdetectord.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Settings:
    """How to detect.

    Parameters
    ----------
    budget
        Expected false alarms per target and day: the one knob.
    warmup_s
        Seconds before the first score; rows count where a row is longer than a second.
    memory_s
        How much of its own past a process is compared with.
    evidences
        Name of each evidence that is on, with its tuning.
    """

    budget: float = 1.0
    warmup_s: float = 60.0
    memory_s: float = 2400.0
    evidences: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: {n: {} for n in DEFAULT_ON})

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Settings:
        """Return settings from a mapping; raise :class:`ConfigError` naming key, value and what was expected."""
        known = ("budget", "warmup_s", "memory_s", "evidences")
        for key in values:
            if key not in known:
                raise ConfigError(key, values[key], f"one of the keys {', '.join(known)}")
        evidences = _evidences(values.get("evidences", {}))
        return cls(
            budget=_number("budget", values.get("budget", 1.0), 1e-4, 1e4),
            warmup_s=_number("warmup_s", values.get("warmup_s", 60.0), 30.0, 86400.0),
            memory_s=_number("memory_s", values.get("memory_s", 2400.0), 120.0, 1e6),
            evidences=evidences,
        )


def _number(key: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(key, value, f"a number from {low:g} to {high:g}")
    return float(value)


def _evidences(values: object) -> dict[str, dict[str, float]]:
    if not isinstance(values, Mapping):
        raise ConfigError("evidences", values, "a mapping of evidence to its tuning")
    for name in values:
        if name not in REGISTRY:
            raise ConfigError(f"evidences.{name}", values[name], f"one of the evidences {', '.join(REGISTRY)}")
    on = {}
    for name in REGISTRY:
        given = values.get(name, {} if name in DEFAULT_ON else False)
        if given is False or given is None:
            continue
        if given is True:
            given = {}
        if not isinstance(given, Mapping):
            raise ConfigError(f"evidences.{name}", given, "on, off or a mapping of tuning keys")
        tuning = dict(given)
        if not tuning.pop("on", True):
            continue
        options = evidence_class(name).options
        for key in tuning:
            if key not in options:
                expected = f"one of the keys {', '.join(options)}" if options else "no key"
                raise ConfigError(f"evidences.{name}.{key}", tuning[key], expected)
        on[name] = {
            key: _number(f"evidences.{name}.{key}", tuning.get(key, default), low, high)
            for key, (default, low, high) in options.items()
        }
    return on
