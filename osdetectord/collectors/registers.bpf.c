// The registers of a system call: its number and arguments, as they still are when it leaves.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

#include <linux/ptrace.h>

#if defined(__x86_64__)
#define NUMBER(registers) ((u32)(registers).orig_ax)
#define OFFSET_NUMBER offsetof(struct pt_regs, orig_ax)
#define OFFSET_ARGUMENT_1 offsetof(struct pt_regs, di)
#define ARGUMENT_1(registers) ((registers).di)
#define ARGUMENT_2(registers) ((registers).si)
#define ARGUMENT_3(registers) ((registers).dx)
#define ARGUMENT_4(registers) ((registers).r10)
#elif defined(__aarch64__)
#define NUMBER(registers) ((u32)(registers).syscallno)
#define OFFSET_NUMBER offsetof(struct pt_regs, syscallno)
#define OFFSET_ARGUMENT_1 offsetof(struct pt_regs, orig_x0)
#define ARGUMENT_1(registers) ((registers).orig_x0)
#define ARGUMENT_2(registers) ((registers).regs[1])
#define ARGUMENT_3(registers) ((registers).regs[2])
#define ARGUMENT_4(registers) ((registers).regs[3])
#endif

// arch/x86/include/asm/thread_info.h: in a system call of a 32-bit program, whose numbers are others
#define TS_COMPAT 0x2

static __always_inline bool is_32bit(void)
{
#ifdef OFFSET_task_struct__call_status
    return FIELD(u32, bpf_get_current_task(), task_struct, call_status) & TS_COMPAT;
#else
    return false;
#endif
}
