"""Frames of the detector's socket survive the way, and what is no frame is refused."""

import struct

import numpy as np
import pytest

from osdetectord.errors import WireError
from osdetectord.wire import MAX_HEADER_BYTES, Decoder, encode


def test_a_message_comes_back_whole_from_single_bytes():
    block = np.array([[1.5, np.nan], [-np.inf, 7.0], [0.0, 997.0]])
    data = encode("frame", {"series": [3, 5, 7]}, block)
    decoder = Decoder()
    messages = [message for byte in data for message in decoder.feed(bytes([byte]))]

    assert [message.type for message in messages] == ["frame"]
    assert messages[0].fields == {"series": [3, 5, 7]}
    np.testing.assert_array_equal(messages[0].block, block)


def test_two_messages_in_one_piece_come_back_as_two():
    data = encode("a", {}) + encode("b", {"n": 1})
    assert [message.type for message in Decoder().feed(data)] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack("<II", MAX_HEADER_BYTES + 1, 0), "over the bound"),
        (struct.pack("<II", 3, 0) + b"{a}", "not JSON"),
        (struct.pack("<II", 2, 0) + b"[]", "no type"),
        (struct.pack("<II", 12, 8) + b'{"type":"x"}' + bytes(8), "8 bytes for shape"),
        (struct.pack("<II", 27, 0) + b'{"type":"x","shape":[-1,0]}', "shape of x"),
        (struct.pack("<II", 20000, 0) + b"[" * 20000, "not JSON"),
    ],
)
def test_what_is_no_frame_is_refused(data, why):
    with pytest.raises(WireError, match=why):
        list(Decoder().feed(data))
