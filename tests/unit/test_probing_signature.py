"""Signatures and messages of traces: parsed, never evaluated."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osdetectord.errors import InvalidArgument
from osdetectord.probing.event import RESULT, Event, Text
from osdetectord.probing.location import Location
from osdetectord.probing.signature import TYPES, TraceForm, escape, event_line, parse_formats, parse_trace

MINUS_ONE = 2**64 - 1


def event(*values: int, result: int = 0, returned: bool = False, **texts: bytes | None) -> Event:
    held = {RESULT if name == "result" else int(name[1:]) - 1: Text(data) for name, data in texts.items()}
    padded = (*values, *(0,) * (6 - len(values)), result)
    return Event(1, 20, 10, 3, 4, 0, returned, padded, held)


def line(form: TraceForm, of: Event) -> str:
    return event_line(form, of, of.texts)


def at_entry(message: str, *values: int, **texts: bytes | None) -> str:
    return line(parse_formats(message, None), event(*values, **texts))


# ---- signatures


def test_a_signature_with_a_result_gives_one_line_at_the_return() -> None:
    location, form = parse_trace("search(n: int, name: str) -> int")

    assert location == Location("", "search")
    assert form.entry is None
    assert form.entry_texts() == {1}
    called = event(7, 99, result=MINUS_ONE, returned=True, a2=b"abc")
    assert line(form, called) == 'search(n=7, name="abc") = -1'


def test_a_signature_without_a_result_gives_one_line_at_the_entry() -> None:
    _, form = parse_trace("f()")
    assert form.returned is None
    assert line(form, event()) == "f()"


def test_a_void_function_is_told_at_its_return() -> None:
    _, form = parse_trace("f(p: ptr) -> void")
    assert form.entry is None
    assert line(form, event(255, returned=True)) == "f(p=0xff)"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("libc:open(path: str) -> int", Location("libc", "open")),
        ("/bin/a:ns::f(n: int)", Location("/bin/a", "ns::f")),
        ("ns::f(n: int)", Location("", "ns::f")),
        (":0x1234(n: int)", Location("", "", 0x1234)),
    ],
)
def test_a_signature_may_name_the_binary(text: str, location: Location) -> None:
    assert parse_trace(text)[0] == location


@pytest.mark.parametrize(
    ("kind", "raw", "shown"),
    [
        ("i8", 0xFF, "-1"),
        ("i8", 0x17F, "127"),
        ("u8", 0x1FF, "255"),
        ("i16", 0x8000, "-32768"),
        ("u16", 0x18000, "32768"),
        ("i32", 0xDEAD_FFFF_FFFF, "-1"),
        ("int", 1 << 31, "-2147483648"),
        ("uint", MINUS_ONE, "4294967295"),
        ("i64", MINUS_ONE, "-1"),
        ("long", 1 << 63, "-9223372036854775808"),
        ("ssize_t", MINUS_ONE, "-1"),
        ("size_t", MINUS_ONE, "18446744073709551615"),
        ("ulong", 1 << 63, "9223372036854775808"),
        ("short", 0x1FFFE, "-2"),
        ("ushort", 0x1FFFE, "65534"),
        ("bool", 0x100, "false"),
        ("bool", 0x101, "true"),
        ("char", 0x41, "'A'"),
        ("char", 0x0A, "'\\n'"),
        ("char", 0xFF, "'\\xff'"),
        ("ptr", 0, "0x0"),
    ],
)
def test_registers_are_read_as_their_types(kind: str, raw: int, shown: str) -> None:
    assert line(parse_trace(f"f(x: {kind})")[1], event(raw)) == f"f(x={shown})"


def test_strings_that_are_not_there_say_so() -> None:
    form = parse_trace("f(s: str)")[1]
    assert line(form, event(0, a1=None)) == "f(s=NULL)"
    assert line(form, event(4096, a1=None)) == "f(s=<not in memory>)"


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "a function's name"),
        ("f", 1, "a function's name"),
        ("(n: int)", 1, "a function's name"),
        ("f(n int)", 5, "':'"),
        ("f(n: integer)", 6, "a type"),
        ("f(n: int", 9, "','"),
        ("f(n: int,)", 10, "the name of an argument"),
        ("f(1: int)", 3, "a name or one of"),
        ("f(n: int) -> ", 14, "a type"),
        ("f(n: int) int", 11, "'->'"),
        ("f(n: int) -> int x", 18, "nothing more"),
        ("f(a: int, b: int, c: int, d: int, e: int, g: int, h: int)", 51, "at most 6 arguments"),
        ("f(n: int; rm -rf)", 9, "a name or one of"),
    ],
)
def test_a_wrong_signature_is_told_with_its_column(text: str, column: int, expected: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_trace(text)
    assert f"column {column}: expected {expected}" in str(raised.value)


def test_more_strings_than_an_event_holds_are_refused() -> None:
    parse_trace("f(a: str, b: str, c: str, d: str) -> str")
    with pytest.raises(InvalidArgument, match="can read 4 strings, not 5"):
        parse_trace("f(a: str, b: str, c: str, d: str, e: str)")


# ---- messages


@pytest.mark.parametrize(
    ("message", "values", "shown"),
    [
        ("plain %d text", (), "plain %d text"),
        ("'no values'", (), "no values"),
        ("'100%%'", (), "100%"),
        ("'%d' % arg1", (5,), "5"),
        ("'%d' % (arg1)", (5,), "5"),
        ("'%d' % (arg1,)", (5,), "5"),
        ("'text %d %x' % (arg1, arg2)", (MINUS_ONE, 255), "text -1 ff"),
        ('"%i" % (arg6)', (0, 0, 0, 0, 0, 42), "42"),
        ("'%ld %lld %lu %zu'%(arg1,arg1,arg1,arg1)", (MINUS_ONE,), f"-1 -1 {MINUS_ONE} {MINUS_ONE}"),
        ("'%u' % arg1", (MINUS_ONE,), "4294967295"),
        ("'%hd %hhu' % (arg1, arg1)", (0x1FFFF,), "-1 255"),
        ("'[%5d][%-5d][%05d][%+d][% d]' % (arg1, arg1, arg1, arg1, arg1)", (42,), "[   42][42   ][00042][+42][ 42]"),
        ("'%.4d %#x %#o %X %p' % (arg1, arg1, arg1, arg1, arg1)", (171,), "0171 0xab 0253 AB 0xab"),
        ("'%c' % arg1", (0x41,), "A"),
        (r"'a\tb\\ \'c\''", (), r"a\tb\ 'c'"),
    ],
)
def test_messages_print_as_printf_does(message: str, values: tuple[int, ...], shown: str) -> None:
    assert at_entry(message, *values) == shown


def test_strings_in_messages() -> None:
    assert (
        at_entry("'<%s> <%.2s> <%6s> <%-6s>' % (arg1, arg1, arg1, arg1)", 1, a1=b"abc")
        == "<abc> <ab> <   abc> <abc   >"
    )


def test_messages_for_both_ends() -> None:
    form = parse_formats("'in %d' % (arg1)", "'out %d %s' % (retval, arg2)")
    assert form.entry_texts() == {1}
    assert not form.result_is_text()
    assert line(form, event(3)) == "in 3"
    assert line(form, event(3, 1, result=4, returned=True, a2=b"x")) == "out 4 x"


@pytest.mark.parametrize(
    ("message", "column", "expected"),
    [
        ("'open", 1, "a closing '"),
        ("'%d", 1, "a closing '"),
        ("'%d' arg1", 6, "'%' and the values"),
        ("'%d' %", 7, "arg1 to arg6 or retval"),
        ("'%d' % (arg7)", 9, "arg1 to arg6 or retval"),
        ("'%d' % (arg1", 13, "',' or ')'"),
        ("'%d' % (arg1) + 1", 15, "nothing more"),
        ("'%d' % ()", 9, "arg1 to arg6 or retval"),
        ("'%d %d' % (arg1)", 5, "no more than 1 conversions"),
        ("'%d' % (arg1, arg2)", 15, "1 values"),
        ("'%d' % (__import__('os').system('id'))", 9, "arg1 to arg6 or retval"),
        ("'%q' % (arg1)", 2, "a conversion"),
        ("'%s' % (arg1.__class__)", 13, "',' or ')'"),
        (r"'\q'", 2, r"one of \n"),
        ("'%'", 2, "a conversion"),
    ],
)
def test_a_wrong_message_is_told_with_its_column(message: str, column: int, expected: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_formats(message, None)
    assert f"column {column}: expected {expected}" in str(raised.value)


def test_the_result_is_not_known_at_entry() -> None:
    with pytest.raises(InvalidArgument, match="retval is not known at the entry"):
        parse_formats("'%d' % (retval)", None)
    with pytest.raises(InvalidArgument, match="needs a message"):
        parse_formats("", None)


# ---- hostile input


@given(st.text(max_size=80))
def test_any_text_is_a_signature_or_an_error(text: str) -> None:
    try:
        location, form = parse_trace(text)
    except InvalidArgument:
        return
    assert isinstance(location, Location)
    assert "\n" not in line(form, event(returned=form.entry is None))


@given(
    st.one_of(
        st.text(max_size=80),
        st.from_regex(
            r"'([a-z ]|%[-+ 0#]{0,2}[0-9]{0,2}(hh|h|l|ll|z)?[diuxXocsp%q])*'( *% *\(?arg[0-9],? *\)?)?", fullmatch=True
        ),
    )
)
def test_any_text_is_a_message_or_an_error(text: str) -> None:
    try:
        form = parse_formats(text, None)
    except InvalidArgument:
        return
    shown = line(form, event(1, 2, 3, 4, 5, 6, a1=b"\n", a2=b"\xff", a3=None))
    assert shown.isprintable()


@given(st.binary(max_size=64))
def test_any_bytes_are_one_printable_line_and_can_be_told_apart(data: bytes) -> None:
    shown = escape(data)
    assert shown.isprintable()
    plain = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", '"': b'"'}
    again = b"".join(
        (bytes([int(found[1], 16)]) if found[1] else plain[found[2]]) if found[0][0] == "\\" else found[0].encode()
        for found in re.finditer(r"\\(?:x([0-9a-f]{2})|(.))|.", shown)
    )
    assert again == data


def test_every_type_can_be_shown() -> None:
    for name in TYPES:
        assert line(parse_trace(f"f(x: {name})")[1], event(1, a1=b"y")).startswith("f(x=")
