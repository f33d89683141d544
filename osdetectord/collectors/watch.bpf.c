// What is watched: threads by thread id, processes by serial.  All other sources build on this one.
//
// Ids are the kernel's own, of the initial pid namespace, whatever namespace the daemon lives in: they cost
// nothing on the hot paths.  Where user space names a process, or is told of one, its id is translated here.
//
// SPDX-License-Identifier: MIT OR GPL-2.0
#include <linux/types.h>
#include <osd_kernel.h>

#define FIELD(type, base, kind, name)                                                                             \
    ({                                                                                                            \
        type value_ = 0;                                                                                          \
        _Static_assert(sizeof(type) == SIZE_##kind##__##name, "size of " #kind "." #name);                        \
        bpf_probe_read_kernel(&value_, sizeof(value_), (char *)(base) + OFFSET_##kind##__##name);                 \
        value_;                                                                                                   \
    })

#define barrier() asm volatile("" ::: "memory")

// include/linux/sched.h, include/linux/sched/signal.h
#define PF_EXITING 0x4
#define PF_KTHREAD 0x200000
#define SIGNAL_GROUP_EXIT 0x4
#define PIDTYPE_PID 0

// include/linux/xarray.h: 64 slots to a node, 16 with CONFIG_BASE_SMALL
#if SIZE_xa_node__slots == 512
#define XA_SHIFT 6
#else
#define XA_SHIFT 4
#endif

// enum of process.flags; layout.py has the same
#define FOLLOW 1
#define EXITED 2
#define REMOVED 4
#define BORN 8     // watched since its fork

struct thread {
    u64 serial;
    u64 task;         // address, tells a thread from a later one of the same id
    u64 entered_ns;   // system call under way since, 0 for none or where it stands in calling
    u64 on_ns;        // on a CPU since, 0 if not
    u64 queued_ns;    // runnable since, 0 if not
    u64 cpu_ns;       // on a CPU before on_ns, since it is watched
    u64 argument;     // what it is about to change: see effects.bpf.c
    u64 first;        // first argument of the call under way, where it is logged: see syscall_log.bpf.c
    u32 nr;           // the system call under way
    u32 logged;       // the log that heard it enter
    u32 named;        // the log that was told the thread's name
    u32 unused;
};

// A serial is start time (us) and thread group id: the same from whoever makes it, and never reused.
struct process {
    u64 start_ns;   // CLOCK_BOOTTIME
    u64 parent;     // serial, 0 for none that is watched
    u64 stamps_ns;  // births less deaths of threads: their summed age is threads * now - stamps
    u64 exited_ns;
    u64 min_flt, maj_flt, utime_ns, stime_ns;          // of threads that ended
    u64 rchar, wchar, read_bytes, write_bytes;
    u32 threads;    // known and not yet off their CPU for good
    u32 execs;
    u32 flags;
    u32 exit_code;
    u32 pid;        // in the daemon's namespace, 0 outside of it
    u32 parent_pid;
    u32 tgid;
    u32 uid;
    char comm[TASK_COMM_LEN];
};

// The system calls of the thread on this CPU since it came there: most do not wait, and cost no lookup by thread id.
struct calling {
    u64 serial, entered_ns;  // of the call under way, 0 for none
    u64 first;               // as in struct thread
    u32 tid;                 // 0 for no watched thread
    u32 nr, logged, unused;
};

// Per CPU, so that threads of one process do not fight for a cache line.
struct totals {
    u64 on_ns, queued_ns, voluntary, involuntary;
};

struct waits {
    u64 bucket[WAIT_BUCKETS];  // run-queue waits of [2^i, 2^(i+1)) us; the first holds all below 2
};

struct settings {
    u64 ns;        // the daemon's pid namespace
    u32 level;
    u32 strangers; // report executions of processes that are not watched
    u32 cpu_served;
    u32 packets;
    u32 log;       // number of the log of system calls that is read, 0 for none
    u32 registers; // where on a thread's stack the registers of its system call are, 0 if not known
};

struct answer {
    u64 serial, start_ns;
    u32 tid, tgid, pid, flags;
};

struct event {
    u64 start_ns;
    u32 pid, unused;
};

BPF_TABLE("hash", u32, struct thread, threads, MAX_THREADS);
BPF_TABLE("hash", u64, struct process, processes, MAX_PROCESSES);
BPF_TABLE("percpu_hash", u64, struct totals, totals, MAX_PROCESSES);
BPF_TABLE("percpu_array", u32, struct calling, calling, 1);
BPF_TABLE("hash", u64, struct waits, waits, MAX_PROCESSES);
BPF_TABLE("array", u32, struct waits, no_waits, 1);
// How many watched threads have these low bits in their id: an access to an array is compiled into the program,
// so that a stranger does not cost the call of a hash lookup.
BPF_TABLE("array", u32, u32, suspects, SUSPECT_SLOTS);
BPF_TABLE("array", u32, struct settings, settings, 1);
BPF_TABLE("array", u32, struct answer, answers, 1);
BPF_TABLE("percpu_array", u32, u64, lost, LOST_CAUSES);
BPF_RINGBUF_OUTPUT(events, EVENT_PAGES);

// causes; layout.py has the same
#define LOST_THREAD 0
#define LOST_PROCESS 1
#define LOST_SYSCALL 2
#define LOST_EVENT 3
#define LOST_LOGGED 4
#define LOST_TRAFFIC 5
#define LOST_EFFECTS 6
#define LOST_REQUEST 7

static __always_inline void lose_many(u32 cause, u64 many)
{
    u64 *count = lost.lookup(&cause);

    if (count)
        *count += many;
}

static __always_inline void lose(u32 cause)
{
    lose_many(cause, 1);
}

// Of waits: 1024 ns for a microsecond; histograms are for people.
static __always_inline u32 wait_bucket(u64 ns)
{
    u64 units = ns >> 10;
    // BCC's gives one more than the logarithm, and 1 for 0
    u32 bucket = units < 2 ? 0 : bpf_log2l(units) - 1;

    return bucket < WAIT_BUCKETS ? bucket : WAIT_BUCKETS - 1;
}

static __always_inline u32 *suspect(u32 tid)
{
    u32 slot = tid & (SUSPECT_SLOTS - 1);

    return suspects.lookup(&slot);
}

static __always_inline struct thread *watched_thread(u32 tid)
{
    u32 *count = suspect(tid);

    if (!count || !*count)
        return 0;
    return threads.lookup(&tid);
}

// A thread leaves its CPU or its id: what is known of its call goes with it.
static __always_inline void settle_call(u32 tid, struct thread *t)
{
    u32 zero = 0;
    struct calling *c = calling.lookup(&zero);

    if (!c || c->tid != tid)
        return;
    t->nr = c->nr;
    t->first = c->first;
    t->logged = c->logged;
    t->entered_ns = c->entered_ns;
    c->tid = 0;
}

// The id of struct pid in the daemon's namespace, 0 where it is not visible there.
static __always_inline u32 local_id(void *pid)
{
    u32 zero = 0;
    struct settings *s = settings.lookup(&zero);

    if (!s || !pid)
        return 0;
    u32 level = s->level;
    if (FIELD(u32, pid, pid, level) < level)
        return 0;
    void *upid = (char *)pid + OFFSET_pid__numbers + (u64)level * SIZE_upid;
    if (FIELD(u64, upid, upid, ns) != s->ns)
        return 0;
    return FIELD(u32, upid, upid, nr);
}

static __always_inline u32 local_pid(void *leader)
{
    return local_id((void *)FIELD(u64, leader, task_struct, thread_pid));
}

static __always_inline void describe(struct process *p, void *task)
{
    void *cred = (void *)FIELD(u64, task, task_struct, uid);

    p->uid = FIELD(u32, cred, cred, uid);
    bpf_probe_read_kernel(p->comm, sizeof(p->comm), (char *)task + OFFSET_task_struct__comm);
}

// Returns whether the thread is new.
static __always_inline bool add_thread(u32 tid, void *task, u64 serial, struct process *p, bool starts)
{
    struct thread t = {};
    u64 now = bpf_ktime_get_ns();

    t.serial = serial;
    t.task = (u64)task;
    if (FIELD(u32, task, task_struct, on_cpu) && !starts)
        t.on_ns = now;
    struct thread *old = threads.lookup(&tid);
    if (old) {
        if (old->task == t.task)
            return false;
        // left behind by a thread whose id was given away before it was off its CPU
        *old = t;
    } else {
        if (threads.insert(&tid, &t)) {
            lose(LOST_THREAD);
            return false;
        }
        u32 *count = suspect(tid);
        if (count)
            __sync_fetch_and_add(count, 1);
    }
    __sync_fetch_and_add(&p->threads, 1);
    __sync_fetch_and_add(&p->stamps_ns, now);
    return true;
}

// syscalls.bpf.c
static __always_inline void find_call(u32 tid, void *task);
static __always_inline u32 find_registers(u32 nr);

static __always_inline void forget_thread(u32 tid, u64 serial)
{
    u64 now = bpf_ktime_get_ns();
    struct process *p = processes.lookup(&serial);

    if (threads.delete(&tid))
        return;
    u32 *count = suspect(tid);
    if (count)
        __sync_fetch_and_add(count, -1);
    if (p) {
        __sync_fetch_and_add(&p->stamps_ns, -now);
        __sync_fetch_and_add(&p->threads, -1);
    }
}

// Returns the process's serial, 0 where there was no room.  A process that is known stays as it is.
static __always_inline u64 add_process(void *leader, u64 parent, u32 parent_pid, u32 flags)
{
    struct process p = {};
    struct totals none = {};
    u32 zero = 0;
    void *no_wait = no_waits.lookup(&zero);

    p.start_ns = FIELD(u64, leader, task_struct, start_boottime);
    p.tgid = FIELD(u32, leader, task_struct, tgid);
    // pids are below 2^22 (PID_MAX_LIMIT), and no two start within one microsecond
    u64 serial = p.start_ns >> 10 << 22 | p.tgid;
    if (processes.lookup(&serial))
        return serial;
    p.parent = parent;
    p.parent_pid = parent_pid;
    p.flags = flags;
    p.pid = local_pid(leader);
    describe(&p, leader);
    if (!no_wait)
        return 0;
    if (totals.insert(&serial, &none) || waits.insert(&serial, no_wait) || processes.insert(&serial, &p)) {
        if (processes.lookup(&serial))
            return serial;
        totals.delete(&serial);
        waits.delete(&serial);
        lose(LOST_PROCESS);
        return 0;
    }
    return serial;
}

// find_pid_ns() of kernel/pid.c: an xarray from the number in the daemon's namespace to struct pid.
static __always_inline void *find_pid(u32 number)
{
    u32 zero = 0;
    struct settings *s = settings.lookup(&zero);

    if (!s)
        return 0;
    u64 entry = FIELD(u64, s->ns, pid_namespace, idr_head);
    bool root = true;
#pragma unroll
    for (int level = 0; level < 6; level++) {
        if ((entry & 3) != 2)
            break;
        u64 node = entry - 2;
        u32 shift = FIELD(u8, node, xa_node, shift);
        if (root && shift < 26 && number >> (shift + XA_SHIFT))
            return 0;
        root = false;
        u64 slot = (number >> (shift & 31)) & ((1 << XA_SHIFT) - 1);
        entry = 0;
        bpf_probe_read_kernel(&entry, sizeof(entry), (char *)node + OFFSET_xa_node__slots + slot * 8);
    }
    if (!entry || entry & 3)
        return 0;
    return local_id((void *)entry) == number ? (void *)entry : 0;
}

static __always_inline void *first_task(void *pid, u32 type)
{
    u64 link = 0;

    bpf_probe_read_kernel(&link, sizeof(link), (char *)pid + OFFSET_pid__tasks + type * 8);
    return link ? (char *)link - OFFSET_task_struct__pid_links - type * 16 : 0;
}

// Commands are run by user space with BPF_PROG_TEST_RUN, so that all that changes the maps is one side's work.
#define COMMAND_SELF 0     // learn the caller's pid namespace, and where registers are from its being in system call NR
#define COMMAND_LOOK 1     // who is PID?
#define COMMAND_PROCESS 2  // watch PID, FLAGS, PARENT
#define COMMAND_THREAD 3   // watch thread PID of SERIAL
#define COMMAND_FORGET 4   // forget thread TID (global) of SERIAL
#define COMMAND_FLAGS 5    // set FLAGS, clear FLAGS of SERIAL
#define COMMAND_RESULT_NONE 1
#define COMMAND_RESULT_OLD 2

int command(struct bpf_raw_tracepoint_args *ctx)
{
    u32 zero = 0, what = ctx->args[0];
    struct settings *s = settings.lookup(&zero);
    struct answer *a = answers.lookup(&zero);

    if (!s || !a)
        return -1;
    if (what == COMMAND_SELF) {
        void *pid = (void *)FIELD(u64, bpf_get_current_task(), task_struct, thread_pid);
        s->level = FIELD(u32, pid, pid, level);
        void *upid = (char *)pid + OFFSET_pid__numbers + (u64)s->level * SIZE_upid;
        s->ns = FIELD(u64, upid, upid, ns);
        s->registers = find_registers(ctx->args[1]);
        a->pid = local_pid((void *)FIELD(u64, bpf_get_current_task(), task_struct, group_leader));
        return 0;
    }
    if (what == COMMAND_FORGET) {
        u32 tid = ctx->args[1];
        struct thread *t = threads.lookup(&tid);
        if (!t || t->serial != ctx->args[2])
            return COMMAND_RESULT_NONE;
        forget_thread(tid, t->serial);
        return 0;
    }
    if (what == COMMAND_FLAGS) {
        u64 serial = ctx->args[1];
        struct process *p = processes.lookup(&serial);
        if (!p)
            return COMMAND_RESULT_NONE;
        p->flags = (p->flags | (u32)ctx->args[2]) & ~(u32)ctx->args[3];
        return 0;
    }

    void *pid = find_pid(ctx->args[1]);
    void *task = pid ? first_task(pid, PIDTYPE_PID) : 0;
    if (!task)
        return COMMAND_RESULT_NONE;
    void *leader = (void *)FIELD(u64, task, task_struct, group_leader);
    void *signal = (void *)FIELD(u64, task, task_struct, signal);
    u32 tid = FIELD(u32, task, task_struct, pid);
    if (!signal)
        return COMMAND_RESULT_NONE;
    a->tid = tid;
    a->tgid = FIELD(u32, task, task_struct, tgid);
    a->start_ns = FIELD(u64, leader, task_struct, start_boottime);
    a->flags = FIELD(u32, task, task_struct, flags);
    a->pid = local_pid(leader);
    a->serial = 0;
    if (what == COMMAND_LOOK)
        return 0;

    u64 serial = ctx->args[2];
    bool is_new = false;
    if (what == COMMAND_PROCESS) {
        if (!FIELD(u32, signal, signal_struct, live))
            return COMMAND_RESULT_NONE;
        u64 parent = ctx->args[3];
        serial = add_process(leader, parent, ctx->args[4], ctx->args[2]);
    }
    struct process *p = processes.lookup(&serial);
    if (!p || p->tgid != a->tgid || p->start_ns != a->start_ns)
        return COMMAND_RESULT_NONE;
    is_new = add_thread(tid, task, serial, p, false);
    // Only a thread that was not yet exiting after it got in is sure to pass the exit hook.
    if (FIELD(u32, task, task_struct, flags) & PF_EXITING) {
        forget_thread(tid, serial);
        is_new = false;
    }
    a->serial = serial;
    if (is_new)
        find_call(tid, task);
    return is_new ? 0 : COMMAND_RESULT_OLD;
}
