"""Where the breakpoint of an allocator's function goes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osdetectord.probing.instruction import LOOK_AHEAD, cheapest, is_emulated

CASES = {
    "push %rbp": (0, True),
    "push %r12": (0, True),
    "nop": (0, True),
    "jmp .+64": (0, True),
    "call .+64": (0, True),
    "je .+16": (0, True),
    "je .+4096": (0, True),
    # free() of glibc: its argument is not touched before the jump
    "test %rdi, %rdi; je .+16": (3, False),
    "endbr64; push %rbx": (4, False),
    "endbr64; test %edi, %edi; je .+8": (6, False),
    "cmp $16, %rsi; ja .+8": (4, False),
    "cmp $4096, %rsi; ja .+8": (7, False),
    "mov %rdi, %rax; push %rbx": (3, False),
    "mov %rdi, %r12; push %rbx": (3, False),
    "xor %eax, %eax; jmp .+8": (2, False),
    # arguments or the stack are changed before the first cheap one
    "mov %rsi, %rdi; push %rbx": (0, False),
    "xor %edx, %edx; jmp .+8": (0, False),
    "xor %eax, %ebx; jmp .+8": (0, False),
    "sub $8, %rsp; push %rbx": (0, False),
    "mov %rdi, %rsp; push %rbx": (0, False),
    "lea 1(%rdi), %rax; push %rbx": (0, False),
    "mov (%rdi), %rax; push %rbx": (0, False),
    "add $8, %rdi; push %rbx": (0, False),
    "ret": (0, False),
}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every case as the assembler makes it."""
    directory = tmp_path_factory.mktemp("code")
    lines = [f".balign 64, 0xcc\n{case}\n" for case in CASES]
    (directory / "a.s").write_text(".text\n" + "".join(lines))
    subprocess.run(["as", "-o", "a.o", "a.s"], cwd=directory, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "a.o", "a"], cwd=directory, check=True)
    data = Path(directory / "a").read_bytes()
    return {case: data[64 * at : 64 * at + 24] for at, case in enumerate(CASES)}


@pytest.mark.parametrize("case", CASES)
def test_the_first_emulated_instruction_that_sees_the_arguments(case: str, code: dict[str, bytes]) -> None:
    offset, first = CASES[case]
    assert cheapest(code[case], "x86_64") == offset
    assert is_emulated(code[case]) == first


def test_other_machines_take_the_first_instruction(code: dict[str, bytes]) -> None:
    assert cheapest(code["endbr64; push %rbx"], "aarch64") == 0


@given(st.binary(max_size=40))
def test_any_bytes_give_a_place_among_them(data: bytes) -> None:
    at = cheapest(data, "x86_64")
    assert at == 0 or (at < min(len(data), LOOK_AHEAD) and is_emulated(data[at:]))
