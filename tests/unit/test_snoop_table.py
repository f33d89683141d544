"""CSV files of snooping: whole rows below a header, whatever the disk says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from osdetectord.snoop.table import CannotWrite, CsvFile, text_of

COLUMNS = ("TIME", "COMM")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_has_its_header_at_once_and_an_end(tmp_path, told):
    file = CsvFile(tmp_path / "a/b.csv", COLUMNS, told.append)
    assert (tmp_path / "a/b.csv").read_text() == "TIME,COMM\n"
    file.add([(1, "x"), (2, "y")])
    file.end()

    assert (tmp_path / "a/b.csv").read_text() == "TIME,COMM\n1,x\n2,y\nEND\n"
    assert (file.rows, file.lost, told) == (2, 0, [])


def test_replaces_an_older_file_only_when_it_has_a_header(small_disk, told):
    old = small_disk / "a.csv"
    old.write_text("old\n")
    (small_disk / "full").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    with pytest.raises(CannotWrite, match=r"a\.csv: can't be written: no space left on device"):
        CsvFile(old, COLUMNS, told.append)

    assert old.read_text() == "old\n"
    assert sorted(path.name for path in small_disk.iterdir()) == ["a.csv", "full"]


def test_a_place_that_can_not_be_written_is_refused(tmp_path, told):
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"file/x\.csv: can't be written: not a directory"):
        CsvFile(tmp_path / "file/x.csv", COLUMNS, told.append)
    with pytest.raises(CannotWrite, match=r"/dev/full: can't be written: no space left on device"):
        CsvFile(Path("/dev/full"), COLUMNS, told.append)
    with pytest.raises(CannotWrite, match="can't be written"):
        CsvFile(tmp_path, COLUMNS, told.append)


def test_a_full_disk_costs_whole_rows_and_is_said_once(small_disk, told):
    file = CsvFile(small_disk / "a.csv", COLUMNS, told.append)
    row = ("1", "x" * 997)
    for _ in range(100):
        file.add([row])
    kept = file.rows
    assert 50 < kept < 66
    assert file.lost == 100 - kept
    assert told == [f"{small_disk}/a.csv: no space left on device: rows are lost"]
    assert (small_disk / "a.csv").read_bytes() == text_of([COLUMNS, *[row] * kept])


def test_is_written_again_when_there_is_room(small_disk, told):
    blocker = small_disk / "full"
    file = CsvFile(small_disk / "a.csv", COLUMNS, told.append)
    blocker.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    rows = [("1", "y" * 997)] * 7
    file.add(rows)
    blocker.unlink()
    file.add(rows[:2])
    file.end()

    assert (small_disk / "a.csv").read_bytes() == text_of([COLUMNS, *rows[:2], ["END"]])
    assert told[1] == f"{small_disk}/a.csv: written again, 7 rows are missing"


@pytest.mark.parametrize(
    ("name", "written"),
    [("a,b", b'"a,b"'), ('a"b', b'"a""b"'), ("a\nb", b'"a\nb"'), ("a\udcffb", b"a\\udcffb"), ("ä", "ä".encode())],
)
def test_names_are_kept_apart_from_the_table(name, written):
    assert text_of([(1, name)]) == b"1," + written + b"\n"
