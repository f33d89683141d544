// Time on a CPU, time runnable but waiting for one, and switches.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// include/linux/sched.h: set by do_task_dead(), after which a task does not run again
#define TASK_DEAD 0x80

#if SIZE_task_struct__state == 4
#define STATE_TYPE u32
#else
#define STATE_TYPE u64
#endif

// (preempt, prev, next, ...), interrupts off
int cpu_switch(struct bpf_raw_tracepoint_args *ctx)
{
    u32 prev_tid = bpf_get_current_pid_tgid();
    void *prev = (void *)ctx->args[1], *next = (void *)ctx->args[2];
    u32 next_tid = FIELD(u32, next, task_struct, pid);
    struct thread *out = watched_thread(prev_tid), *in = watched_thread(next_tid);

    if (out) {
        u64 now = bpf_ktime_get_ns();
        u64 serial = out->serial;
        struct totals *sum = totals.lookup(&serial);
        STATE_TYPE state = FIELD(STATE_TYPE, prev, task_struct, state);
        settle_call(prev_tid, out);
        // __schedule() of kernel/sched/core.c counts the same way
        bool involuntary = ctx->args[0] || !state;
        if (out->on_ns)
            out->cpu_ns += now - out->on_ns;
        if (sum) {
            if (out->on_ns)
                sum->on_ns += now - out->on_ns;
            if (involuntary)
                sum->involuntary += 1;
            else
                sum->voluntary += 1;
        }
        out->on_ns = 0;
        out->queued_ns = involuntary ? now : 0;
        if (state & TASK_DEAD && out->task == (u64)prev)
            forget_thread(prev_tid, serial);
    }
    // Left by a thread that was forgotten while it ran here: watched again, it is another's by then.
    u32 zero = 0;
    struct calling *c = calling.lookup(&zero);
    if (c && c->tid)
        c->tid = 0;
    if (in) {
        u64 serial = in->serial, queued = in->queued_ns, now = bpf_ktime_get_ns();
        in->on_ns = now;
        in->queued_ns = 0;
        if (queued && queued < now) {
            struct totals *sum = totals.lookup(&serial);
            struct waits *histogram = waits.lookup(&serial);
            u64 wait = now - queued;
            if (sum)
                sum->queued_ns += wait;
            if (histogram)
                __sync_fetch_and_add(&histogram->bucket[wait_bucket(wait)], 1);
        }
    }
    return 0;
}

// (task): it became runnable
int cpu_wakeup(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tid = FIELD(u32, (void *)ctx->args[0], task_struct, pid);
    struct thread *t = watched_thread(tid);

    if (t && !t->on_ns)
        t->queued_ns = bpf_ktime_get_ns();
    return 0;
}

// Run on each CPU by user space before it reads: charges the running thread up to now.
int cpu_flush(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct thread *t = watched_thread(tid);

    if (!t || !t->on_ns)
        return 0;
    u64 serial = t->serial, now = bpf_ktime_get_ns();
    struct totals *sum = totals.lookup(&serial);
    if (sum)
        sum->on_ns += now - t->on_ns;
    t->cpu_ns += now - t->on_ns;
    t->on_ns = now;
    return 0;
}
