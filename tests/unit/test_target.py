"""A specification has one canonical string, and a wrong one says what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osdetectord.errors import InvalidArgument
from osdetectord.target import SpecKind, parse_spec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1234", "pid:1234"),
        ("pid:0007", "pid:7"),
        ("unit:nginx", "unit:nginx.service"),
        ("unit:user@1000.service", "unit:user@1000.service"),
        ("unit:system.slice", "unit:system.slice"),
        ("cgroup:/system.slice/", "cgroup:/system.slice"),
        ("comm:redis-server", "comm:redis-server"),
        ("comm:a-name-longer-than-fifteen", "comm:a-name-longer-t"),
        ("comm:ééééééééé", "comm:ééééééé"),
        ("exe:/usr/sbin/nginx", "exe:/usr/sbin/nginx"),
        ("user:www-data", "user:www-data"),
    ],
)
def test_a_specification_has_one_canonical_string(text, canonical):
    assert str(parse_spec(text)) == canonical
    assert str(parse_spec(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("abc", "'abc' is neither a pid nor one of"),
        ("", "is neither a pid"),
        ("pid:0", "no pid between"),
        ("pid:4194305", "no pid between"),
        ("pid:-1", "no pid between"),
        ("²", "neither a pid"),
        ("nit:x", "begins with 'nit'"),
        ("unit:a b", "no unit name"),
        ("unit:", "no unit name"),
        ("exe:nginx", "no absolute path"),
        ("cgroup:/a/../b", "no absolute path"),
        ("comm:", "nothing after the colon"),
        ("comm:a\nb", "unprintable"),
        ("comm:" + "x" * 5000, "5005 characters"),
    ],
)
def test_a_wrong_specification_says_what_is_wrong(text, why):
    with pytest.raises(InvalidArgument, match=why):
        parse_spec(text)


@given(st.text(max_size=64))
def test_any_text_is_a_specification_or_a_clear_error(text):
    try:
        spec = parse_spec(text)
    except InvalidArgument:
        return
    assert spec.kind in SpecKind and parse_spec(str(spec)) == spec
