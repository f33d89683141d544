"""The store: what was learnt of each program, in files that survive crashes and tell when they did not."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.logger import get_logger

MAGIC = b"osdetectord-state"
VERSION = 2
"""2: packed memory, and arrays that only some series have."""
SUFFIX = ".state"
MOST_FILES = 1000
"""Of programs; the one that was written longest ago goes first."""

logger = get_logger()


class _OtherVersionError(Exception):
    """A file that another version of this program wrote; nothing is wrong with it."""


class Store:
    """One file for each program: a line with version and checksum, then arrays as numpy's npz, never pickled.

    Parameters
    ----------
    directory
        Where the files are; made when first needed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, program: str) -> Path:
        """Return where the state of ``program`` is kept; a program's name may hold anything."""
        return self._directory / (sha256(program.encode("utf-8", "surrogateescape")).hexdigest()[:32] + SUFFIX)

    def write(self, program: str, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the state of a program as a whole; raises :class:`OSError` and leaves the old one."""
        payload = io.BytesIO()
        text = json.dumps({**meta, "program": program}).encode()
        np.savez(payload, **{"meta.json": np.frombuffer(text, np.uint8)}, **dict(arrays))
        body = payload.getvalue()
        head = b"%s %d %s\n" % (MAGIC, VERSION, sha256(body).hexdigest().encode())
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(program)
        if not path.exists():
            self._make_room()
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(head + body)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self, program: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Return what was written, or nothing; a damaged file is set aside and logged, one of another version is left
        until it is written again."""
        path = self.path(program)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("cannot read learnt state", path=str(path), error=str(error))
            return None
        try:
            return _parse(content)
        except _OtherVersionError as error:
            logger.info("learnt state is of another version, learning anew", path=str(path), reason=str(error))
            return None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            aside = path.with_suffix(".corrupt")
            logger.warning("learnt state is damaged, set aside", path=str(path), aside=str(aside), error=str(error))
            try:
                path.replace(aside)
            except OSError as failed:
                logger.warning("cannot set learnt state aside", path=str(path), error=str(failed))
            return None

    def _make_room(self) -> None:
        """Remove what leaves no room for one more program; what was set aside takes as much as a program."""
        with os.scandir(self._directory) as entries:
            found = [(entry.stat().st_mtime_ns, entry.path) for entry in entries if entry.is_file()]
        for _, path in sorted(found)[: max(0, len(found) - MOST_FILES + 1)]:
            os.unlink(path)


def _parse(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    head, _, body = content.partition(b"\n")
    words = head.split(b" ")
    if len(words) != 3 or words[0] != MAGIC:
        raise ValueError("not a state file")
    if words[1] != b"%d" % VERSION:
        raise _OtherVersionError(f"version {words[1].decode(errors='replace')}, expected {VERSION}")
    if sha256(body).hexdigest().encode() != words[2]:
        raise ValueError("checksum does not match")
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(arrays.pop("meta.json").tobytes())
    if not isinstance(meta, dict):
        raise ValueError("its description is not a mapping")
    return meta, arrays
