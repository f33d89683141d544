"""Learnt state survives crashes, and damage to it is noticed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from osdetectord.detection import store as module
from osdetectord.detection.store import SUFFIX, VERSION, Store

ARRAYS = {"scale/centre": np.arange(7.0), "life/seen": np.array(61, np.int64), "none": np.zeros((0, 5))}


def test_what_was_written_is_read_again(tmp_path):
    store = Store(tmp_path / "made" / "when needed")
    store.write("exe /usr/bin/redis-server *:6379", {"interval_s": 1.0}, ARRAYS)
    meta, arrays = store.read("exe /usr/bin/redis-server *:6379")
    assert meta == {"interval_s": 1.0, "program": "exe /usr/bin/redis-server *:6379"}
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_a_program_that_was_never_seen_has_no_state(tmp_path):
    assert Store(tmp_path).read("unit:new.service") is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b\0c", "\udcff\udc80", "x" * 10000, ""])
def test_any_name_of_a_program_stays_within_the_directory(tmp_path, name):
    store = Store(tmp_path)
    assert store.path(name).parent == tmp_path
    assert len(store.path(name).name) < 64


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: b"",
        lambda content: b"something else\n" + content,
    ],
)
def test_a_damaged_file_is_set_aside_and_not_believed(tmp_path, damage):
    store = Store(tmp_path)
    store.write("unit:a.service", {}, ARRAYS)
    path = store.path("unit:a.service")
    path.write_bytes(damage(path.read_bytes()))
    assert store.read("unit:a.service") is None
    assert not path.exists()
    assert path.with_suffix(".corrupt").exists()


def test_a_file_of_another_version_is_left_alone_and_learnt_anew(tmp_path):
    store = Store(tmp_path)
    store.write("unit:a.service", {}, ARRAYS)
    path = store.path("unit:a.service")
    old = path.read_bytes().replace(b"state %d " % VERSION, b"state 1 ", 1)
    path.write_bytes(old)
    assert store.read("unit:a.service") is None
    assert path.read_bytes() == old
    store.write("unit:a.service", {}, ARRAYS)
    assert store.read("unit:a.service") is not None


def test_there_are_no_more_files_than_allowed_and_the_one_written_longest_ago_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_FILES", 3)
    (tmp_path / "function").mkdir()
    store = Store(tmp_path)
    for turn, program in enumerate(("a", "b", "c", "a", "d")):
        store.write(program, {}, ARRAYS)
        os.utime(store.path(program), ns=(turn, turn))
    assert [program for program in "abcd" if store.read(program) is not None] == ["a", "c", "d"]
    assert (tmp_path / "function").is_dir()


def test_objects_are_never_unpickled(tmp_path):
    store = Store(tmp_path)
    store.write("unit:a.service", {}, {"evil": np.array([{"a": 1}], object)})
    assert store.read("unit:a.service") is None


def test_a_write_that_fails_leaves_the_old_state(tmp_path):
    store = Store(tmp_path)
    store.write("unit:a.service", {"turn": 1}, ARRAYS)
    (tmp_path / store.path("unit:a.service").name).with_suffix(".part").mkdir()
    with pytest.raises(OSError):
        store.write("unit:a.service", {"turn": 2}, ARRAYS)
    assert store.read("unit:a.service")[0]["turn"] == 1
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".part", SUFFIX]
