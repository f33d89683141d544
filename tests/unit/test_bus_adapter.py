"""What the adapter relies on in dbus-next is there, and its faults are cured."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import dbus_next
import pytest
from dbus_next._private.address import parse_address
from dbus_next._private.marshaller import Marshaller
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.signature import SignatureTree, Variant

from osdetectord.bus import adapter, body
from osdetectord.errors import InvalidArgument, Unsupported

SOURCE = Path(adapter.__file__).parents[1]


def test_the_installed_library_is_the_pinned_one():
    adapter.check_version()


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(adapter, "_version", "0.3.0")

    with pytest.raises(Unsupported, match=r"dbus-next 0\.3\.0 is installed, 0\.2\.3 is needed"):
        adapter.check_version()


def test_each_private_name_that_is_relied_on_is_there():
    reader = Unmarshaller(None)
    assert list(inspect.signature(Unmarshaller.__init__).parameters) == ["self", "stream", "sock"]
    assert callable(reader.read_argument)
    assert callable(reader.read_signature)
    assert callable(reader.readers["v"])
    assert (reader.buf, reader.offset, reader.endian) == (bytearray(), 0, None)
    assert list(inspect.signature(Marshaller.__init__).parameters) == ["self", "signature", "body"]
    assert Marshaller("y", [7]).marshall() == b"\7"
    assert isinstance(SignatureTree._cache, dict)
    assert [type_.signature for type_ in SignatureTree._get("sa{sv}").types] == ["s", "a{sv}"]
    assert parse_address("unix:path=/x") == [("unix", {"path": "/x"})]


def test_only_the_adapter_imports_the_library():
    importing = re.compile(r"^\s*(from|import) dbus_next\b", re.MULTILINE)
    importers = [path.name for path in SOURCE.rglob("*.py") if importing.search(path.read_text())]

    assert importers == ["adapter.py"]


def test_what_is_encoded_is_decoded():
    values = ["é", 7, {"a": Variant("t", 1 << 63), "b": Variant("as", ["x", ""])}]
    data = adapter.encode("sua{sv}", values)

    assert adapter.decode("sua{sv}", data) == values


def test_signatures_of_strangers_are_not_kept():
    strange = Variant("a(ybnq)", [])
    data = adapter.encode("v", [strange])
    SignatureTree._cache.pop("a(ybnq)", None)

    with pytest.raises(adapter.Undecodable, match=r"a\(ybnq\)"):
        adapter.decode("v", data)
    assert "a(ybnq)" not in SignatureTree._cache


def test_a_body_cut_anywhere_is_undecodable():
    data = adapter.encode("sa{sv}", ["abc", {"limit": Variant("u", 7)}])
    for size in range(len(data)):
        with pytest.raises(adapter.Undecodable):
            adapter.decode("sa{sv}", data[:size])


def test_a_value_of_another_type_is_our_own_fault_and_said():
    with pytest.raises(ValueError, match="signature u"):
        adapter.encode("u", ["x"])


@pytest.mark.parametrize(
    "address, names",
    [
        ("unix:path=/run/dbus/system_bus_socket", ["/run/dbus/system_bus_socket"]),
        ("unix:abstract=/tmp/x,guid=ab;tcp:host=a,port=1;unix:path=/y%20z", ["\0/tmp/x", "/y z"]),
    ],
)
def test_an_address_names_sockets(address, names):
    assert adapter.unix_address(address) == names


@pytest.mark.parametrize("address", ["", "x", "tcp:host=localhost,port=7", "unix:path", "unix:path=/a\x1b"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InvalidArgument, match="bus address"):
        adapter.unix_address(address)


def test_bodies_put_together_from_parts_are_what_the_library_would_write():
    rows = [{}, {"a": Variant("s", "x")}, {"bc": Variant("t", 7), "d": Variant("ad", [0.5])}, {}]
    objects = {f"/a/{'b' * n}": {"i.f": row} for n, row in enumerate(rows, 1)}
    series = {"x": ([1, 2, 3], [0.5, -1.0, 2.0]), "longer name": ([], [])}

    for some in ([], rows[1:2], rows):
        assert body.join_rows(map(body.row, some)) == adapter.encode("aa{sv}", [some])
    for count in range(len(objects) + 1):
        some_objects = dict(list(objects.items())[:count])
        joined = body.join_pairs(body.pair(path, interfaces) for path, interfaces in some_objects.items())
        assert joined == adapter.encode("a{oa{sa{sv}}}", [some_objects])
    for some_series in ({}, series):
        as_lists = {name: list(map(list, both)) for name, both in some_series.items()}
        assert body.series(some_series) == adapter.encode("a{s(atad)}", [as_lists])


def test_a_gap_in_a_series_stays_one():
    ((_times, values),) = adapter.decode("a{s(atad)}", body.series({"x": ([1], [math.nan])}))[0].values()

    assert math.isnan(values[0])


def test_the_library_is_the_one_of_the_system():
    assert dbus_next.__file__.startswith("/usr/lib/python3/")
