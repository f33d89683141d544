// Calls of functions of user programs: one entry and one return program for all of them, told apart by cookie.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// bits of probe_rule.flags; collectors/uprobe.py has the same
#define PROBE_CALLS 1          // a record of each call
#define PROBE_TRACE_ENTRY 2    // an event at each entry
#define PROBE_TRACE_RETURN 4   // an event at each return
#define PROBE_HAS_RETURN 8     // returns are seen, so that entries are remembered
#define PROBE_TRACE_RETRY 16   // an event at the return of a call whose strings could not be read at entry

// bits of probe_call.flags
#define CALL_CPU_EXACT 1       // on-CPU time is by the scheduler's switches, not by its tick
#define CALL_CPU_UNKNOWN 2
#define CALL_ALLOCATED_KNOWN 4

struct probe_rule {
    u32 flags;
    u32 tid;          // in the daemon's namespace, 0 for any
    u32 entry_texts;  // bit i: argument i is a string, to be read at entry
    u32 return_texts; // bit 6: the result is a string
};

struct probe_stack_key {
    u64 cookie;
    u32 tid, unused;
};

struct probe_stack {
    u64 task;     // tells a thread from a later one of the same id
    u32 depth;
    u32 pid, tid; // in the daemon's namespace
    u32 unused;
};

struct probe_frame_key {
    u64 cookie;
    u32 tid, depth;
};

struct probe_frame {
    u64 sp, entered_ns, cpu_ns, user_ns, system_ns, voluntary, involuntary;
    s64 allocated, allocations;
    u64 argument[6];
    u32 cpu_exact;
    u32 unread;  // strings that could not be read at entry
};

struct probe_sum_key {
    u64 cookie;
    u32 pid, unused;
};

struct probe_sum {
    u64 entries, calls, total_ns, cpu_ns, longest_ns;
    u64 bucket[PROBE_BUCKETS];  // of durations, four to a power of two
};

struct probe_call {
    u64 cookie, entered_ns, returned_ns, cpu_ns, user_ns, system_ns, voluntary, involuntary;
    s64 allocated, allocations;
    u64 result;
    u32 pid, tid, depth, flags;
};

struct probe_event {
    u64 cookie, time_ns, entered_ns;
    u64 value[7];  // six arguments and the result
    u32 pid, tid;
    u32 returned;
    u32 texts;     // bit i: value i is a string that was to be read, the lowest one first in text
    u32 depth;
    u32 unused;
    u32 length[PROBE_TEXTS];  // with the zero at the end; 0 where it could not be read
    char text[PROBE_TEXTS][PROBE_TEXT];
};

BPF_TABLE("hash", u64, struct probe_rule, probe_rules, MAX_PROBE_RULES);
// What ended threads leave behind gives way.
BPF_TABLE("lru_hash", struct probe_stack_key, struct probe_stack, probe_stacks, MAX_PROBE_STACKS);
BPF_TABLE("lru_hash", struct probe_frame_key, struct probe_frame, probe_frames, MAX_PROBE_FRAMES);
// BPF_F_NO_PREALLOC: takes memory only when it is used
BPF_F_TABLE("hash", struct probe_sum_key, struct probe_sum, probe_sums, MAX_PROBE_SUMS, 1);
BPF_TABLE("array", u32, struct probe_sum, probe_no_sum, 1);
// Rings of calls and of events are there only while something is probed; collectors/uprobe.py has the same order.
#define PROBE_RING_CALLS 0
#define PROBE_RING_EVENTS 1
#define PROBE_RINGS 2
BPF_RINGBUF_OUTPUT(probe_ring_shape, 1);
BPF_ARRAY_OF_MAPS(probe_rings, "probe_ring_shape", PROBE_RINGS);

static __always_inline void *probe_reserve(u32 which, u64 size)
{
    void *ring = probe_rings.lookup(&which);

    return ring ? bpf_ringbuf_reserve(ring, size, 0) : 0;
}

// Time on a CPU of the current thread: by its switches where they are seen, else as the scheduler last noted it.
static __always_inline u64 probe_cpu_clock(u32 tid, void *task, u32 *exact)
{
    u32 zero = 0;
    struct settings *s = settings.lookup(&zero);
    struct thread *t = watched_thread(tid);

    *exact = 0;
    if (s && s->cpu_served && t && t->task == (u64)task) {
        volatile struct thread *seen = t;
        u64 on_ns = seen->on_ns, clock = seen->cpu_ns + bpf_ktime_get_ns() - on_ns;
        // a switch between the two reads changes on_ns
        if (on_ns && seen->on_ns == on_ns) {
            *exact = 1;
            return clock;
        }
    }
#ifdef OFFSET_task_struct__sum_exec_ns
    return FIELD(u64, task, task_struct, sum_exec_ns);
#else
    return 0;
#endif
}

// Microseconds matter here, so the entry's clocks are read last and the return's first.
static __always_inline void probe_clocks(void *task, struct probe_frame *f)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct allocation_thread *held = allocation_threads.lookup(&tid);

    f->allocated = held ? held->bytes : 0;
    f->allocations = held ? held->count : 0;
    f->user_ns = FIELD(u64, task, task_struct, utime);
    f->system_ns = FIELD(u64, task, task_struct, stime);
    f->voluntary = FIELD(u64, task, task_struct, voluntary);
    f->involuntary = FIELD(u64, task, task_struct, involuntary);
    f->cpu_ns = probe_cpu_clock(tid, task, &f->cpu_exact);
}

static __always_inline struct probe_sum *probe_sum_of(u64 cookie, u32 pid)
{
    struct probe_sum_key key = {};
    u32 zero = 0;

    key.cookie = cookie;
    key.pid = pid;
    struct probe_sum *sum = probe_sums.lookup(&key);
    if (sum)
        return sum;
    void *none = probe_no_sum.lookup(&zero);
    if (!none)
        return 0;
    probe_sums.insert(&key, none);
    sum = probe_sums.lookup(&key);
    if (!sum)
        probe_lose(PROBE_LOST_SUM);
    return sum;
}

static __always_inline struct probe_stack *probe_stack_of(u64 cookie, u32 tid, void *task)
{
    struct probe_stack_key key = {};
    struct probe_stack fresh = {};

    key.cookie = cookie;
    key.tid = tid;
    struct probe_stack *stack = probe_stacks.lookup(&key);
    if (stack && stack->task == (u64)task)
        return stack;
    fresh.task = (u64)task;
    fresh.tid = local_pid(task);
    fresh.pid = local_pid((void *)FIELD(u64, task, task_struct, group_leader));
    probe_stacks.update(&key, &fresh);
    stack = probe_stacks.lookup(&key);
    if (!stack)
        probe_lose(PROBE_LOST_FRAME);
    return stack;
}

#define PROBE_READ_TEXTS(e, wanted, missing)                                                                      \
    ({                                                                                                            \
        u32 slot_ = 0;                                                                                            \
        _Pragma("unroll") for (u32 i_ = 0; i_ < 7; i_++)                                                          \
        {                                                                                                         \
            if ((wanted) & (1 << i_) && slot_ < PROBE_TEXTS) {                                                    \
                long got_ = bpf_probe_read_user_str((e)->text[slot_ & (PROBE_TEXTS - 1)], PROBE_TEXT,             \
                                                    (void *)(e)->value[i_]);                                      \
                (e)->length[slot_ & (PROBE_TEXTS - 1)] = got_ > 0 ? got_ : 0;                                     \
                if (got_ <= 0)                                                                                    \
                    (missing) |= 1 << i_;                                                                         \
                slot_++;                                                                                          \
            }                                                                                                     \
        }                                                                                                         \
    })

int probe_enter(struct pt_regs *ctx)
{
    u64 now = bpf_ktime_get_ns();
    u64 cookie = bpf_get_attach_cookie(ctx);
    struct probe_rule *rule = probe_rules.lookup(&cookie);
    void *task = (void *)bpf_get_current_task();
    u32 tid = bpf_get_current_pid_tgid();
    struct probe_frame f = {};

    if (!rule)
        return 0;
    struct probe_stack *stack = probe_stack_of(cookie, tid, task);
    if (!stack || (rule->tid && rule->tid != stack->tid))
        return 0;
    struct probe_sum *sum = probe_sum_of(cookie, stack->pid);
    if (sum)
        __sync_fetch_and_add(&sum->entries, 1);
    u32 flags = rule->flags, texts = rule->entry_texts;

    f.sp = PT_REGS_SP(ctx);
    f.entered_ns = now;
    f.argument[0] = PT_REGS_PARM1(ctx);
    f.argument[1] = PT_REGS_PARM2(ctx);
    f.argument[2] = PT_REGS_PARM3(ctx);
    f.argument[3] = PT_REGS_PARM4(ctx);
    f.argument[4] = PT_REGS_PARM5(ctx);
    f.argument[5] = PT_REGS_PARM6(ctx);
    u32 depth = stack->depth;
    if (flags & PROBE_HAS_RETURN) {
        // Frames below the stack pointer were left by longjmp() or an exception: nothing will return to them.
        for (int i = 0; i < PROBE_DEPTH; i++) {
            struct probe_frame_key top = {};
            if (!depth)
                break;
            top.cookie = cookie;
            top.tid = tid;
            top.depth = depth - 1;
            struct probe_frame *held = probe_frames.lookup(&top);
            // a tail call of itself has the same stack pointer
            if (held && held->sp >= f.sp)
                break;
            depth--;
            probe_lose(PROBE_LOST_ABANDONED);
        }
    }
    if (flags & PROBE_TRACE_ENTRY) {
        struct probe_event *e = probe_reserve(PROBE_RING_EVENTS, sizeof(struct probe_event));
        if (e) {
            e->cookie = cookie;
            e->time_ns = now;
            e->entered_ns = now;
            e->value[0] = f.argument[0];
            e->value[1] = f.argument[1];
            e->value[2] = f.argument[2];
            e->value[3] = f.argument[3];
            e->value[4] = f.argument[4];
            e->value[5] = f.argument[5];
            e->value[6] = 0;
            e->pid = stack->pid;
            e->tid = stack->tid;
            e->returned = 0;
            e->texts = texts;
            e->depth = depth;
            PROBE_READ_TEXTS(e, texts, f.unread);
            bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
        } else {
            f.unread = texts;
            probe_lose(PROBE_LOST_EVENT);
        }
    }
    if (!(flags & PROBE_HAS_RETURN))
        return 0;
    if (depth >= PROBE_DEPTH) {
        stack->depth = depth;
        probe_lose(PROBE_LOST_TOO_DEEP);
        return 0;
    }
    struct probe_frame_key key = {};
    key.cookie = cookie;
    key.tid = tid;
    key.depth = depth;
    if (flags & PROBE_CALLS)
        probe_clocks(task, &f);
    if (probe_frames.update(&key, &f)) {
        probe_lose(PROBE_LOST_FRAME);
        return 0;
    }
    stack->depth = depth + 1;
    return 0;
}

int probe_return(struct pt_regs *ctx)
{
    u64 now = bpf_ktime_get_ns();
    u64 cookie = bpf_get_attach_cookie(ctx), sp = STACK_POINTER_AT_RETURN(ctx);
    struct probe_rule *rule = probe_rules.lookup(&cookie);
    void *task = (void *)bpf_get_current_task();
    struct probe_stack_key stack_key = {};
    struct probe_frame_key key = {};
    struct probe_frame *f = 0, after = {};
    u64 result = PT_REGS_RC(ctx);

    stack_key.cookie = cookie;
    stack_key.tid = bpf_get_current_pid_tgid();
    struct probe_stack *stack = probe_stacks.lookup(&stack_key);
    if (!rule || !stack || stack->task != (u64)task)
        return 0;
    u32 flags = rule->flags, depth = stack->depth;
    key.cookie = cookie;
    key.tid = stack_key.tid;
    // An entry that was not seen (too deep, or before the probe) has no frame: then outer calls' frames stay.
    for (int i = 0; i < PROBE_DEPTH; i++) {
        if (!depth)
            break;
        key.depth = depth - 1;
        struct probe_frame *held = probe_frames.lookup(&key);
        if (held && held->sp > sp)
            break;
        depth--;
        if (held && held->sp == sp) {
            f = held;
            break;
        }
        probe_lose(PROBE_LOST_ABANDONED);
    }
    stack->depth = depth;
    if (!f)
        return 0;
    u64 taken = now - f->entered_ns;

    if (flags & PROBE_CALLS) {
        probe_clocks(task, &after);
        u32 told = after.cpu_exact ? CALL_CPU_EXACT : 0;
        if (after.cpu_exact != f->cpu_exact || after.cpu_ns < f->cpu_ns)
            told = CALL_CPU_UNKNOWN;
        u32 tid = stack_key.tid;
        if (allocation_threads.lookup(&tid))
            told |= CALL_ALLOCATED_KNOWN;
        u64 cpu_ns = told & CALL_CPU_UNKNOWN ? 0 : after.cpu_ns - f->cpu_ns;
        // the clock is read a little later than the time at return
        if (told & CALL_CPU_EXACT && cpu_ns > taken)
            cpu_ns = taken;
        struct probe_sum *sum = probe_sum_of(cookie, stack->pid);
        if (sum) {
            // four buckets to each power of two, from 2^PROBE_FIRST_POWER ns
            u64 scaled = taken >> PROBE_FIRST_POWER;
            u64 slot = 0;
            if (scaled) {
                // bpf_log2l() is one more than the exponent
                u32 power = bpf_log2l(taken) - 1;
                slot = 1 + (power - PROBE_FIRST_POWER) * 4 + (u32)((taken >> ((power - 2) & 63)) & 3);
            }
            if (slot > PROBE_BUCKETS - 1)
                slot = PROBE_BUCKETS - 1;
            // for the verifier: the compiler checks one register and uses another
            asm volatile("%0 &= %1" : "+r"(slot) : "i"(PROBE_BUCKETS - 1));
            __sync_fetch_and_add(&sum->bucket[slot], 1);
            __sync_fetch_and_add(&sum->calls, 1);
            __sync_fetch_and_add(&sum->total_ns, taken);
            __sync_fetch_and_add(&sum->cpu_ns, cpu_ns);
            if (taken > sum->longest_ns)
                sum->longest_ns = taken;
        }
        struct probe_call *c = probe_reserve(PROBE_RING_CALLS, sizeof(struct probe_call));
        if (c) {
            c->cookie = cookie;
            c->entered_ns = f->entered_ns;
            c->returned_ns = now;
            c->cpu_ns = cpu_ns;
            c->user_ns = after.user_ns - f->user_ns;
            c->system_ns = after.system_ns - f->system_ns;
            c->voluntary = after.voluntary - f->voluntary;
            c->involuntary = after.involuntary - f->involuntary;
            c->allocated = after.allocated - f->allocated;
            c->allocations = after.allocations - f->allocations;
            c->result = result;
            c->pid = stack->pid;
            c->tid = stack->tid;
            c->depth = depth;
            c->flags = told;
            bpf_ringbuf_submit(c, BPF_RB_NO_WAKEUP);
        } else {
            probe_lose(PROBE_LOST_CALL);
        }
    }
    if (flags & PROBE_TRACE_RETURN || (flags & PROBE_TRACE_RETRY && f->unread)) {
        struct probe_event *e = probe_reserve(PROBE_RING_EVENTS, sizeof(struct probe_event));
        if (!e) {
            probe_lose(PROBE_LOST_EVENT);
            return 0;
        }
        // what could not be read at entry is tried again
        u32 texts = rule->return_texts | f->unread, missing = 0;
        e->cookie = cookie;
        e->time_ns = now;
        e->entered_ns = f->entered_ns;
        e->value[0] = f->argument[0];
        e->value[1] = f->argument[1];
        e->value[2] = f->argument[2];
        e->value[3] = f->argument[3];
        e->value[4] = f->argument[4];
        e->value[5] = f->argument[5];
        e->value[6] = result;
        e->pid = stack->pid;
        e->tid = stack->tid;
        e->returned = 1;
        e->texts = texts;
        e->depth = depth;
        PROBE_READ_TEXTS(e, texts, missing);
        bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    }
    return 0;
}
