// Bytes and calls of sockets by protocol, TCP connections opened and failed, and segments sent again.
//
// What is sent or received runs in the thread that asked for it.  What becomes of a connection is often told in an
// interrupt, under whatever thread that found: its process is looked up by the socket, learnt before.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// include/linux/socket.h: bytes that stay to be read again, or that are of the error queue
#define MSG_PEEK 0x2
#define MSG_ERRQUEUE 0x2000

// include/uapi/linux/uio.h: the most messages of one sendmmsg or recvmmsg
#define UIO_MAXIOV 1024
#define SIZE_MMSGHDR 64
#define OFFSET_MSG_LEN 56

struct traffic {
    u64 rx_bytes[PROTOCOLS], tx_bytes[PROTOCOLS], rx_calls[PROTOCOLS], tx_calls[PROTOCOLS];
    u64 opened, failed, retransmitted;
};

struct owner {
    u64 serial;
    u64 connecting;
};

BPF_F_TABLE("percpu_hash", u64, struct traffic, traffic, MAX_PROCESSES, BPF_F_NO_PREALLOC);
// by address of struct sock, until it is closed; the least recently used make room
BPF_TABLE("lru_hash", u64, struct owner, owners, MAX_SOCKETS);

static __always_inline struct traffic *traffic_of(u64 serial)
{
    struct traffic *sum = traffic.lookup(&serial);

    if (sum)
        return sum;
    // a connection may end after its process
    if (!processes.lookup(&serial))
        return 0;
    struct traffic none = {};
    traffic.insert(&serial, &none);
    sum = traffic.lookup(&serial);
    if (!sum)
        lose(LOST_TRAFFIC);
    return sum;
}

static __always_inline void received(u64 serial, void *sock, u64 bytes, u64 calls)
{
    struct traffic *sum = traffic_of(serial);
    u32 protocol = protocol_of(sock) & (PROTOCOLS - 1);

    if (sum) {
        sum->rx_bytes[protocol] += bytes;
        sum->rx_calls[protocol] += calls;
    }
}

static __always_inline void sent(u64 serial, void *sock, u64 bytes, u64 calls)
{
    u64 key = (u64)sock;
    struct traffic *sum = traffic_of(serial);
    u32 protocol = protocol_of(sock) & (PROTOCOLS - 1);

    if (protocol == PROTOCOL_TCP) {
        struct owner *known = owners.lookup(&key);
        if (!known) {
            struct owner new = {serial};
            owners.update(&key, &new);
        } else if (known->serial != serial) {
            known->serial = serial;
        }
    }
    if (sum) {
        sum->tx_bytes[protocol] += bytes;
        sum->tx_calls[protocol] += calls;
    }
}

// (sock, result, flags)
int network_received(struct bpf_raw_tracepoint_args *ctx)
{
    u64 serial = acting_process();
    s32 result = ctx->args[1];

    if (serial && result >= 0 && !(ctx->args[2] & (MSG_PEEK | MSG_ERRQUEUE)))
        received(serial, (void *)ctx->args[0], result, 1);
    return 0;
}

// (sock, result, flags)
int network_sent(struct bpf_raw_tracepoint_args *ctx)
{
    u64 serial = acting_process();
    s32 result = ctx->args[1];

    if (serial && result >= 0)
        sent(serial, (void *)ctx->args[0], result, 1);
    return 0;
}

// The bytes of so many messages: struct mmsghdr as the call left it.
static __always_inline u64 bytes_of_messages(u64 messages, u32 count)
{
    u64 bytes = 0;

    for (u32 i = 0; i < UIO_MAXIOV; i++) {
        u32 length = 0;
        if (i >= count)
            break;
        bpf_probe_read_user(&length, sizeof(length), (void *)(messages + i * SIZE_MMSGHDR + OFFSET_MSG_LEN));
        bytes += length;
    }
    return bytes;
}

// (registers, result): what a system call that names a socket returned, where sockets do not tell themselves
int network_leave(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct thread *t = watched_thread(tid);
    s64 result = ctx->args[1];

    if (!t || result < 0 || is_32bit())
        return 0;
    struct pt_regs registers = {};
    bpf_probe_read_kernel(&registers, sizeof(registers), (void *)ctx->args[0]);
    u64 flags = 0, calls = 1;
    u32 descriptor = ARGUMENT_1(registers);
    bool out = false;
    switch (NUMBER(registers)) {
    case NR_recvfrom:
        flags = ARGUMENT_4(registers);
        break;
    case NR_recvmsg:
        flags = ARGUMENT_3(registers);
        break;
    case NR_recvmmsg:
        flags = ARGUMENT_4(registers);
        calls = result;
        break;
    case NR_read:
    case NR_readv:
    case NR_preadv2:
        break;
    case NR_splice: {
        void *source = socket_of(descriptor);
        if (source) {
            received(t->serial, source, result, 1);
            return 0;
        }
        descriptor = ARGUMENT_3(registers);
        out = true;
        break;
    }
    case NR_sendmmsg:
        calls = result;
        out = true;
        break;
    case NR_write:
    case NR_writev:
    case NR_pwritev2:
    case NR_sendto:
    case NR_sendmsg:
    case NR_sendfile:
        out = true;
        break;
    default:
        return 0;
    }
    void *sock = socket_of(descriptor);
    if (!sock || flags & (MSG_PEEK | MSG_ERRQUEUE))
        return 0;
    u64 bytes = result;
    if (NUMBER(registers) == NR_recvmmsg || NUMBER(registers) == NR_sendmmsg)
        bytes = bytes_of_messages(ARGUMENT_2(registers), result);
    if (out)
        sent(t->serial, sock, bytes, calls);
    else
        received(t->serial, sock, bytes, calls);
    return 0;
}

// (sock, old state, new state)
int network_state(struct bpf_raw_tracepoint_args *ctx)
{
    u64 sock = ctx->args[0];
    u32 state = ctx->args[2];

    if (state == TCP_SYN_SENT) {
        // still in connect(): tcp_v4_connect() and tcp_v6_connect()
        u64 serial = acting_process();
        if (serial && internet_protocol_of((void *)sock) == IPPROTO_TCP) {
            struct owner new = {serial, 1};
            owners.update(&sock, &new);
        }
        return 0;
    }
    if (state != TCP_ESTABLISHED && state != TCP_CLOSE)
        return 0;
    struct owner *known = owners.lookup(&sock);
    if (!known)
        return 0;
    u64 serial = known->serial, connecting = known->connecting;
    known->connecting = 0;
    if (state == TCP_CLOSE)
        owners.delete(&sock);
    if (!connecting)
        return 0;
    struct traffic *sum = traffic_of(serial);
    if (!sum)
        return 0;
    if (state == TCP_ESTABLISHED)
        sum->opened += 1;
    else
        sum->failed += 1;
    return 0;
}

// (sock, buffer) and, since Linux 6.15, the error: failures are told there too
int network_retransmit(struct bpf_raw_tracepoint_args *ctx)
{
    u64 sock = ctx->args[0];

#if ARGUMENTS_tcp_retransmit_skb == 3
    if ((s32)ctx->args[2])
        return 0;
#endif
    struct owner *known = owners.lookup(&sock);
    if (!known)
        return 0;
    struct traffic *sum = traffic_of(known->serial);
    if (sum)
        sum->retransmitted += 1;
    return 0;
}
