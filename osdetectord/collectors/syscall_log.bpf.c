// The log of single system calls: one record for each, written when it leaves; user space makes two rows of it.
//
// Not hooked itself: while somebody reads the log, the programs of system calls and of the lives of threads come
// here.  Records gather on each CPU and go to the ring many at a time, which costs a fraction of one at a time.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// records, collectors/syscall_log.py has the same
struct syscall_record {
    u64 entered_ns;  // 0 where it was not seen, or is told already
    u64 left_ns;     // 0 where it has not left
    u64 first;       // argument
    s64 result;      // NEVER_LEAVES where it has not left and will not
    u32 tid;         // the kernel's own, as in threads
    s32 nr;
};

#define NEVER_LEAVES 1

struct chunk {
    u32 busy;   // somebody on this CPU is changing it
    u32 count;
    u64 rows;   // that will be made of the records
    struct syscall_record records[LOG_CHUNK];
};

// Who a thread is, since when.
struct thread_name {
    u64 time_ns;
    u32 tid;
    u32 pid, own_tid;  // in the daemon's namespace
    u32 unused;
    char comm[TASK_COMM_LEN];
};

BPF_TABLE("percpu_array", u32, struct chunk, chunks, 1);
BPF_RINGBUF_OUTPUT(syscall_log, SYSCALL_LOG_PAGES);
BPF_RINGBUF_OUTPUT(thread_names, THREAD_NAME_PAGES);

static __always_inline void hand_over(struct chunk *k)
{
    if (syscall_log.ringbuf_output(k, sizeof(*k), BPF_RB_NO_WAKEUP))
        lose_many(LOST_LOGGED, k->rows);
    k->count = 0;
    k->rows = 0;
}

// Appends a record.  ``under_way`` is where it stands that the call is under way: no longer, once it is logged.
//
// Programs of one CPU do not interrupt each other, but for syscall_log_flush, which leaves a busy chunk alone.
static __always_inline void append(struct syscall_record *record, u64 *under_way)
{
    u32 zero = 0, rows = !!record->entered_ns + !!record->left_ns;
    struct chunk *k = chunks.lookup(&zero);

    if (!k || k->busy) {
        lose_many(LOST_LOGGED, rows);
        *under_way = 0;
        return;
    }
    k->busy = 1;
    barrier();
    *under_way = 0;
    // only now: the flush may have come just before
    u32 n = k->count;
    if (n < LOG_CHUNK) {  // always, since who fills it hands it over; the verifier does not know
        k->records[n] = *record;
        k->rows += rows;
        k->count = n + 1;
        if (n + 1 == LOG_CHUNK)
            hand_over(k);
    }
    barrier();
    k->busy = 0;
}

// A thread that will not leave its call under the id it has: its end, or an execution that gives it another id.
static __always_inline void log_unfinished(u32 tid, struct thread *t, u32 log)
{
    struct syscall_record r = {t->entered_ns, 0, t->first, NEVER_LEAVES, tid, t->nr};
    u64 unused;

    if (log && t->logged == log && t->entered_ns)
        append(&r, &unused);
}

// Returns whether there was room.
static __always_inline bool tell_name(u32 tid, void *task, void *comm, u64 now)
{
    struct thread_name *name = thread_names.ringbuf_reserve(sizeof(struct thread_name));

    if (!name)
        return false;
    name->time_ns = now;
    name->tid = tid;
    name->pid = local_pid((void *)FIELD(u64, task, task_struct, group_leader));
    name->own_tid = local_pid(task);
    name->unused = 0;
    __builtin_memset(name->comm, 0, sizeof(name->comm));
    bpf_probe_read_kernel_str(name->comm, sizeof(name->comm), comm);
    thread_names.ringbuf_submit(name, BPF_RB_NO_WAKEUP);
    return true;
}

// The running thread's name, once for each log.
static __always_inline void introduce(u32 tid, struct thread *t, u32 log, u64 now)
{
    char *task = (char *)bpf_get_current_task();

    if (t->named != log && tell_name(tid, task, task + OFFSET_task_struct__comm, now))
        t->named = log;
}

// (task, new name), before it has it
int syscall_log_rename(struct bpf_raw_tracepoint_args *ctx)
{
    void *task = (void *)ctx->args[0];
    u32 zero = 0, tid = FIELD(u32, task, task_struct, pid);
    struct thread *t = watched_thread(tid);
    struct settings *s = settings.lookup(&zero);

    // who is not yet known is told with the name it has then
    if (!t || !s || !s->log || t->named != s->log || t->task != (u64)task)
        return 0;
    if (!tell_name(tid, task, (void *)ctx->args[1], bpf_ktime_get_ns())) {
        t->named = 0;
        settle_call(tid, t);
    }
    return 0;
}

// (whether to tell of the call under way), run on each CPU by user space before it reads.  Returns whether it must
// be run again.
int syscall_log_flush(struct bpf_raw_tracepoint_args *ctx)
{
    u32 zero = 0;
    struct chunk *k = chunks.lookup(&zero);
    struct calling *c = calling.lookup(&zero);
    struct settings *s = settings.lookup(&zero);
    u64 unused;

    if (!k || !c || !s)
        return 0;
    if (k->busy)
        return 1;
    if (ctx->args[0] && c->tid && c->entered_ns && s->log && c->logged == s->log) {
        struct syscall_record r = {c->entered_ns, 0, c->first, 0, c->tid, c->nr};
        append(&r, &unused);
    }
    if (k->count)
        hand_over(k);
    return 0;
}
