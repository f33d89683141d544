"""Remembering: what is watched is written down, and watched again by the next daemon."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from osdetectord import record, state_file, wall
from osdetectord.errors import OsdetectorError
from osdetectord.logger import get_logger
from osdetectord.record import Record
from osdetectord.trouble import Trouble
from osdetectord.watching import Watching

WATCHES = "watches.json"

logger = get_logger()


class Remembering:
    """Writes the watches and reads them back.

    Parameters
    ----------
    directory
        Where the file stands; None remembers nothing.
    watching
        What is watched.
    disk
        Writes, as that may take a while.
    tell
        Sends a record to the journal.
    """

    def __init__(
        self, directory: Path | None, watching: Watching, disk: Executor, tell: Callable[[Record], None]
    ) -> None:
        self._path = directory / WATCHES if directory else None
        self._watching, self._disk, self._tell = watching, disk, tell
        self._unsaved = Trouble("the watches are saved again")

    async def restore(self) -> None:
        """Watch again what was watched, and say for how long nobody did."""
        if self._path is None:
            return
        try:
            saved = state_file.read(self._path)
        except state_file.Corrupt as error:
            logger.error("the watches are lost: %s", error)
            return
        if saved is None:
            return
        self._watching.next_number = int(saved.get("next_number", 1))
        blind_s = max(0.0, (wall.now_us() - int(saved["alive_us"])) / 1e6)
        back = []
        for one in saved["targets"]:
            try:
                back.append(str((await self._watching.restore(one)).spec))
            except OsdetectorError as error:
                logger.warning("%s is not watched any more: %s", one.get("spec"), error)
        if saved["targets"]:
            fields = {"MESSAGE_ID": record.BLIND_TIME, "OSDETECTOR_BLIND_S": f"{blind_s:.1f}"}
            text = f"watching {' '.join(back) or 'nothing'} again; was blind for {blind_s:.1f} s"
            self._tell(Record(text, record.NOTICE, fields))

    def save(self) -> None:
        """Write down what is watched, and that we were alive."""
        if self._path is None:
            return
        value = {
            "alive_us": wall.now_us(),
            "next_number": self._watching.next_number,
            "targets": self._watching.saved(),
        }
        self._disk.submit(self._write, self._path, value)

    def _write(self, path: Path, value: object) -> None:
        try:
            state_file.write(path, value)
        except OSError as error:
            self._unsaved.met("the watches can't be saved in %s: %s", path.parent, error.strerror)
        else:
            self._unsaved.passed()
