// System calls by process and number: count, errors, total and longest time.
//
// A system call of a watched thread that stays on its CPU costs one hash lookup, when it leaves; the first since the
// thread came to its CPU costs one more when it enters, one that waits one more when it leaves.  A stranger's costs one
// array access each.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// A program may ask for any number, and must not fill the tables with them: from here on they are counted together.
#define FIRST_UNKNOWN 511

struct call {
    u64 serial;
    u32 nr, unused;
};

struct calls {
    u64 count, errors, total_ns, longest_ns;
};

struct failure {
    u64 serial;
    u32 nr, error;
};

struct failed {
    u64 count;
};

BPF_TABLE("percpu_hash", struct call, struct calls, syscalls, MAX_SYSCALLS);
BPF_F_TABLE("percpu_hash", struct failure, struct failed, failures, MAX_SYSCALLS, BPF_F_NO_PREALLOC);

// How a probed function of a program reaches the kernel where no trap is needed (arch/x86/kernel/uprobes.c): the doing
// of who probes it, not the program's own.  Not seen entering, it is not counted when it leaves.
static __always_inline bool is_of_a_probe(u32 nr)
{
#ifdef NR_uretprobe
    return nr - NR_uretprobe < 2;
#else
    return false;
#endif
}

// Returns the thread where the call may have an effect that is to be noted.
static __always_inline struct thread *enter(u32 nr)
{
    u32 zero = 0, tid = bpf_get_current_pid_tgid();
    u32 *count = suspect(tid);

    if (!count || !*count || is_of_a_probe(nr))
        return 0;
    if (nr > FIRST_UNKNOWN)
        nr = FIRST_UNKNOWN;
    struct calling *c = calling.lookup(&zero);
    bool effect = has_effect(nr);
    if (c && c->tid == tid && !effect) {
        c->nr = nr;
        c->entered_ns = bpf_ktime_get_ns();
        return 0;
    }
    struct thread *t = threads.lookup(&tid);
    struct settings *s = settings.lookup(&zero);
    if (!t || !s || !c)
        return 0;
    u64 now = bpf_ktime_get_ns();
    // Where nobody tells that the thread leaves its CPU, or more is to be kept, it is kept with the thread.
    if (effect || !s->cpu_served) {
        c->tid = 0;
        t->nr = nr;
        t->entered_ns = now;
        return effect ? t : 0;
    }
    t->entered_ns = 0;
    c->serial = t->serial;
    c->entered_ns = now;
    c->tid = tid;
    c->nr = nr;
    return 0;
}

static __always_inline void count_failure(u64 serial, u32 nr, u32 error)
{
    struct failure key = {serial, nr, error};
    struct failed *sum = failures.lookup(&key);

    if (!sum) {
        struct failed none = {};
        failures.insert(&key, &none);
        sum = failures.lookup(&key);
        if (!sum) {
            lose(LOST_SYSCALL);
            return;
        }
    }
    sum->count += 1;
}

static __always_inline int count_call(u64 serial, u32 nr, u64 took, s64 result)
{
    struct call key = {serial, nr};
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
    if (result < 0 && result >= -4095 && !(result <= -512 && result >= -516)) {
        sum->errors += 1;
        count_failure(serial, nr, -result);
    }
    return 0;
}

static __always_inline int leave(s64 result)
{
    u32 zero = 0, tid = bpf_get_current_pid_tgid();
    u32 *count = suspect(tid);

    if (!count || !*count)
        return 0;
    struct calling *c = calling.lookup(&zero);
    u64 serial, entered_ns;
    u32 nr;
    if (c && c->tid == tid) {
        serial = c->serial;
        entered_ns = c->entered_ns;
        nr = c->nr;
        c->entered_ns = 0;
    } else {
        struct thread *t = threads.lookup(&tid);
        if (!t)
            return 0;
        serial = t->serial;
        entered_ns = t->entered_ns;
        nr = t->nr;
        t->entered_ns = 0;
        if (entered_ns && has_effect(nr))
            effect_ends(t, result);
    }
    // not seen entering
    if (!entered_ns)
        return 0;
    return count_call(serial, nr, bpf_ktime_get_ns() - entered_ns, result);
}

// (registers, number) and (registers, result)
int syscalls_enter(struct bpf_raw_tracepoint_args *ctx)
{
    struct thread *t = enter(ctx->args[1]);

    if (t) {
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

    if (t)
        effect_begins(t, ctx->arguments[1], ctx->arguments[2], ctx->arguments[3]);
    return 0;
}

int syscalls_leave_classic(struct classic_leave *ctx)
{
    return leave(ctx->result);
}
