// Births, executions and deaths.  A child of a watched process is watched before it first runs.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// (parent, child), in the parent's context, the child not yet awake
int lifecycle_fork(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct thread *parent = watched_thread(tid);

    if (!parent)
        return 0;
    u64 serial = parent->serial;
    struct process *p = processes.lookup(&serial);
    if (!p || p->flags & REMOVED)
        return 0;

    void *child = (void *)ctx->args[1];
    u32 child_tid = FIELD(u32, child, task_struct, pid);
    if (FIELD(u32, child, task_struct, tgid) != p->tgid) {
        if (!(p->flags & FOLLOW))
            return 0;
        serial = add_process(child, serial, p->pid, FOLLOW | BORN);
        if (!serial)
            return 0;
        p = processes.lookup(&serial);
        if (!p)
            return 0;
    }
    add_thread(child_tid, child, serial, p, true);
    return 0;
}

// (task, old pid, binary): a thread that executes takes its leader's id over (de_thread() of fs/exec.c)
int lifecycle_exec(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tid = bpf_get_current_pid_tgid(), old = ctx->args[1];
    void *task = (void *)ctx->args[0];
    struct thread *t = watched_thread(old);

    if (!t) {
        u32 zero = 0;
        struct settings *s = settings.lookup(&zero);
        if (!s || !s->strangers)
            return 0;
        struct event e = {};
        e.pid = local_pid(task);
        e.start_ns = FIELD(u64, task, task_struct, start_boottime);
        if (e.pid && events.ringbuf_output(&e, sizeof(e), BPF_RB_NO_WAKEUP))
            lose(LOST_EVENT);
        return 0;
    }
    u64 serial = t->serial;
    struct process *p = processes.lookup(&serial);
    if (old != tid) {
        settle_call(old, t);
        u32 zero = 0;
        struct settings *s = settings.lookup(&zero);
        if (s)
            log_unfinished(old, t, s->log);
        struct thread moved = *t;
        moved.logged = 0;
        moved.named = 0;
        // the old leader, if it is still on its CPU, must not take the entry away: see the check of task
        struct thread *leader = threads.lookup(&tid);
        if (leader) {
            *leader = moved;
        } else if (threads.insert(&tid, &moved)) {
            lose(LOST_THREAD);
        } else {
            u32 *count = suspect(tid);
            if (count)
                __sync_fetch_and_add(count, 1);
            if (p)
                __sync_fetch_and_add(&p->threads, 1);
            if (p)
                __sync_fetch_and_add(&p->stamps_ns, bpf_ktime_get_ns());
        }
        forget_thread(old, serial);
    }
    if (p) {
        p->execs += 1;
        describe(p, task);
    }
    return 0;
}

// (task), in its own context; signal->live is already counted down
int lifecycle_exit(struct bpf_raw_tracepoint_args *ctx)
{
    u32 zero = 0, tid = bpf_get_current_pid_tgid();
    struct thread *t = watched_thread(tid);

    if (!t)
        return 0;
    u64 serial = t->serial;
    void *task = (void *)ctx->args[0];
    struct settings *s = settings.lookup(&zero);
    struct process *p = processes.lookup(&serial);
    if (p) {
        __sync_fetch_and_add(&p->min_flt, FIELD(u64, task, task_struct, min_flt));
        __sync_fetch_and_add(&p->maj_flt, FIELD(u64, task, task_struct, maj_flt));
        __sync_fetch_and_add(&p->utime_ns, FIELD(u64, task, task_struct, utime));
        __sync_fetch_and_add(&p->stime_ns, FIELD(u64, task, task_struct, stime));
#ifdef OFFSET_task_struct__rchar
        __sync_fetch_and_add(&p->rchar, FIELD(u64, task, task_struct, rchar));
        __sync_fetch_and_add(&p->wchar, FIELD(u64, task, task_struct, wchar));
#endif
#ifdef OFFSET_task_struct__read_bytes
        __sync_fetch_and_add(&p->read_bytes, FIELD(u64, task, task_struct, read_bytes));
        __sync_fetch_and_add(&p->write_bytes, FIELD(u64, task, task_struct, write_bytes));
#endif
        void *signal = (void *)FIELD(u64, task, task_struct, signal);
        // Two last threads may both see 0; they write the same.
        if (!FIELD(u32, signal, signal_struct, live)) {
            // what wait_task_zombie() of kernel/exit.c tells the parent
            u32 group = FIELD(u32, signal, signal_struct, flags) & SIGNAL_GROUP_EXIT;
            void *leader = (void *)FIELD(u64, task, task_struct, group_leader);
            p->exit_code = group ? FIELD(u32, signal, signal_struct, group_exit_code)
                                 : FIELD(u32, leader, task_struct, exit_code);
            p->exited_ns = bpf_ktime_get_ns();
            bpf_probe_read_kernel(p->comm, sizeof(p->comm), (char *)task + OFFSET_task_struct__comm);
            p->flags |= EXITED;
        }
    }
    if (s && s->log) {
        settle_call(tid, t);
        log_unfinished(tid, t, s->log);
    }
    // What follows (freeing memory) is its work too: where switches are seen, the last one ends it.
    if (!s || !s->cpu_served)
        forget_thread(tid, serial);
    return 0;
}
