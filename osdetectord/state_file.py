"""A small JSON file that is replaced as a whole, checked when read, and set aside when it is corrupt."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_VERSION = 1


class Corrupt(Exception):
    """The file is not what was written; it was set aside under the name that the message ends with."""


def write(path: Path, value: object) -> None:
    """Replace the file by ``value`` (JSON) so that a crash leaves the old one or the new one.

    Raises
    ------
    OSError
        If the directory can't be written or is full; the old file stands then.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    record = {"version": _VERSION, "sha256": hashlib.sha256(text.encode()).hexdigest(), "value": value}
    part = path.with_name(f".{path.name}.new")
    with part.open("w", encoding="utf-8") as file:
        json.dump(record, file, sort_keys=True, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read(path: Path) -> Any:
    """Return what was written last, or None where there is no file.

    Raises
    ------
    Corrupt
        If it is not whole; it stands as ``NAME.corrupt`` then, and there is no file any more.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        record = json.loads(data)
        value = record["value"]
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        if record["version"] != _VERSION or record["sha256"] != hashlib.sha256(text.encode()).hexdigest():
            raise ValueError("checksum or version differ")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        aside = path.with_name(path.name + ".corrupt")
        path.replace(aside)
        raise Corrupt(f"{path.name} is not whole ({error}); set aside as {aside}") from None
    return value
