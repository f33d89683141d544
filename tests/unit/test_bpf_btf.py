import struct

import pytest

from osdetectord.bpf.btf import Btf, Field
from osdetectord.bpf.headers import kernel_header, version_header
from osdetectord.errors import LoadError

INT, PTR, ARRAY, STRUCT, UNION, TYPEDEF, CONST, FUNC_PROTO = 1, 2, 3, 4, 5, 8, 10, 13


class Blob:
    """A BTF blob, type by type."""

    def __init__(self):
        self.strings, self.types, self.count = b"\0", b"", 0

    def text(self, name):
        if not name:
            return 0
        at = len(self.strings)
        self.strings += name.encode() + b"\0"
        return at

    def add(self, kind, name="", size=0, extra=b"", items=0, flag=0):
        self.types += struct.pack("<III", self.text(name), flag << 31 | kind << 24 | items, size) + extra
        self.count += 1
        return self.count

    def struct(self, name, size, *members, kind=STRUCT, flag=0):
        extra = b"".join(struct.pack("<III", self.text(n), t, bits) for n, t, bits in members)
        return self.add(kind, name, size, extra, len(members), flag)

    def bytes(self):
        head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return head + self.types + self.strings


def example():
    blob = Blob()
    number = blob.add(INT, "int", 4, bytes(4))
    constant = blob.add(CONST, size=number)
    pointer = blob.add(PTR, size=number)
    array = blob.add(ARRAY, extra=struct.pack("<III", constant, number, 5))
    anonymous = blob.struct("", 8, ("low", number, 0), ("high", number, 32), kind=UNION)
    inner = blob.struct("inner", 24, ("first", pointer, 0), ("values", array, 64))
    blob.struct("outer", 64, ("a", constant, 0), ("", anonymous, 64), ("in", inner, 128))
    blob.struct("flagged", 8, ("bits", number, 3 << 24 | 5), ("whole", number, 32), flag=1)
    return Btf(blob.bytes())


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("a", Field(0, 4)),
        ("high", Field(12, 4)),
        ("in", Field(16, 24)),
        ("in.first", Field(16, 8)),
        ("in.values", Field(24, 20)),
        ("none", None),
        ("in.none", None),
    ],
)
def test_a_field_is_found_through_anonymous_and_nested_members(path, field):
    assert example().field("outer", path) == field


def test_a_bit_field_does_not_move_its_neighbours():
    assert example().field("flagged", "whole") == Field(4, 4)


def test_what_is_not_there_is_none():
    assert example().size("outer") == 64
    assert example().size("other") is None
    assert example().field("other", "a") is None


@pytest.mark.parametrize("data", [b"", b"\x9f\xeb", bytes(64)])
def test_what_is_no_btf_is_refused(data):
    with pytest.raises(LoadError, match="the kernel's type information"):
        Btf(data)


def test_an_unknown_kind_of_type_is_refused_not_guessed():
    blob = Blob()
    blob.add(25, "future", 4)
    with pytest.raises(LoadError, match="a kind of type 25 that is not known"):
        Btf(blob.bytes())


def test_a_kernel_without_btf_is_told(tmp_path):
    with pytest.raises(LoadError, match=r"the kernel tells no types: .*/vmlinux: No such file"):
        Btf.of_kernel(tmp_path / "vmlinux")


def test_a_tracepoints_own_first_argument_is_not_counted():
    blob = Blob()
    number = blob.add(INT, "int", 4, bytes(4))
    function = blob.add(FUNC_PROTO, extra=struct.pack("<II", 0, number) * 4, items=4)
    blob.add(TYPEDEF, "btf_trace_tcp_retransmit_skb", blob.add(PTR, size=function))
    btf = Btf(blob.bytes())

    assert btf.arguments("tcp_retransmit_skb") == 3
    assert btf.arguments("no_such_event") is None
    assert "#define ARGUMENTS_tcp_retransmit_skb 3\n" in kernel_header(btf)


def test_the_header_has_the_newest_spelling_that_the_kernel_has():
    for spelling in ("__state", "state"):
        blob = Blob()
        number = blob.add(INT, "int", 4, bytes(4))
        blob.struct("task_struct", 64, (spelling, number, 24 * 8))
        text = kernel_header(Btf(blob.bytes()))

        assert "#define OFFSET_task_struct__state 24\n#define SIZE_task_struct__state 4\n" in text
        assert "task_struct__on_cpu" not in text


@pytest.mark.parametrize(("release", "code"), [("6.1.0-18-amd64", 0x60100), ("6.18.44-fc", 0x6122C), ("5.4", 0x50400)])
def test_the_version_is_read_from_the_release(release, code):
    assert f"#define LINUX_VERSION_CODE {code}\n" in version_header(release)
