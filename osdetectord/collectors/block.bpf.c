// Requests to block devices by the process that made them: how many, how large, and how long they took.
//
// What the kernel writes back later is made by its own threads and counted for nobody.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// include/linux/blk_types.h
#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1

struct request_start {
    u64 serial, start_ns;
    u32 bytes, op;
};

// read and write
struct block {
    u64 requests[2], bytes[2], time_ns[2];
    u64 others;
    u64 bucket[2][WAIT_BUCKETS];
};

// by address of struct request
BPF_TABLE("hash", u64, struct request_start, requests, MAX_REQUESTS);
BPF_F_TABLE("hash", u64, struct block, block, MAX_PROCESSES, BPF_F_NO_PREALLOC);
BPF_TABLE("array", u32, struct block, no_block, 1);

static __always_inline int request_starts(u64 request)
{
    u64 serial = acting_process();

    // An address that is still known is of a request whose end was not told: docs/collectors/README.md.
    if (requests.lookup(&request)) {
        requests.delete(&request);
        lose(LOST_REQUEST);
    }
    if (!serial)
        return 0;
    struct request_start start = {serial, bpf_ktime_get_ns()};
    start.bytes = FIELD(u32, request, request, bytes);
    start.op = FIELD(u32, request, request, op) & REQ_OP_MASK;
    u32 zero = 0;
    void *none = no_block.lookup(&zero);
    if (!none)
        return 0;
    if (!block.lookup(&serial) && block.insert(&serial, none) && !block.lookup(&serial)) {
        lose(LOST_REQUEST);
        return 0;
    }
    if (requests.update(&request, &start))
        lose(LOST_REQUEST);
    return 0;
}

static __always_inline int request_ends(u64 request)
{
    struct request_start *start = requests.lookup(&request);

    if (!start)
        return 0;
    u64 serial = start->serial, took = bpf_ktime_get_ns() - start->start_ns;
    u32 bytes = start->bytes, op = start->op;
    requests.delete(&request);
    struct block *sum = block.lookup(&serial);
    if (!sum)
        return 0;
    // a write of no bytes is a flush of the device's cache
    if (op > REQ_OP_WRITE || !bytes) {
        __sync_fetch_and_add(&sum->others, 1);
        return 0;
    }
    op &= 1;
    __sync_fetch_and_add(&sum->requests[op], 1);
    __sync_fetch_and_add(&sum->bytes[op], bytes);
    __sync_fetch_and_add(&sum->time_ns[op], took);
    __sync_fetch_and_add(&sum->bucket[op][wait_bucket(took)], 1);
    return 0;
}

// (request), in the thread that made it
int block_start(struct bpf_raw_tracepoint_args *ctx)
{
    return request_starts(ctx->args[0]);
}

// (request): it has grown by what was merged into it since it started
int block_issue(struct bpf_raw_tracepoint_args *ctx)
{
    u64 request = ctx->args[0];
    struct request_start *start = requests.lookup(&request);

    if (start)
        start->bytes = FIELD(u32, request, request, bytes);
    return 0;
}

// (request): it became part of another and does not end itself
int block_merge(struct bpf_raw_tracepoint_args *ctx)
{
    u64 request = ctx->args[0];

    requests.delete(&request);
    return 0;
}

// (request): where starts are not told, it is first seen when a scheduler takes it in, or when it is issued.  Both
// may happen again, if the device was busy, and an issue also in a thread of the kernel.
int block_first(struct bpf_raw_tracepoint_args *ctx)
{
    u64 request = ctx->args[0];
    struct request_start *start = requests.lookup(&request);

    if (!start)
        return request_starts(request);
    start->bytes = FIELD(u32, request, request, bytes);
    return 0;
}

// (request, error, bytes of this part): told before who waits is woken, unlike block_io_done, so that a process that
// ends at once is not gone before its last request
int block_complete(struct bpf_raw_tracepoint_args *ctx)
{
    u64 request = ctx->args[0];

    if ((u32)ctx->args[2] < FIELD(u32, request, request, bytes))
        return 0;
    return request_ends(request);
}
