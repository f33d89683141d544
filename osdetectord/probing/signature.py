"""What a trace prints: a typed signature or format strings, parsed and never evaluated, and the lines they give."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from osdetectord.errors import InvalidArgument
from osdetectord.probing.event import RESULT, TEXTS, Event, Text
from osdetectord.probing.location import SINGLE_COLON, Location

MAX_LENGTH = 4096
MAX_ARGUMENTS = 6


@dataclass(frozen=True, slots=True)
class Type:
    """How a register's 64 bits are read; ``style`` is ``int``, ``hex``, ``octal``, ``char``, ``bool`` or ``str``."""

    bits: int = 64
    signed: bool = False
    style: str = "int"


TYPES: Mapping[str, Type] = {
    **{f"i{bits}": Type(bits, True) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": Type(bits) for bits in (8, 16, 32, 64)},
    "short": Type(16, True),
    "ushort": Type(16),
    "int": Type(32, True),
    "uint": Type(32),
    "long": Type(64, True),
    "ulong": Type(64),
    "size_t": Type(64),
    "ssize_t": Type(64, True),
    "char": Type(8, False, "char"),
    "bool": Type(8, False, "bool"),
    "ptr": Type(64, False, "hex"),
    "str": Type(64, False, "str"),
}
"""Types of a signature, with the sizes of the System V ABI for x86-64 and AArch64."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A value's place in a line.

    Parameters
    ----------
    position
        Argument 0 to 5, or 6 for the result.
    kind
        How its register is read.
    flags, width, precision
        As printf(3) has them.
    prefix
        What stands before a hexadecimal or octal number.
    upper
        Capital letters for hexadecimal digits.
    quoted
        Whether a string or character stands in quotes.
    """

    position: int
    kind: Type
    flags: str = ""
    width: int = 0
    precision: int | None = None
    prefix: str = ""
    upper: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A line: literal text and values by turns."""

    parts: tuple[str | Conversion, ...]

    def texts(self) -> frozenset[int]:
        """Positions of the values that are strings."""
        return frozenset(p.position for p in self.parts if isinstance(p, Conversion) and p.kind.style == "str")

    def uses_result(self) -> bool:
        return any(isinstance(part, Conversion) and part.position == RESULT for part in self.parts)

    def render(self, values: Sequence[int], texts: Mapping[int, Text]) -> str:
        """The line for an event's values and strings."""
        return "".join(part if isinstance(part, str) else _shown(part, values, texts) for part in self.parts)


@dataclass(frozen=True, slots=True)
class TraceForm:
    """What a trace prints at entry and at return; None for nothing."""

    entry: Template | None
    returned: Template | None

    def __post_init__(self) -> None:
        if self.entry is None and self.returned is None:
            raise InvalidArgument("a trace needs a message for the entry or for the return")
        if self.entry is not None and self.entry.uses_result():
            raise InvalidArgument("retval is not known at the entry")
        if len(self.entry_texts()) > TEXTS:
            raise InvalidArgument(f"a trace can read {TEXTS} strings, not {len(self.entry_texts())}")

    def entry_texts(self) -> frozenset[int]:
        """Arguments that are strings; they are read at entry, whichever line shows them."""
        shown = [template.texts() for template in (self.entry, self.returned) if template is not None]
        return frozenset().union(*shown) - {RESULT}

    def result_is_text(self) -> bool:
        return self.returned is not None and RESULT in self.returned.texts()


def parse_trace(text: str) -> tuple[Location, TraceForm]:
    """Read a signature such as ``search(n: int, name: str) -> int`` or ``libc:open(path: str, flags: int) -> int``.

    With a result the line comes at the return and shows the arguments as they were at entry; without one it
    comes at entry.  ``-> void`` is a return without a value.

    Raises
    ------
    InvalidArgument
        Where it is wrong, with the column, from 1.
    """
    return _Signature(text).parse()


def parse_formats(entry: str | None, returned: str | None) -> TraceForm:
    """Read the two messages of a trace; None or an empty one prints nothing.

    A message is plain text, or ``'text %d %s' % (arg1, arg2)`` with the values ``arg1`` to ``arg6`` and
    ``retval`` and the conversions ``d i u x X o c s p`` of printf(3), with its flags, width, precision and
    length (``hh h l ll z``): without a length an integer is of 32 bits, as in C.

    Raises
    ------
    InvalidArgument
        Where it is wrong, with the column, from 1.
    """
    return TraceForm(
        _parse_format(entry) if entry else None,
        _parse_format(returned) if returned else None,
    )


# ---- signatures

TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>->|[(),:]))")

# the traced function's name may be anything that a symbol may be
FUNCTION = re.compile(r"\s*([^\s(][^(]*?)\s*(?=\()")


class _Signature:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH or not text.isprintable():
            raise InvalidArgument("a signature is one line of printable text")
        self._text, self._at = text, 0

    def parse(self) -> tuple[Location, TraceForm]:
        name = FUNCTION.match(self._text)
        if name is None:
            raise self._wrong("a function's name and '('")
        location = Location.parse(name[1] if SINGLE_COLON.search(name[1]) else ":" + name[1])
        self._at = name.end()
        self._take("(")
        parts: list[str | Conversion] = [str(location).partition(":")[2] + "("]
        count = 0
        while self._peek() != ")":
            if count:
                self._take(",")
                parts.append(", ")
            if count == MAX_ARGUMENTS:
                raise self._wrong(f"at most {MAX_ARGUMENTS} arguments")
            parts += [f"{self._name('the name of an argument')}=", self._typed(count)]
            count += 1
        self._take(")")
        parts.append(")")
        if self._peek() is None:
            return location, TraceForm(Template(_joined(parts)), None)
        self._take("->")
        if self._peek() == "void":
            self._take("void")
        else:
            parts += [" = ", self._type(RESULT)]
        if self._peek() is not None:
            raise self._wrong("nothing more")
        return location, TraceForm(None, Template(_joined(parts)))

    def _typed(self, position: int) -> Conversion:
        self._take(":")
        return self._type(position)

    def _type(self, position: int) -> Conversion:
        before = self._at
        name = self._name("a type")
        if name not in TYPES:
            self._at = before
            raise self._wrong(f"a type ({', '.join(TYPES)}), not {name}")
        kind = TYPES[name]
        return Conversion(
            position, kind, prefix="0x" if kind.style == "hex" else "", quoted=kind.style in ("str", "char")
        )

    def _name(self, expected: str) -> str:
        token = TOKEN.match(self._text, self._at)
        if token is None or token["name"] is None:
            raise self._wrong(expected)
        self._at = token.end()
        return token["name"]

    def _peek(self) -> str | None:
        token = TOKEN.match(self._text, self._at)
        if token is None:
            if self._text[self._at :].strip():
                raise self._wrong("a name or one of ( ) , : ->")
            return None
        return token["name"] or token["mark"]

    def _take(self, mark: str) -> None:
        token = TOKEN.match(self._text, self._at)
        if token is None or (token["name"] or token["mark"]) != mark:
            raise self._wrong(repr(mark))
        self._at = token.end()

    def _wrong(self, expected: str) -> InvalidArgument:
        rest = self._text[self._at :]
        column = self._at + len(rest) - len(rest.lstrip()) + 1
        return InvalidArgument(f"signature {self._text!r}, column {column}: expected {expected}")


# ---- formats

CONVERSION = re.compile(
    r"%(?P<flags>[-+ 0#]*)(?P<width>\d{0,3})(?:\.(?P<precision>\d{0,3}))?(?P<length>hh|h|ll|l|z)?(?P<kind>.)", re.DOTALL
)
VALUE = re.compile(r"\s*(?:arg([1-6])|(retval))\b")
BITS = {"hh": 8, "h": 16, None: 32, "l": 64, "ll": 64, "z": 64}
ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


def _parse_format(text: str) -> Template:
    if len(text) > MAX_LENGTH:
        raise InvalidArgument(f"a message of {len(text)} characters, at most {MAX_LENGTH} are allowed")
    if text.lstrip()[:1] not in ("'", '"'):
        # plain text: what it says is what is printed
        return Template((_display(text),))
    literal, columns, at = _literal(text)
    values = _values(text, at)
    parts: list[str | Conversion] = []
    begun = used = 0
    for found in re.finditer("%", literal):
        if found.start() < begun:
            continue
        column = columns[found.start()]
        conversion = CONVERSION.match(literal, found.start())
        if conversion is None:
            raise _wrong(text, column, "a conversion after '%'")
        parts.append(_display(literal[begun : found.start()]))
        begun = conversion.end()
        if conversion["kind"] == "%":
            parts.append("%")
            continue
        if used == len(values):
            raise _wrong(text, column, f"no more than {len(values)} conversions, one for each value")
        parts.append(_conversion(conversion, values[used][0], text, column))
        used += 1
    parts.append(_display(literal[begun:]))
    if used < len(values):
        raise _wrong(text, values[used][1], f"{used} values, one for each conversion")
    return Template(_joined(parts))


def _literal(text: str) -> tuple[str, list[int], int]:
    """The quoted text, the column of each of its characters, and where it ends."""
    at = len(text) - len(text.lstrip())
    quote = text[at]
    out: list[str] = []
    columns: list[int] = []
    start = at
    at += 1
    while at < len(text):
        character = text[at]
        if character == quote:
            return "".join(out), columns, at + 1
        columns.append(at)
        if character == "\\":
            following = text[at + 1 : at + 2]
            if following not in ESCAPES:
                raise _wrong(text, at, "one of \\n \\t \\\\ \\' \\\"")
            out.append(ESCAPES[following])
            at += 2
            continue
        out.append(character)
        at += 1
    raise _wrong(text, start, f"a closing {quote}")


def _values(text: str, at: int) -> list[tuple[int, int]]:
    """Positions of the values after the quoted text, and the column of each."""
    rest = text[at:]
    if not rest.strip():
        return []
    at += len(rest) - len(rest.lstrip())
    if text[at] != "%":
        raise _wrong(text, at, "'%' and the values, or nothing")
    at = _after_blanks(text, at + 1)
    bracket = text[at : at + 1] == "("
    if bracket:
        at = _after_blanks(text, at + 1)
    values: list[tuple[int, int]] = []
    while not (bracket and values and text[at : at + 1] == ")"):
        value = VALUE.match(text, at)
        if value is None:
            raise _wrong(text, at, "arg1 to arg6 or retval")
        values.append((int(value[1]) - 1 if value[1] else RESULT, at))
        at = _after_blanks(text, value.end())
        if not bracket:
            break
        if text[at : at + 1] == ",":
            at = _after_blanks(text, at + 1)
        elif text[at : at + 1] != ")":
            raise _wrong(text, at, "',' or ')'")
    if bracket:
        at = _after_blanks(text, at + 1)
    if at < len(text):
        raise _wrong(text, at, "nothing more")
    return values


def _after_blanks(text: str, at: int) -> int:
    return at + len(text[at:]) - len(text[at:].lstrip())


def _conversion(found: re.Match[str], position: int, text: str, column: int) -> Conversion:
    kind, flags = found["kind"], found["flags"]
    bits = BITS[found["length"]]
    precision = None if found["precision"] is None else int(found["precision"] or 0)
    if kind in "di":
        as_type, prefix = Type(bits, True), ""
    elif kind in "uxXo":
        style = {"u": "int", "o": "octal"}.get(kind, "hex")
        as_type = Type(bits, False, style)
        prefix = {"x": "0x", "X": "0X", "o": "0"}.get(kind, "") if "#" in flags else ""
    elif kind == "c":
        as_type, prefix = Type(8, False, "char"), ""
    elif kind == "p":
        as_type, prefix = Type(64, False, "hex"), "0x"
    elif kind == "s":
        as_type, prefix = Type(64, False, "str"), ""
    else:
        raise _wrong(text, column, f"a conversion (%d %i %u %x %X %o %c %s %p %%), not {found[0]!r}")
    return Conversion(
        position, as_type, flags, int(found["width"] or 0), precision, prefix, upper=kind == "X", quoted=False
    )


def _wrong(text: str, at: int, expected: str) -> InvalidArgument:
    return InvalidArgument(f"message {text!r}, column {at + 1}: expected {expected}")


def _joined(parts: Sequence[str | Conversion]) -> tuple[str | Conversion, ...]:
    out: list[str | Conversion] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return tuple(out)


# ---- lines

UNREADABLE = "<not in memory>"


def event_line(form: TraceForm, event: Event, texts: Mapping[int, Text]) -> str:
    """The line of an event, with the strings that are known of it."""
    template = form.returned if event.returned else form.entry
    return "" if template is None else template.render(event.values, texts)


def _shown(part: Conversion, values: Sequence[int], texts: Mapping[int, Text]) -> str:
    raw = values[part.position]
    kind = part.kind
    if kind.style == "str":
        out = _text(raw, texts.get(part.position, Text(None)), part)
    else:
        value = raw & ((1 << kind.bits) - 1)
        if kind.signed and value >> (kind.bits - 1):
            value -= 1 << kind.bits
        if kind.style == "bool":
            out = "true" if value else "false"
        elif kind.style == "char":
            out = f"'{escape(bytes([value]))}'" if part.quoted else escape(bytes([value]))
        else:
            out = _number(value, part)
    return out.ljust(part.width) if "-" in part.flags else out.rjust(part.width)


def _number(value: int, part: Conversion) -> str:
    style = {"hex": "X" if part.upper else "x", "octal": "o"}.get(part.kind.style, "d")
    digits = format(abs(value), style).rjust(part.precision or 0, "0")
    sign = "-" if value < 0 else "+" if "+" in part.flags else " " if " " in part.flags else ""
    if not part.kind.signed:
        sign = ""
    front = sign + part.prefix
    if "0" in part.flags and "-" not in part.flags and part.precision is None:
        digits = digits.rjust(part.width - len(front), "0")
    return front + digits


def _text(address: int, text: Text, part: Conversion) -> str:
    if text.data is None:
        return "NULL" if not address else UNREADABLE
    data, more = text.data, text.more
    if part.precision is not None and len(data) > part.precision:
        data, more = data[: part.precision], False
    shown = escape(data)
    if part.quoted:
        return f'"{shown}"' + ("..." if more else "")
    return shown + ("..." if more else "")


def escape(data: bytes) -> str:
    """Bytes of another process as one line of text: what is not printable UTF-8 stands as ``\\xNN`` or ``\\n``."""
    out: list[str] = []
    for character in data.decode("utf-8", "surrogateescape"):
        if character in '\\"':
            out.append("\\" + character)
        elif character.isprintable():
            out.append(character)
        elif character in "\n\r\t":
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character])
        else:
            out += [f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape")]
    return "".join(out)


def _display(text: str) -> str:
    """The user's own text, kept to one line."""
    return "".join(
        character if character.isprintable() else escape(character.encode("utf-8", "surrogatepass"))
        for character in text
    )
