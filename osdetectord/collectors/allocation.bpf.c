// Memory that programs got from their allocator and have not yet given back, and on which stacks they got it.
//
// One entry and one return program for all functions of all allocators: the cookie says which process's
// allocations these are and how the function takes its arguments.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

#include <linux/ptrace.h>

// low byte of the cookie, the rest is the owner; collectors/uprobe.py has the same
#define ALLOCATE_SIZE 1       // malloc, valloc, pvalloc: (size)
#define ALLOCATE_PRODUCT 2    // calloc: (count, size)
#define ALLOCATE_ALIGNED 3    // memalign, aligned_alloc: (alignment, size)
#define ALLOCATE_POSIX 4      // posix_memalign: (address of the result, alignment, size), returns 0
#define ALLOCATE_AGAIN 5      // realloc: (old, size)
#define ALLOCATE_AGAIN_PRODUCT 6  // reallocarray: (old, count, size)
#define ALLOCATE_FREE 7       // free, cfree: (old)

#if defined(__x86_64__)
// at the return the return address has been popped
#define STACK_POINTER_AT_RETURN(ctx) (PT_REGS_SP(ctx) - 8)
#else
#define STACK_POINTER_AT_RETURN(ctx) PT_REGS_SP(ctx)
#endif

struct allocation_key {
    u64 owner, address;
};

struct allocation {
    u64 size;
    s64 stack;  // negative where it could not be kept
};

struct allocation_call_key {
    u64 sp;
    u32 tid, unused;
};

struct allocation_call {
    u64 size, result_at, old;
    struct allocation taken;  // what realloc() took, to be put back if it fails
};

struct allocation_sum {
    s64 bytes, count;  // outstanding
    u64 allocated_bytes, allocations, frees, unknown_frees;
};

struct allocation_thread {
    s64 bytes, count;
};

struct allocation_stack_key {
    u64 owner;
    s64 stack;
};

struct allocation_stack_sum {
    s64 bytes, count;
};

struct allocation_stack {
    u64 address[ALLOCATION_FRAMES];
};

// BPF_F_NO_PREALLOC: takes memory only when it is used
BPF_F_TABLE("hash", struct allocation_key, struct allocation, allocations, MAX_ALLOCATIONS, 1);
// Calls of killed threads and what a thread allocated less what it freed: old entries give way.
BPF_TABLE("lru_hash", struct allocation_call_key, struct allocation_call, allocation_calls, MAX_ALLOCATION_CALLS);
BPF_TABLE("lru_hash", u32, struct allocation_thread, allocation_threads, MAX_ALLOCATION_THREADS);
BPF_TABLE("hash", u64, struct allocation_sum, allocation_sums, MAX_ALLOCATION_OWNERS);
BPF_F_TABLE("hash", struct allocation_stack_key, struct allocation_stack_sum, allocation_stack_sums,
            MAX_ALLOCATION_STACKS, 1);
BPF_TABLE("stacktrace", int, struct allocation_stack, allocation_stacks, MAX_ALLOCATION_STACKS);

// causes; collectors/uprobe.py has the same
#define PROBE_LOST_CALL 0
#define PROBE_LOST_EVENT 1
#define PROBE_LOST_TOO_DEEP 2
#define PROBE_LOST_ABANDONED 3
#define PROBE_LOST_FRAME 4
#define PROBE_LOST_SUM 5
#define PROBE_LOST_ALLOCATION 6
#define PROBE_LOST_STACK 7
BPF_TABLE("percpu_array", u32, u64, probe_lost, PROBE_LOST_CAUSES);

static __always_inline void probe_lose(u32 cause)
{
    u64 *count = probe_lost.lookup(&cause);

    if (count)
        __sync_fetch_and_add(count, 1);
}

static __always_inline void allocation_of_thread(s64 bytes, s64 count)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct allocation_thread *sum = allocation_threads.lookup(&tid);

    if (sum) {
        sum->bytes += bytes;
        sum->count += count;
    } else {
        struct allocation_thread first = {};
        first.bytes = bytes;
        first.count = count;
        allocation_threads.update(&tid, &first);
    }
}

static __always_inline void allocation_count(u64 owner, s64 bytes, s64 count, s64 stack)
{
    struct allocation_sum *sum = allocation_sums.lookup(&owner);

    if (sum) {
        __sync_fetch_and_add(&sum->bytes, bytes);
        __sync_fetch_and_add(&sum->count, count);
    }
    if (stack < 0)
        return;
    struct allocation_stack_key key = {};
    key.owner = owner;
    key.stack = stack;
    struct allocation_stack_sum *of_stack = allocation_stack_sums.lookup(&key);
    if (of_stack) {
        __sync_fetch_and_add(&of_stack->bytes, bytes);
        __sync_fetch_and_add(&of_stack->count, count);
        return;
    }
    struct allocation_stack_sum first = {};
    first.bytes = bytes;
    first.count = count;
    // two threads may both be first: the later one finds the other's entry
    if (allocation_stack_sums.insert(&key, &first)) {
        of_stack = allocation_stack_sums.lookup(&key);
        if (of_stack) {
            __sync_fetch_and_add(&of_stack->bytes, bytes);
            __sync_fetch_and_add(&of_stack->count, count);
        } else {
            probe_lose(PROBE_LOST_STACK);
        }
    }
}

// Returns whether the address was known.
static __always_inline bool allocation_take(u64 owner, u64 address, struct allocation *taken)
{
    struct allocation_key key = {};

    key.owner = owner;
    key.address = address;
    struct allocation *held = allocations.lookup(&key);
    if (!held)
        return false;
    *taken = *held;
    if (allocations.delete(&key))
        return false;
    allocation_count(owner, -(s64)taken->size, -1, taken->stack);
    allocation_of_thread(-(s64)taken->size, -1);
    return true;
}

static __always_inline void allocation_put(u64 owner, u64 address, struct allocation *put)
{
    struct allocation_key key = {};
    struct allocation before = {};

    key.owner = owner;
    key.address = address;
    // realloc() may call malloc(): the outer one has the last word
    allocation_take(owner, address, &before);
    if (allocations.insert(&key, put)) {
        probe_lose(PROBE_LOST_ALLOCATION);
        return;
    }
    allocation_count(owner, put->size, 1, put->stack);
    allocation_of_thread(put->size, 1);
}

int allocation_enter(struct pt_regs *ctx)
{
    u64 cookie = bpf_get_attach_cookie(ctx), owner = cookie >> 8;
    u64 first = PT_REGS_PARM1(ctx), second = PT_REGS_PARM2(ctx), third = PT_REGS_PARM3(ctx);
    struct allocation_call_key key = {};
    struct allocation_call call = {};
    u8 kind = cookie;

    if (kind == ALLOCATE_FREE) {
        struct allocation_sum *sum = allocation_sums.lookup(&owner);
        if (!first || !sum)
            return 0;
        __sync_fetch_and_add(&sum->frees, 1);
        // before it is freed: afterwards another thread may get the same address
        if (!allocation_take(owner, first, &call.taken))
            __sync_fetch_and_add(&sum->unknown_frees, 1);
        return 0;
    }
    if (kind == ALLOCATE_SIZE)
        call.size = first;
    else if (kind == ALLOCATE_PRODUCT)
        call.size = first * second;
    else if (kind == ALLOCATE_ALIGNED || kind == ALLOCATE_AGAIN)
        call.size = second;
    else if (kind == ALLOCATE_POSIX)
        call.size = third;
    else
        call.size = second * third;
    if (kind == ALLOCATE_POSIX)
        call.result_at = first;
    key.sp = PT_REGS_SP(ctx);
    key.tid = bpf_get_current_pid_tgid();
    if ((kind == ALLOCATE_AGAIN || kind == ALLOCATE_AGAIN_PRODUCT) && first) {
        struct allocation_call *outer = allocation_calls.lookup(&key);
        if (allocation_take(owner, first, &call.taken)) {
            call.old = first;
        } else if (outer && outer->old == first) {
            // reallocarray() jumps to realloc(): the same call, the same place on the stack
            call.old = first;
            call.taken = outer->taken;
        }
    }
    if (allocation_calls.update(&key, &call))
        probe_lose(PROBE_LOST_ALLOCATION);
    return 0;
}

int allocation_return(struct pt_regs *ctx)
{
    u64 cookie = bpf_get_attach_cookie(ctx), owner = cookie >> 8, result = PT_REGS_RC(ctx);
    struct allocation_call_key key = {};
    struct allocation_call call = {};

    key.sp = STACK_POINTER_AT_RETURN(ctx);
    key.tid = bpf_get_current_pid_tgid();
    struct allocation_call *held = allocation_calls.lookup(&key);
    if (!held)
        return 0;
    call = *held;
    allocation_calls.delete(&key);
    if (call.result_at) {
        bool failed = (u32)result;
        result = 0;
        if (!failed && bpf_probe_read_user(&result, sizeof(result), (void *)call.result_at))
            probe_lose(PROBE_LOST_ALLOCATION);
    }
    if (!result) {
        // realloc(old, 0) has freed it, any other failure has not
        if (call.old && call.size)
            allocation_put(owner, call.old, &call.taken);
        return 0;
    }
    struct allocation_sum *sum = allocation_sums.lookup(&owner);
    if (!sum)
        return 0;
    __sync_fetch_and_add(&sum->allocations, 1);
    __sync_fetch_and_add(&sum->allocated_bytes, call.size);
    struct allocation made = {};
    made.size = call.size;
    // At the return the instruction pointer is the caller's, so that the caller is right even without frame pointers.
    made.stack = allocation_stacks.get_stackid(ctx, BPF_F_USER_STACK);
    if (made.stack < 0)
        probe_lose(PROBE_LOST_STACK);
    allocation_put(owner, result, &made);
    return 0;
}
