"""The cheapest instruction of a function's beginning to put a breakpoint on.

A probed instruction runs either emulated by the kernel, which costs a trap, or single-stepped out of line, which
costs two and a copy; within a virtual machine the second may cost thirty times the first.  The kernel emulates
``push``, ``nop``, near jumps and calls and conditional jumps (``branch_setup_xol_ops`` and ``push_setup_xol_ops``
of arch/x86/kernel/uprobes.c).  Where a function begins with another, one of the next will often do: as long as all
before it neither change an argument nor the stack, nor jump, the arguments there are what they were at entry.

Opcodes: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, appendix A.
"""

from __future__ import annotations

import platform

LOOK_AHEAD = 24
"""Bytes that are looked at."""

# rdi rsi rdx rcx r8 r9, and the stack pointer
KEPT = {7, 6, 2, 1, 8, 9, 4}


def cheapest(code: bytes, machine: str = platform.machine()) -> int:
    """Distance from a function's begin to an instruction that the kernel emulates; 0 where none is near."""
    if machine != "x86_64":
        return 0
    at = 0
    while at < min(len(code), LOOK_AHEAD):
        if is_emulated(code[at:]):
            return at
        length = _harmless(code[at:])
        if not length:
            return 0
        at += length
    return 0


def is_emulated(code: bytes) -> bool:
    """Whether the kernel emulates the x86-64 instruction that the bytes begin with."""
    if len(code) > 1 and code[0] == 0x41 and 0x50 <= code[1] <= 0x57:
        return True
    if not code:
        return False
    first = code[0]
    if first == 0x0F:
        return len(code) > 1 and 0x80 <= code[1] <= 0x8F
    return 0x50 <= first <= 0x57 or 0x70 <= first <= 0x7F or first in (0x90, 0xE8, 0xE9, 0xEB)


def _harmless(code: bytes) -> int:
    """Length of an instruction between registers that changes none of the kept ones, 0 if it is another."""
    if code[:4] == b"\xf3\x0f\x1e\xfa":
        # endbr64
        return 4
    at = 0
    rex = 0
    if code[:1] and 0x40 <= code[0] <= 0x4F:
        rex, at = code[0], 1
    if len(code) < at + 2:
        return 0
    opcode, modrm = code[at], code[at + 1]
    if modrm >> 6 != 3:
        # an operand in memory: leave it
        return 0
    register = (modrm >> 3 & 7) | (rex & 4) << 1
    other = (modrm & 7) | (rex & 1) << 3
    if opcode in (0x84, 0x85, 0x38, 0x39, 0x3A, 0x3B):
        # test, cmp: flags only
        return at + 2
    if opcode in (0x80, 0x83) and modrm >> 3 & 7 == 7 and len(code) > at + 2:
        # cmp with a byte
        return at + 3
    if opcode == 0x81 and modrm >> 3 & 7 == 7 and len(code) > at + 5:
        return at + 6
    # mov, and xor of a register with itself
    if opcode in (0x89, 0x31) and other not in KEPT and (opcode == 0x89 or register == other):
        return at + 2
    if opcode == 0x8B and register not in KEPT:
        return at + 2
    return 0
