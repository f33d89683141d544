"""A state file is the old one or the new one, never half of one."""

import json

import pytest

from osdetectord import state_file


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "watches.json"
    assert state_file.read(path) is None
    state_file.write(path, {"targets": [1, "zwei", None]})
    assert state_file.read(path) == {"targets": [1, "zwei", None]}
    assert [p.name for p in tmp_path.iterdir()] == ["watches.json"]


@pytest.mark.parametrize("damage", ["cut", "flip", "version", "list", "binary"])
def test_a_corrupt_file_is_set_aside_and_said(tmp_path, damage):
    path = tmp_path / "watches.json"
    state_file.write(path, {"n": 997})
    text = path.read_text()
    damaged = {
        "cut": text[:-5].encode(),
        "flip": text.replace("997", "998").encode(),
        "version": json.dumps({**json.loads(text), "version": 99}).encode(),
        "list": b"[]",
        "binary": b"\xff\x00\xfe",
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(
        state_file.Corrupt, match=r"watches\.json is not whole .* set aside as .*watches\.json\.corrupt"
    ):
        state_file.read(path)
    assert not path.exists() and (tmp_path / "watches.json.corrupt").read_bytes() == damaged
    assert state_file.read(path) is None


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "watches.json"
    state_file.write(path, 1)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        state_file.write(path, 2)
    monkeypatch.undo()
    assert state_file.read(path) == 1
