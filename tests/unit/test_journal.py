"""A record reaches the journal's socket with its fields, and stderr when there is no journal."""

import io
import json
import os
import socket
import struct
from pathlib import Path

import pytest

from osdetectord.journal import Journal, encode


@pytest.fixture
def journald(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        server.settimeout(5)
        yield server, str(tmp_path / "socket")


def test_fields_are_encoded_as_the_native_protocol_says():
    data = encode({"message": "one", "Odd-Name": 5, "_trusted": "x", "none": None, "TEXT": "two\nlines"})
    length = struct.pack("<Q", 9)
    assert data == b"MESSAGE=one\nODD_NAME=5\nTRUSTED=x\nTEXT\n" + length + b"two\nlines\n"


def test_a_hostile_value_makes_no_field_of_its_own():
    data = encode({"OSDETECTOR_PROCESS": "sh\nPRIORITY=0\n[7]"})
    assert data.startswith(b"OSDETECTOR_PROCESS\n" + struct.pack("<Q", 17)) and data.count(b"PRIORITY=0") == 1


def test_a_record_arrives_with_priority_and_identifier(journald):
    server, path = journald
    Journal(path).send("said", 4, {"OSDETECTOR_SCORE": 9.1})
    got = server.recv(65536).splitlines()
    assert got == [b"MESSAGE=said", b"PRIORITY=4", b"SYSLOG_IDENTIFIER=osdetectord", b"OSDETECTOR_SCORE=9.1"]


def test_a_record_of_thirty_megabytes_arrives_as_a_sealed_file(journald):
    server, path = journald
    text = "x" * (30 << 20)
    Journal(path).send("said", 4, {"BIG": text})
    _, descriptors, _, _ = socket.recv_fds(server, 16, 1)
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)
        assert b"BIG=" + text.encode() in file.read()


def test_without_a_journal_the_record_is_one_line_of_json(tmp_path):
    out = io.StringIO()
    Journal(str(tmp_path / "none"), out).send("said\nit", 4, {"A": 1, "NONE": None})
    (line,) = out.getvalue().splitlines()
    assert json.loads(line) == {"MESSAGE": "said\nit", "PRIORITY": 4, "A": 1}


def test_a_journal_that_comes_back_is_used_again(journald, tmp_path):
    server, path = journald
    moved = tmp_path / "away"
    Path(path).rename(moved)
    out = io.StringIO()
    journal = Journal(path, out)
    journal.send("lost", 6, {})
    moved.rename(path)
    journal.send("back", 6, {})
    assert "lost" in out.getvalue() and b"MESSAGE=back" in server.recv(4096)
