"""Locations of probes as people write them."""

from __future__ import annotations

import pytest

from osdetectord.errors import InvalidArgument
from osdetectord.probing.location import Location


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("libc:malloc", Location("libc", "malloc")),
        ("/usr/sbin/nginx:main", Location("/usr/sbin/nginx", "main")),
        (":main", Location("", "main")),
        ("redis-server:zmalloc", Location("redis-server", "zmalloc")),
        (" shop : main ", Location("shop", "main")),
        ("shop:ns::f", Location("shop", "ns::f")),
        (":ns::T<a::b>::f(c::d const&)", Location("", "ns::T<a::b>::f(c::d const&)")),
        ("/bin/x:0x1a2B", Location("/bin/x", "", 0x1A2B)),
        (":0x0", Location("", "", 0)),
    ],
)
def test_locations_are_read(text: str, location: Location) -> None:
    assert Location.parse(text) == location
    assert Location.parse(str(location)) == location


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected BINARY:SYMBOL"),
        ("main", "has no colon"),
        ("ns::f", "has no colon"),
        ("libc:", "names no function"),
        ("bin/x:f", "neither an absolute path nor a name"),
        ("../x:f", "neither an absolute path nor a name"),
        ("x:0xzz", "0xzz is not a hexadecimal address"),
        ("x:0x", "0x is not a hexadecimal address"),
        ("x:0xffffffffffffffff", "beyond user memory"),
        ("x:f\n", "expected BINARY:SYMBOL"),
        ("x:\x00", "expected BINARY:SYMBOL"),
        ("x" * 5000 + ":f", "expected BINARY:SYMBOL"),
    ],
)
def test_what_is_no_location_is_told(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Location.parse(text)
