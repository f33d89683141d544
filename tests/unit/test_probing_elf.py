"""Functions of ELF files, as the linker and the compiler made them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osdetectord.errors import InvalidArgument, NoSuchSymbol, OsdetectorError, Unsupported
from osdetectord.probing.demangle import demangled, spellings, without_parameters
from osdetectord.probing.elf import Elf

C = """
int shared_name(int n) { return n + 1; }
static __attribute__((noinline)) int hidden(int n) { return n * 3; }
static int chosen(int n) { return n; }
static void *choose(void) { return chosen; }
int either(int n) __attribute__((ifunc("choose")));
int name(int n) { return hidden(n) + either(n); }
int main(void) { return name(1) + shared_name(2); }
"""

CPP = """
#include <map>
#include <string>
namespace a::b {
template <typename T> __attribute__((noinline)) T twice(T x) { return x + x; }
struct Shop {
    __attribute__((noinline)) bool operator==(const Shop &o) const { return this == &o; }
    __attribute__((noinline)) ~Shop() { asm volatile(""); }
    __attribute__((noinline)) void sell(std::map<std::string, int> what) { asm volatile("" : : "r"(&what)); }
};
}
int main() { a::b::Shop s; s.sell({}); return a::b::twice(1) + (int)a::b::twice(2.0) + (s == s); }
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("elf")
    (directory / "c.c").write_text(C)
    (directory / "cpp.cpp").write_text(CPP)
    for name, command in {
        "pie": ("gcc", "-O1", "c.c"),
        "fixed": ("gcc", "-O1", "-no-pie", "c.c"),
        "cpp": ("g++", "-O1", "cpp.cpp"),
    }.items():
        subprocess.run([*command, "-o", name], cwd=directory, check=True)
    subprocess.run(["strip", "-o", "stripped", "pie"], cwd=directory, check=True)
    return directory


@contextmanager
def elf(path: Path) -> Iterator[Elf]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield Elf(fd, str(path))
    finally:
        os.close(fd)


def nm(path: Path) -> dict[str, int]:
    rows = [line.split() for line in subprocess.check_output(["nm", path], text=True).splitlines()]
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3 and row[1] in "tTwWi"}


@pytest.mark.parametrize("build", ["pie", "fixed"])
def test_names_are_where_nm_says(built: Path, build: str) -> None:
    known = nm(built / build)
    with elf(built / build) as file:
        # name is also the end of shared_name
        for name in ("name", "shared_name", "hidden", "main"):
            function = file.find(name)
            assert function.address == known[name]
            assert file.name_at(function.address) == (name, 0)
            assert file.name_at(function.address + 1) == (name, 1)
            assert file.address_of(file.offset_of(function.address)) == function.address
        code = (built / build).read_bytes()
        assert file.code(known["main"], 8) == code[file.offset_of(known["main"]) :][:8]


def test_a_function_that_is_chosen_at_run_time_is_told(built: Path) -> None:
    with elf(built / "pie") as file:
        assert file.find("either").chosen_at_run_time
        assert not file.find("name").chosen_at_run_time


def test_an_unknown_name_gets_the_nearest(built: Path) -> None:
    with elf(built / "pie") as file, pytest.raises(NoSuchSymbol, match="there is shared_name"):
        file.find("shared_nam")
    with elf(built / "stripped") as file, pytest.raises(NoSuchSymbol, match="give an address"):
        file.find("main")


def test_cpp_names(built: Path) -> None:
    with elf(built / "cpp") as file:
        with pytest.raises(InvalidArgument, match=r"2 functions a::b::twice.*double.*int"):
            file.find("a::b::twice")
        assert file.find("int a::b::twice<int>(int)").symbol == "_ZN1a1b5twiceIiEET_S2_"
        assert file.find("a::b::Shop::sell").name.startswith("a::b::Shop::sell(std::map<")
        assert file.find("a::b::Shop::~Shop").name == "a::b::Shop::~Shop()"
        assert file.find("a::b::Shop::operator==").name == "a::b::Shop::operator==(a::b::Shop const&) const"
        with pytest.raises(NoSuchSymbol, match="there is a::b::Shop::sell"):
            file.find("a::b::Shop::sel")


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("f(int)", "f"),
        ("ns::f(g(*)(int)) const", "ns::f"),
        ("ns::T::operator()(int)", "ns::T::operator()"),
        ("plain", "plain"),
        ("f(int) [clone .cold]", "f"),
        ("void f<(a)1>(int)", "void f<(a)1>"),
    ],
)
def test_parameters_are_cut_off(full: str, short: str) -> None:
    assert without_parameters(full) == short


def test_a_name_may_be_written_in_several_ways() -> None:
    assert spellings("int a::twice<int>(int)") == {
        *("inta::twice<int>(int)", "inta::twice<int>", "a::twice<int>(int)", "a::twice<int>"),
        *("a::twice(int)", "a::twice"),
    }
    assert spellings("a::T<b, c>::f(d) const") == {"a::T<b,c>::f(d)const", "a::T<b,c>::f"}
    assert spellings("a::operator>(b, b)") == {"a::operator>(b,b)", "a::operator>"}


def test_what_is_not_mangled_stays() -> None:
    assert demangled(b"main") is None
    assert demangled(b"_Zgarbage") is None
    assert demangled(b"_ZN1a1fEv") == "a::f()"


def test_addresses_without_code_are_refused(built: Path) -> None:
    with elf(built / "pie") as file:
        for address in (0, 1 << 40):
            with pytest.raises(InvalidArgument, match=f"has no code at address {address:#x}"):
                file.offset_of(address)


def test_what_is_not_elf_or_not_ours_is_refused(built: Path, tmp_path: Path) -> None:
    whole = bytearray((built / "pie").read_bytes())
    cases = {
        "empty": (b"", InvalidArgument),
        "text": (b"#!/bin/sh\n" * 20, InvalidArgument),
        "32bit": (bytes(whole[:4]) + b"\1" + bytes(whole[5:]), Unsupported),
        "other": (bytes(whole[:18]) + b"\x28\0" + bytes(whole[20:]), Unsupported),
        "cut": (bytes(whole[: len(whole) // 2]), InvalidArgument),
    }
    for name, (data, error) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(error, match=name), elf(tmp_path / name) as file:
            file.find("main")


@settings(max_examples=150, deadline=None)
@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=24), head=st.booleans())
def test_a_broken_file_is_an_error_and_nothing_worse(built: Path, places: list[tuple[float, int]], head: bool) -> None:
    data = bytearray((built / "stripped").read_bytes())
    begin = 4 if head else len(data) - 64 * 30
    end = 64 + 56 * 13 if head else len(data)
    for place, value in places:
        data[begin + int(place * (end - begin - 1))] = value
    fd = os.memfd_create("broken")
    try:
        os.write(fd, data)
        file = Elf(fd, "broken")
        file.name_at(4096)
        _ = file.is_go, file.build_id
        file.offset_of(file.find("main").address)
    except OsdetectorError:
        pass
    finally:
        os.close(fd)
