"""How an interface is declared: its methods by annotation, its properties and signals by table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints

from osdetectord.bus.adapter import Variant, complete_types, encode

V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])

# Annotations that are D-Bus signatures, and Python types too.
Bool = Annotated[bool, "b"]
Uint32 = Annotated[int, "u"]
Uint64 = Annotated[int, "t"]
Double = Annotated[float, "d"]
String = Annotated[str, "s"]
ObjectPath = Annotated[str, "o"]
Fd = Annotated[int, "h"]
"""A descriptor that the receiver, when it is an answer the connection, closes."""
Strings = Annotated[list[str], "as"]
Variants = Annotated[Mapping[str, Any], "a{sv}"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer that is bytes of the wire already."""

    body: bytes


class Right(Enum):
    """What a caller needs."""

    NONE = "nothing"
    STEER = "steer"
    """Root, or membership in the service's group."""
    TRACE = "trace"
    """Root, or leave of polkit: it shows the memory of other processes."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its arguments by name and signature, and who may call it."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    returns: str
    right: Right
    function: Callable[..., Any]
    waits: bool = False

    @property
    def signature(self) -> str:
        """Signature of all arguments."""
        return "".join(signature for _name, signature in self.arguments)


@dataclass(frozen=True, slots=True)
class Property:
    """A property that is read only: what of the view it shows."""

    name: str
    signature: str
    of: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal and its arguments by name and signature."""

    name: str
    arguments: tuple[tuple[str, str], ...]

    @property
    def signature(self) -> str:
        """Signature of all arguments."""
        return "".join(signature for _name, signature in self.arguments)


def reads(function: F) -> F:
    """Mark a method that anybody may call."""
    function.__dict__["_right"] = Right.NONE
    return function


def waits(function: F) -> F:
    """Mark a method that anybody may call and that takes its time: only a few calls of them are served at once."""
    function.__dict__["_waits"] = True
    return reads(function)


def changes(function: F) -> F:
    """Mark a method that only the administrator and the service's group may call; it is given ``asked_by``."""
    function.__dict__["_right"] = Right.STEER
    return function


def traces(function: F) -> F:
    """Mark a method that lets its caller look into other processes; it is given ``asked_by``."""
    function.__dict__["_right"] = Right.TRACE
    return function


class Interface(Generic[V]):
    """An interface of one object; ``view`` gives the state that its properties show.

    A method is what :func:`reads`, :func:`waits`, :func:`changes` or :func:`traces` marks: nothing else can be called.
    """

    name: ClassVar[str]
    properties: ClassVar[tuple[Property, ...]] = ()
    signals: ClassVar[tuple[Signal, ...]] = ()
    methods: ClassVar[Mapping[str, Method]] = {}
    xml: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.methods = {
            name: _method(name, function)
            for name, function in vars(cls).items()
            if "_right" in getattr(function, "__dict__", {})
        }
        cls.xml = _xml(cls)

    def __init__(self, view: Callable[[], V]) -> None:
        self.view = view

    @classmethod
    def shown(cls, view: V, names: frozenset[str] | None = None) -> dict[str, Variant]:
        """Return properties of a view, all or some, by name."""
        return {
            property_.name: Variant(property_.signature, property_.of(view))
            for property_ in cls.properties
            if names is None or property_.name in names
        }

    @classmethod
    def signal(cls, name: str, *values: object) -> tuple[str, bytes]:
        """Return the signature and the body of one of the signals."""
        signature = next(signal.signature for signal in cls.signals if signal.name == name)
        return signature, encode(signature, values)


def _method(name: str, function: Callable[..., Any]) -> Method:
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ][1:]
    return Method(
        name,
        tuple((parameter, _signature(hints[parameter])) for parameter in parameters),
        _signature(hints["return"]),
        function.__dict__["_right"],
        function,
        function.__dict__.get("_waits", False),
    )


def _signature(hint: object) -> str:
    if hint is type(None):
        return ""
    if get_origin(hint) is not Annotated:
        raise TypeError(f"{hint} says no D-Bus signature")
    signature = get_args(hint)[1]
    if len(complete_types(signature)) != 1:
        raise TypeError(f"{signature} is not one complete type")
    return str(signature)


def _xml(interface: type[Interface[Any]]) -> str:
    # names and signatures of D-Bus have no characters that XML would want quoted
    lines = [f'  <interface name="{interface.name}">']
    for method in interface.methods.values():
        lines.append(f'    <method name="{method.name}">')
        lines += [_argument(name, signature, ' direction="in"') for name, signature in method.arguments]
        if method.returns:
            lines.append(_argument("", method.returns, ' direction="out"'))
        lines.append("    </method>")
    for signal in interface.signals:
        lines.append(f'    <signal name="{signal.name}">')
        lines += [_argument(name, signature, "") for name, signature in signal.arguments]
        lines.append("    </signal>")
    lines += [
        f'    <property name="{each.name}" type="{each.signature}" access="read"/>' for each in interface.properties
    ]
    lines.append("  </interface>\n")
    return "\n".join(lines)


def _argument(name: str, signature: str, direction: str) -> str:
    named = f' name="{name}"' if name else ""
    return f'      <arg{named} type="{signature}"{direction}/>'
