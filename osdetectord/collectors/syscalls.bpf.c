// System calls by process and number: count, errors, total and longest time.
//
// A system call of a watched thread costs one hash lookup when it enters and two when it leaves; a stranger's
// costs one array access each.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

struct call {
    u64 serial;
    u32 nr, unused;
};

struct calls {
    u64 count, errors, total_ns, longest_ns;
};

BPF_TABLE("percpu_hash", struct call, struct calls, syscalls, MAX_SYSCALLS);

static __always_inline struct thread *enter(u32 nr)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct thread *t = watched_thread(tid);

    if (t) {
        t->nr = nr;
        t->entered_ns = bpf_ktime_get_ns();
    }
    return t;
}

static __always_inline int leave(s64 result)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct thread *t = watched_thread(tid);

    // not yet seen entering
    if (!t || !t->entered_ns)
        return 0;
    u64 took = bpf_ktime_get_ns() - t->entered_ns;
    struct call key = {t->serial, t->nr};
    t->entered_ns = 0;
    if (has_effect(t->nr))
        effect_ends(t, result);
    struct calls *sum = syscalls.lookup(&key);
    if (!sum) {
        struct calls none = {};
        syscalls.insert(&key, &none);
        sum = syscalls.lookup(&key);
        if (!sum) {
            lose(LOST_SYSCALL);
            return 0;
        }
    }
    sum->count += 1;
    sum->total_ns += took;
    if (took > sum->longest_ns)
        sum->longest_ns = took;
    // ERESTARTSYS to ERESTART_RESTARTBLOCK (include/linux/errno.h) never reach the program
    if (result < 0 && result >= -4095 && !(result <= -512 && result >= -516))
        sum->errors += 1;
    return 0;
}

// (registers, number) and (registers, result)
int syscalls_enter(struct bpf_raw_tracepoint_args *ctx)
{
    struct thread *t = enter(ctx->args[1]);

    if (t && has_effect(t->nr)) {
        struct pt_regs registers = {};
        bpf_probe_read_kernel(&registers, sizeof(registers), (void *)ctx->args[0]);
        effect_begins(t, ARGUMENT_2(registers), ARGUMENT_3(registers), ARGUMENT_4(registers));
    }
    return 0;
}

int syscalls_leave(struct bpf_raw_tracepoint_args *ctx)
{
    return leave(ctx->args[1]);
}

struct classic_enter {
    u64 common;
    s64 nr;
    u64 arguments[6];
};

struct classic_leave {
    u64 common;
    s64 nr;
    s64 result;
};

int syscalls_enter_classic(struct classic_enter *ctx)
{
    struct thread *t = enter(ctx->nr);

    if (t && has_effect(t->nr))
        effect_begins(t, ctx->arguments[1], ctx->arguments[2], ctx->arguments[3]);
    return 0;
}

int syscalls_leave_classic(struct classic_leave *ctx)
{
    return leave(ctx->result);
}
