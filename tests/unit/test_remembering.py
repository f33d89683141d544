"""The watches are written down and read back, and a disk that takes nothing is said once."""

import asyncio
from concurrent.futures import Future

from structlog.testing import capture_logs

from osdetectord import record, state_file
from osdetectord.errors import NoSuchProcess
from osdetectord.remembering import WATCHES, Remembering
from osdetectord.target import parse_spec


class Disk:
    """Does at once what it is given."""

    def submit(self, work, *arguments):
        work(*arguments)
        return Future()


class Watching:
    """Restores every pid but 43."""

    next_number = 1

    def saved(self):
        return [{"spec": "pid:42", "number": 5}, {"spec": "pid:43", "number": 6}]

    async def restore(self, saved):
        if saved["spec"] == "pid:43":
            raise NoSuchProcess("no process 43")
        target = type("Target", (), {})()
        target.spec = parse_spec(saved["spec"])
        return target


def test_what_was_watched_is_watched_again_and_the_blind_time_is_told(tmp_path):
    first, told = Watching(), []
    first.next_number = 7
    Remembering(tmp_path, first, Disk(), told.append).save()
    second = Watching()
    with capture_logs() as logs:
        asyncio.run(Remembering(tmp_path, second, Disk(), told.append).restore())
    (entry,) = told
    assert entry.fields["MESSAGE_ID"] == record.BLIND_TIME and entry.message.startswith("watching pid:42 again; was bl")
    assert second.next_number == 7 and [log["log_level"] for log in logs] == ["warning"]


def test_without_a_place_or_a_file_nothing_is_remembered(tmp_path):
    told = []
    for directory in (None, tmp_path):
        remembering = Remembering(directory, Watching(), Disk(), told.append)
        asyncio.run(remembering.restore())
    assert told == [] and not (tmp_path / WATCHES).exists()


def test_a_file_that_is_not_whole_is_set_aside_and_said(tmp_path):
    (tmp_path / WATCHES).write_text("{")
    with capture_logs() as logs:
        asyncio.run(Remembering(tmp_path, Watching(), Disk(), [].append).restore())
    assert logs[0]["log_level"] == "error" and (tmp_path / f"{WATCHES}.corrupt").read_text() == "{"


def test_a_full_disk_is_said_once_and_once_when_there_is_room_again(tmp_path, monkeypatch):
    remembering = Remembering(tmp_path, Watching(), Disk(), [].append)

    def full(path, value):
        raise OSError(28, "No space left on device")

    with capture_logs() as logs:
        with monkeypatch.context() as patched:
            patched.setattr(state_file, "write", full)
            for _ in range(3):
                remembering.save()
        remembering.save()
        remembering.save()
    assert [log["log_level"] for log in logs] == ["error", "info"]
    assert state_file.read(tmp_path / WATCHES)["targets"][0]["spec"] == "pid:42"
