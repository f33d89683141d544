// Every system call of every watched thread, one record when it enters and one when it leaves.
//
// Attached only while somebody reads the log: at other times these programs cost nothing.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

#include <linux/ptrace.h>

// records, collectors/syscall_log.py has the same
struct syscall_record {
    u64 time_ns;
    u64 value;      // first argument, or result
    u32 pid, tid;   // in the daemon's namespace
    s32 nr;
    u32 leave;
    char comm[TASK_COMM_LEN];
};

BPF_RINGBUF_OUTPUT(syscall_log, SYSCALL_LOG_PAGES);

#if defined(__x86_64__)
#define OFFSET_NUMBER offsetof(struct pt_regs, orig_ax)
#define OFFSET_FIRST offsetof(struct pt_regs, di)
#else
#define OFFSET_NUMBER offsetof(struct pt_regs, syscallno)
#define OFFSET_FIRST offsetof(struct pt_regs, orig_x0)
#endif

static __always_inline int log_syscall(s32 nr, u64 value, bool leave)
{
    u64 ids = bpf_get_current_pid_tgid();
    u32 zero = 0;
    struct settings *s = settings.lookup(&zero);

    if (!s)
        return 0;
    struct syscall_record *r = syscall_log.ringbuf_reserve(sizeof(struct syscall_record));
    if (!r) {
        lose(LOST_LOGGED);
        return 0;
    }
    r->time_ns = bpf_ktime_get_ns();
    r->value = value;
    r->nr = nr;
    r->leave = leave;
    if (s->level) {
        void *task = (void *)bpf_get_current_task();
        r->pid = local_pid((void *)FIELD(u64, task, task_struct, group_leader));
        r->tid = local_pid(task);
    } else {
        r->pid = ids >> 32;
        r->tid = ids;
    }
    // before f3f213497797 (6.4) the helper leaves what follows the name as it was
    __builtin_memset(r->comm, 0, sizeof(r->comm));
    bpf_get_current_comm(r->comm, sizeof(r->comm));
    syscall_log.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
    return 0;
}

// (registers, number)
int syscall_log_enter(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    void *regs = (void *)ctx->args[0];
    struct thread *t = watched_thread(tid);
    u64 first = 0;

    if (!t)
        return 0;
    t->nr = ctx->args[1];
    bpf_probe_read_kernel(&first, sizeof(first), (char *)regs + OFFSET_FIRST);
    return log_syscall(ctx->args[1], first, false);
}

// (registers, result)
int syscall_log_leave(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    void *regs = (void *)ctx->args[0];
    struct thread *t = watched_thread(tid);
    s32 nr = 0;

    if (!t)
        return 0;
    bpf_probe_read_kernel(&nr, sizeof(nr), (char *)regs + OFFSET_NUMBER);
    // a return from a signal has put the registers back that the signal interrupted
    if (nr < 0)
        nr = t->nr;
    return log_syscall(nr, ctx->args[1], true);
}
