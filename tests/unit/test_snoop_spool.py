"""What is put into a spool comes out of it in order, and takes no more room than what waits."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading

import pytest

from osdetectord.snoop.spool import Spool, taken


@pytest.fixture
def spool(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spool = Spool()
    # the other process's end of the pipe, which its own end closes
    spool.other = os.dup(spool.sizes)
    yield spool
    spool.close()
    os.close(spool.other)


def size(spool: Spool) -> int:
    return os.fstat(spool.reader).st_size


def test_things_come_out_as_they_were_put(spool):
    things = [[b"a"], [b"", b"bc", b"d" * 100_000], [b"e" * 3]]
    for thing in things:
        spool.put(thing)
    waiting = spool.waiting
    spool.end()

    assert list(taken(spool.reader, spool.other)) == [b"".join(thing) for thing in things]
    assert waiting == 100_006


def test_a_spool_that_is_taken_begins_anew(spool):
    out = taken(spool.reader, spool.other)
    for thing in (b"first", b"second", b"third"):
        spool.put([thing])
        assert size(spool) == len(thing)
        assert next(out) == thing
        assert spool.waiting == 0


def test_more_things_than_can_be_told_at_once_all_come_out(spool):
    """The pipe that tells of them is full after eight thousand."""
    count = 20_011
    for number in range(count):
        spool.put([b"%d" % number])
    ending = threading.Thread(target=spool.end)
    ending.start()

    assert list(taken(spool.reader, spool.other)) == [b"%d" % number for number in range(count)]
    ending.join()


def test_it_has_no_name(spool, tmp_path):
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_not_there_and_what_follows_is(spool):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    spool.put([b"a" * 1000])
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OSError) as raised:
            spool.put([b"b" * 500, b"c" * 5000])
        spool.put([b"d" * 900])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    spool.end()

    assert raised.value.errno == errno.EFBIG
    assert list(taken(spool.reader, spool.other)) == [b"a" * 1000, b"d" * 900]
