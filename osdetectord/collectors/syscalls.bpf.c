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

// The first argument, for the log: read where it was not given.
static __always_inline u64 first_argument(void *registers, u64 given)
{
    if (registers)
        bpf_probe_read_kernel(&given, sizeof(given), (char *)registers + OFFSET_ARGUMENT_1);
    return given;
}

// Returns the thread where the call may have an effect that is to be noted.  Of registers and first argument, one is
// given; without ``counted`` the call is only logged.
static __always_inline struct thread *enter(u32 nr, void *registers, u64 first, bool counted)
{
    u32 zero = 0, tid = bpf_get_current_pid_tgid();
    u32 *count = suspect(tid);

    if (!count || !*count)
        return 0;
    struct calling *c = calling.lookup(&zero);
    struct settings *s = settings.lookup(&zero);
    if (!c || !s)
        return 0;
    u32 log = s->log;
    if (is_of_a_probe(nr) && !log)
        return 0;
    bool effect = counted && has_effect(nr);
    if (log)
        first = first_argument(registers, first);
    // It is under way once its time is there: what is read by others, like the log's flush, comes before.
    if (c->tid == tid && !effect) {
        c->nr = nr;
        if (log) {
            c->first = first;
            c->logged = log;
        }
        c->entered_ns = bpf_ktime_get_ns();
        return 0;
    }
    struct thread *t = threads.lookup(&tid);
    if (!t)
        return 0;
    u64 now = bpf_ktime_get_ns();
    if (log)
        introduce(tid, t, log, now);
    // Where nobody tells that the thread leaves its CPU, or more is to be kept, it is kept with the thread.
    if (effect || !s->cpu_served) {
        c->tid = 0;
        t->nr = nr;
        t->first = first;
        t->logged = log;
        barrier();
        t->entered_ns = now;
        return effect ? t : 0;
    }
    t->entered_ns = 0;
    c->serial = t->serial;
    c->nr = nr;
    c->first = first;
    c->logged = log;
    c->entered_ns = now;
    barrier();
    c->tid = tid;
    return 0;
}

// A thread that waits in a call since before it was watched: the call's time counts from now on, like that of any
// other.  Or else a server that waits for its first client would seem to begin to wait with the second.
static __always_inline void find_call(u32 tid, void *task)
{
    u32 zero = 0;
    struct settings *s = settings.lookup(&zero);
    struct thread *t = threads.lookup(&tid);
    char *stack = (char *)FIELD(u64, task, task_struct, stack);
    s32 nr = -1;

    if (!s || !s->registers || !t || FIELD(u32, task, task_struct, on_cpu))
        return;
    // negative where it is an interrupt or a fault that the thread came by
    bpf_probe_read_kernel(&nr, sizeof(nr), stack + s->registers + OFFSET_NUMBER);
    if (nr < 0 || has_effect(nr))
        return;
    t->nr = nr;
    t->entered_ns = bpf_ktime_get_ns();
    // it has gone on meanwhile
    if (FIELD(u32, task, task_struct, on_cpu))
        t->entered_ns = 0;
}

// Registers are at the top of the stack, whose size and padding depend on how the kernel was built (THREAD_SIZE,
// TOP_OF_KERNEL_STACK_PADDING): where the caller's have the number of the call that it is in.
static __always_inline u32 find_registers(u32 nr)
{
    char *stack = (char *)FIELD(u64, bpf_get_current_task(), task_struct, stack);

#pragma unroll
    for (int kind = 0; kind < 6; kind++) {
        u32 at = (16384 << kind / 2) - kind % 2 * 16 - sizeof(struct pt_regs);
        s32 found = -1;
        bpf_probe_read_kernel(&found, sizeof(found), stack + at + OFFSET_NUMBER);
        if (found == nr)
            return at;
    }
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
    if (nr > FIRST_UNKNOWN)
        nr = FIRST_UNKNOWN;
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

// ``nr`` is asked for where the call was not seen entering: of registers and number, one is given.
static __always_inline int leave(void *registers, s32 nr, s64 result, bool counted)
{
    u32 zero = 0, tid = bpf_get_current_pid_tgid();
    u32 *count = suspect(tid);

    if (!count || !*count)
        return 0;
    struct calling *c = calling.lookup(&zero);
    struct settings *s = settings.lookup(&zero);
    if (!c || !s)
        return 0;
    struct syscall_record r = {};
    u32 log = s->log, logged;
    u64 serial, entered_ns, *under_way;
    if (c->tid == tid) {
        serial = c->serial;
        entered_ns = c->entered_ns;
        r.first = c->first;
        r.nr = c->nr;
        logged = c->logged;
        under_way = &c->entered_ns;
    } else {
        struct thread *t = threads.lookup(&tid);
        if (!t)
            return 0;
        serial = t->serial;
        entered_ns = t->entered_ns;
        r.first = t->first;
        r.nr = t->nr;
        logged = t->logged;
        under_way = &t->entered_ns;
        if (log)
            introduce(tid, t, log, bpf_ktime_get_ns());
        if (counted && entered_ns && has_effect(r.nr))
            effect_ends(t, result);
    }
    if (!entered_ns && !log)
        return 0;
    u64 now = bpf_ktime_get_ns();
    if (log) {
        r.entered_ns = logged == log ? entered_ns : 0;
        if (!entered_ns) {
            if (registers)
                bpf_probe_read_kernel(&nr, sizeof(nr), (char *)registers + OFFSET_NUMBER);
            r.nr = nr;
        }
        r.left_ns = now;
        r.result = result;
        r.tid = tid;
        append(&r, under_way);
    } else {
        *under_way = 0;
    }
    if (!counted || !entered_ns || is_of_a_probe(r.nr))
        return 0;
    return count_call(serial, r.nr, now - entered_ns, result);
}

// (registers, number) and (registers, result)
int syscalls_enter(struct bpf_raw_tracepoint_args *ctx)
{
    struct thread *t = enter(ctx->args[1], (void *)ctx->args[0], 0, true);

    if (t) {
        struct pt_regs registers = {};
        bpf_probe_read_kernel(&registers, sizeof(registers), (void *)ctx->args[0]);
        effect_begins(t, ARGUMENT_2(registers), ARGUMENT_3(registers), ARGUMENT_4(registers));
    }
    return 0;
}

int syscalls_leave(struct bpf_raw_tracepoint_args *ctx)
{
    return leave((void *)ctx->args[0], 0, ctx->args[1], true);
}

// The same where the calls are logged and nobody counts them.
int syscall_log_enter(struct bpf_raw_tracepoint_args *ctx)
{
    enter(ctx->args[1], (void *)ctx->args[0], 0, false);
    return 0;
}

int syscall_log_leave(struct bpf_raw_tracepoint_args *ctx)
{
    return leave((void *)ctx->args[0], 0, ctx->args[1], false);
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
    struct thread *t = enter(ctx->nr, 0, ctx->arguments[0], true);

    if (t)
        effect_begins(t, ctx->arguments[1], ctx->arguments[2], ctx->arguments[3]);
    return 0;
}

int syscalls_leave_classic(struct classic_leave *ctx)
{
    return leave(0, ctx->nr, ctx->result, true);
}
