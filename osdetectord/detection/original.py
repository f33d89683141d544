"""The original OSdetector's ``compressed-sensing/detector-config.yml``: its keys, as tuning of our evidence."""

from __future__ import annotations

from collections.abc import Mapping

from osdetectord.errors import ConfigError

Leaf = type | tuple[type, ...]
Tree = Mapping[str, "Leaf | Tree"]

_WINDOW: Tree = {"window": int, "stride": int}
KEYS: Tree = {
    "sample_score_method": {"lesinn": {"phi": int, "t": int}, "moving_average": _WINDOW},
    "anomaly_scoring": {"anomaly_score_example": {"percentage": (int, float), "topn": int}},
    "global": {"random_state": int},
    "data": {
        "path": str,
        "label_path": str,
        "save_path": str,
        "row_begin": int,
        "row_end": int,
        "col_begin": int,
        "col_end": int,
        "header": (int, type(None)),
        "rec_windows_per_cycle": int,
        "reconstruct": _WINDOW,
        "detect": _WINDOW,
    },
    "detector_arguments": {
        "workers": int,
        "anomaly_scoring": str,
        "sample_score_method": str,
        "cluster_threshold": (int, float),
        "sample_rate": (int, float),
        "latest_windows": int,
        "scale": (int, float),
        "rho": (int, float),
        "sigma": (int, float),
        "retry_limit": int,
        "without_grouping": (str, type(None)),
        "without_localize_sampling": bool,
    },
}
"""Every key of that file and its type.  Those that say where files are, or how its solver goes about it, have no
counterpart here and are accepted without effect."""

MEANING = {
    ("data", "reconstruct", "window"): "window",
    ("data", "reconstruct", "stride"): "every",
    ("detector_arguments", "sample_rate"): "sample_rate",
}
"""Where a key of the original is a key of the evidence ``compressed_sensing``."""


def tuning(values: Mapping[str, object]) -> dict[str, object]:
    """Return what the original's keys among ``values`` say of our evidence.

    Raises
    ------
    ConfigError
        For a key below them that the original does not know, or a value of another type.
    """
    found: dict[str, object] = {}
    for key in values:
        if key in KEYS:
            _walk((key,), values[key], KEYS[key], found)
    return found


def _walk(path: tuple[str, ...], value: object, expected: Leaf | Tree, found: dict[str, object]) -> None:
    name = ".".join(path)
    if isinstance(expected, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(name, value, f"a mapping of {', '.join(expected)}")
        for key, below in value.items():
            if key not in expected:
                raise ConfigError(f"{name}.{key}", below, f"one of the keys {', '.join(expected)}")
            _walk((*path, key), below, expected[key], found)
        return
    kinds = expected if isinstance(expected, tuple) else (expected,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(name, value, " or ".join(_WORDS[kind] for kind in kinds))
    if path in MEANING:
        found[MEANING[path]] = value


_WORDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}
