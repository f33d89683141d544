// What some system calls of a watched thread did: addresses mapped and unmapped, connections accepted.
//
// Not hooked itself: the programs of system calls ask here, and any other call costs a comparison of its number.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// include/uapi/linux/mman.h
#define MREMAP_DONTUNMAP 4

struct effects {
    u64 mapped, unmapped, heap_grown, heap_shrunk, accepted;
};

BPF_F_TABLE("percpu_hash", u64, struct effects, effects, MAX_PROCESSES, BPF_F_NO_PREALLOC);

static __always_inline bool has_effect(u32 nr)
{
    return nr == NR_mmap || nr == NR_munmap || nr == NR_mremap || nr == NR_brk || nr == NR_accept || nr == NR_accept4;
}

static __always_inline s64 whole_pages(u64 bytes)
{
    return (bytes + PAGE_SIZE - 1) & ~(u64)(PAGE_SIZE - 1);
}

// What the call is about to change is kept until it is known whether it did.
static __always_inline void effect_begins(struct thread *t, u64 second, u64 third, u64 fourth)
{
    switch (t->nr) {
    case NR_mmap:
    case NR_munmap:
        t->argument = whole_pages(second);
        break;
    case NR_mremap:
        t->argument = whole_pages(third) - (fourth & MREMAP_DONTUNMAP ? 0 : whole_pages(second));
        break;
    case NR_brk: {
        void *mm = (void *)FIELD(u64, bpf_get_current_task(), task_struct, mm);
        t->argument = FIELD(u64, mm, mm_struct, brk);
        break;
    }
    }
}

static __always_inline struct effects *effects_of(u64 serial)
{
    struct effects *sum = effects.lookup(&serial);

    if (sum)
        return sum;
    struct effects none = {};
    effects.insert(&serial, &none);
    sum = effects.lookup(&serial);
    if (!sum)
        lose(LOST_EFFECTS);
    return sum;
}

static __always_inline void effect_ends(struct thread *t, s64 result)
{
    s64 change = t->argument;

    if ((result < 0 && result >= -4095) || is_32bit())
        return;
    struct effects *sum = effects_of(t->serial);
    if (!sum)
        return;
    switch (t->nr) {
    case NR_brk:
        change = result - change;
        if (change > 0)
            sum->heap_grown += change;
        else
            sum->heap_shrunk -= change;
        break;
    case NR_munmap:
        sum->unmapped += change;
        break;
    case NR_mmap:
    case NR_mremap:
        if (change > 0)
            sum->mapped += change;
        else
            sum->unmapped -= change;
        break;
    case NR_accept:
    case NR_accept4: {
        void *sock = socket_of(result);
        if (sock && protocol_of(sock) == PROTOCOL_TCP) {
            sum->accepted += 1;
            accepted_segments(sock, t->serial);
        }
        break;
    }
    }
}
