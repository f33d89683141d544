// TCP segments that each process's connections sent and received, acknowledgements and repetitions included.
//
// The kernel itself counts them for each connection (RFC 4898); here the rise is charged to whoever uses it, at each of
// its sends and receives and when it closes.  Packets are not looked at.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

struct segments {
    u64 serial;
    u32 in, out;  // charged so far, as the kernel counts
};

struct packets {
    u64 rx, tx;
};

// by address of struct sock, until it is closed; the least recently used make room
BPF_TABLE("lru_hash", u64, struct segments, segments, MAX_COUNTED_SOCKETS);
BPF_F_TABLE("percpu_hash", u64, struct packets, packets, MAX_PROCESSES, BPF_F_NO_PREALLOC);

static __always_inline bool is_tcp(void *sock)
{
    u16 family = family_of(sock);

    // MPTCP's own socket has no such counters
    return (family == AF_INET || family == AF_INET6) && internet_protocol_of(sock) == IPPROTO_TCP;
}

static __always_inline struct packets *packets_of(u64 serial)
{
    struct packets *sum = packets.lookup(&serial);

    if (sum)
        return sum;
    // a connection may end after its process
    if (!processes.lookup(&serial))
        return 0;
    struct packets none = {};
    packets.insert(&serial, &none);
    sum = packets.lookup(&serial);
    if (!sum)
        lose(LOST_TRAFFIC);
    return sum;
}

static __always_inline void charge_from(void *sock, u64 serial, u32 in, u32 out)
{
    u64 key = (u64)sock;
    struct segments start = {serial, in, out};

    if (packets_of(serial))
        segments.update(&key, &start);
}

// What was counted before is not charged to anybody.
static __always_inline void charge_from_now(void *sock, u64 serial)
{
    charge_from(sock, serial, FIELD(u32, sock, tcp_sock, segs_in), FIELD(u32, sock, tcp_sock, segs_out));
}

// serial: who uses it now, 0 for whoever did last
static __always_inline void charge_segments(void *sock, u64 serial)
{
    u64 key = (u64)sock;
    struct segments *seen = segments.lookup(&key);
    u64 last = seen ? seen->serial : 0;

    // known, but by a process that is watched no more, or anew
    if (!seen || !packets.lookup(&last)) {
        if (serial)
            charge_from_now(sock, serial);
        return;
    }
    if (!serial)
        serial = last;
    seen->serial = serial;
    // another thread may have charged later numbers already
    u32 in = FIELD(u32, sock, tcp_sock, segs_in), out = FIELD(u32, sock, tcp_sock, segs_out);
    s32 rx = in - seen->in, tx = out - seen->out;
    if (rx > 0)
        seen->in = in;
    if (tx > 0)
        seen->out = out;
    struct packets *sum = packets_of(serial);
    if (!sum)
        return;
    if (rx > 0)
        sum->rx += rx;
    if (tx > 0)
        sum->tx += tx;
}

// Told by accept() of a watched thread: from its first segment on, the connection is the process's.
static __always_inline void accepted_segments(void *sock, u64 serial)
{
    u32 zero = 0;
    struct settings *s = settings.lookup(&zero);

    if (s && s->packets && is_tcp(sock))
        charge_from(sock, serial, 0, 0);
}

// (sock, result, flags)
int packets_moved(struct bpf_raw_tracepoint_args *ctx)
{
    u64 serial = acting_process();
    void *sock = (void *)ctx->args[0];

    if (serial && is_tcp(sock))
        charge_segments(sock, serial);
    return 0;
}

// (sock, old state, new state)
int packets_state(struct bpf_raw_tracepoint_args *ctx)
{
    void *sock = (void *)ctx->args[0];
    u64 key = (u64)sock;
    u32 state = ctx->args[2];

    if (state == TCP_SYN_SENT) {
        u64 serial = acting_process();
        if (serial && is_tcp(sock))
            charge_from_now(sock, serial);
    } else if (state == TCP_CLOSE && segments.lookup(&key)) {
        charge_segments(sock, 0);
        segments.delete(&key);
    }
    return 0;
}
