"""The few headers that BCC's own headers include, made for the running kernel without its header package.

BCC (0.18 to 0.37: ``helpers.h`` and ``virtual_bpf.h``) includes these files only; what they say is the
kernel's interface, not its configuration.  All else that a program must know, the offsets of fields, comes
from BTF, so that it can't be of another kernel.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from osdetectord.bpf.btf import Btf

TYPES = """\
#ifndef OSD_TYPES_H
#define OSD_TYPES_H
typedef signed char __s8; typedef unsigned char __u8; typedef short __s16; typedef unsigned short __u16;
typedef int __s32; typedef unsigned int __u32; typedef long long __s64; typedef unsigned long long __u64;
typedef __s8 s8; typedef __u8 u8; typedef __s16 s16; typedef __u16 u16;
typedef __s32 s32; typedef __u32 u32; typedef __s64 s64; typedef __u64 u64;
typedef __u16 __le16, __be16, __sum16; typedef __u32 __le32, __be32, __wsum; typedef __u64 __le64, __be64;
typedef u8 uint8_t; typedef u16 uint16_t; typedef u32 uint32_t; typedef u64 uint64_t;
typedef s8 int8_t; typedef s16 int16_t; typedef s32 int32_t; typedef s64 int64_t;
typedef unsigned long size_t; typedef long ssize_t; typedef unsigned long uintptr_t; typedef long long loff_t;
typedef _Bool bool; typedef int pid_t; typedef unsigned int uid_t; typedef unsigned int gid_t;
typedef u32 dev_t; typedef u64 sector_t; typedef unsigned int gfp_t; typedef u16 umode_t;
#define __bitwise
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define NULL ((void *)0)
#define true 1
#define false 0
#define offsetof(type, member) __builtin_offsetof(type, member)
#define TASK_COMM_LEN 16
#define inline inline __attribute__((always_inline))
#define __always_inline inline
#endif
"""

# arch/x86/include/asm/ptrace.h and arch/arm64/include/asm/ptrace.h
PTRACE = """\
#ifndef OSD_PTRACE_H
#define OSD_PTRACE_H
#include <linux/types.h>
#if defined(__x86_64__)
struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__aarch64__)
struct pt_regs { u64 regs[31]; u64 sp, pc, pstate, orig_x0; s32 syscallno; u32 unused2; };
#endif
#endif
"""

LOG2 = """\
#define roundup_pow_of_two(n) ((n) < 2 ? 1UL : 1UL << (64 - __builtin_clzl((n) - 1)))
#define rounddown_pow_of_two(n) (1UL << (63 - __builtin_clzl(n)))
#define ilog2(n) (63 - __builtin_clzl(n))
"""

# Kernel structure: our name of the field -> where it may be, newest spelling first.
FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "task_struct": {
        "pid": ("pid",),
        "tgid": ("tgid",),
        "flags": ("flags",),
        # task_struct.state became __state in 5.14 (2f064a59a11f)
        "state": ("__state", "state"),
        "on_cpu": ("on_cpu",),
        "stack": ("stack",),
        "comm": ("comm",),
        # 5.5 (cf25e24db61c) renamed real_start_time
        "start_boottime": ("start_boottime", "real_start_time"),
        "thread_pid": ("thread_pid",),
        "pid_links": ("pid_links",),
        "group_leader": ("group_leader",),
        "real_parent": ("real_parent",),
        "signal": ("signal",),
        "exit_code": ("exit_code",),
        "uid": ("real_cred",),
        "utime": ("utime",),
        "stime": ("stime",),
        "sum_exec_ns": ("se.sum_exec_runtime",),
        "voluntary": ("nvcsw",),
        "involuntary": ("nivcsw",),
        "min_flt": ("min_flt",),
        "maj_flt": ("maj_flt",),
        "rchar": ("ioac.rchar",),
        "wchar": ("ioac.wchar",),
        "read_bytes": ("ioac.read_bytes",),
        "write_bytes": ("ioac.write_bytes",),
        "files": ("files",),
        "mm": ("mm",),
        # x86 only
        "call_status": ("thread_info.status",),
    },
    "signal_struct": {
        "live": ("live.counter",),
        "flags": ("flags",),
        "group_exit_code": ("group_exit_code",),
    },
    "cred": {"uid": ("uid",)},
    "pid": {"level": ("level",), "numbers": ("numbers",), "tasks": ("tasks",)},
    "upid": {"nr": ("nr",), "ns": ("ns",)},
    "pid_namespace": {"idr_head": ("idr.idr_rt.xa_head",)},
    "xa_node": {"shift": ("shift",), "slots": ("slots",)},
    "mm_struct": {"brk": ("brk",)},
    "files_struct": {"fdt": ("fdt",)},
    "fdtable": {"fd": ("fd",), "max_fds": ("max_fds",)},
    "file": {"f_inode": ("f_inode",), "private_data": ("private_data",)},
    "inode": {"i_mode": ("i_mode",)},
    "socket": {"sk": ("sk",)},
    "sock": {"family": ("__sk_common.skc_family",), "protocol": ("sk_protocol",)},
    "tcp_sock": {"segs_in": ("segs_in",), "segs_out": ("segs_out",)},
    "request": {"op": ("cmd_flags",), "bytes": ("__data_len",)},
}

# Tracepoints whose number of arguments differs between kernels.
TRACEPOINTS = ("tcp_retransmit_skb",)


def kernel_header(btf: Btf) -> str:
    """``OFFSET_struct__field``, ``SIZE_struct__field`` and ``ARGUMENTS_event`` of what this kernel has."""
    lines = ["#ifndef OSD_KERNEL_H", "#define OSD_KERNEL_H"]
    for struct_name, fields in FIELDS.items():
        size = btf.size(struct_name)
        if size is None:
            continue
        lines.append(f"#define SIZE_{struct_name} {size}")
        for name, places in fields.items():
            found = next((field for place in places if (field := btf.field(struct_name, place))), None)
            if found is not None:
                lines.append(f"#define OFFSET_{struct_name}__{name} {found.offset}")
                lines.append(f"#define SIZE_{struct_name}__{name} {found.size}")
    for event in TRACEPOINTS:
        count = btf.arguments(event)
        if count is not None:
            lines.append(f"#define ARGUMENTS_{event} {count}")
    return "\n".join([*lines, "#endif", ""])


def version_header(release: str) -> str:
    """What ``linux/version.h`` says of a kernel release such as ``6.1.0-18-amd64``."""
    numbers = [int(part) for part in re.findall(r"\d+", release)[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    code = (major << 16) + (minor << 8) + min(patch, 255)
    return (
        f"#define LINUX_VERSION_CODE {code}\n"
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))\n"
    )


def write_tree(root: Path, btf: Btf) -> None:
    """Write the include tree that ``BCC_KERNEL_SOURCE`` may point to."""
    files = {
        "linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n#define CONFIG_64BIT 1\n"
        "#define CONFIG_ARCH_HAS_SYSCALL_WRAPPER 1\n",
        "linux/types.h": TYPES,
        "linux/bpf_common.h": "#define BPF_LD 0\n#define BPF_ABS 0x20\n#define BPF_IND 0x40\n"
        "#define BPF_W 0\n#define BPF_H 8\n#define BPF_B 0x10\n",
        "linux/version.h": version_header(platform.release()),
        "linux/log2.h": LOG2,
        "linux/ptrace.h": PTRACE,
        "asm/page.h": f"#define PAGE_SIZE {os.sysconf('SC_PAGESIZE')}\n",
        # BCC brings its own
        "uapi/linux/bpf.h": "",
        "uapi/linux/if_packet.h": "",
        "uapi/linux/if_ether.h": "#define ETH_ALEN 6\n",
        "uapi/linux/ptrace.h": PTRACE,
        "osd_kernel.h": kernel_header(btf),
    }
    for name, text in files.items():
        path = root / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
