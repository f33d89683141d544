// Sockets: which one is behind a descriptor, of what protocol it is, and for whom a thread acts.
//
// SPDX-License-Identifier: MIT OR GPL-2.0

// include/uapi/linux/stat.h, include/linux/socket.h, include/uapi/linux/in.h
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136
#define IPPROTO_MPTCP 262

// network.py has the same order
#define PROTOCOL_TCP 0
#define PROTOCOL_UDP 1
#define PROTOCOL_UNIX 2
#define PROTOCOL_OTHER 3
#define PROTOCOLS 4

// include/net/tcp_states.h
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7

// struct sock behind a descriptor of the running thread, 0 if that is no socket.
static __always_inline void *socket_of(u32 descriptor)
{
    void *files = (void *)FIELD(u64, bpf_get_current_task(), task_struct, files);
    if (!files)
        return 0;
    void *table = (void *)FIELD(u64, files, files_struct, fdt);
    if (descriptor >= FIELD(u32, table, fdtable, max_fds))
        return 0;
    u64 slots = FIELD(u64, table, fdtable, fd), file = 0;
    bpf_probe_read_kernel(&file, sizeof(file), (void *)(slots + (u64)descriptor * 8));
    if (!file)
        return 0;
    void *inode = (void *)FIELD(u64, file, file, f_inode);
    if ((FIELD(u16, inode, inode, i_mode) & S_IFMT) != S_IFSOCK)
        return 0;
    // sock_alloc_file() of net/socket.c
    void *socket = (void *)FIELD(u64, file, file, private_data);
    return (void *)FIELD(u64, socket, socket, sk);
}

static __always_inline u16 family_of(void *sock)
{
    return FIELD(u16, sock, sock, family);
}

static __always_inline u16 internet_protocol_of(void *sock)
{
    return FIELD(u16, sock, sock, protocol);
}

static __always_inline u32 protocol_of(void *sock)
{
    u16 family = family_of(sock);

    if (family == AF_UNIX)
        return PROTOCOL_UNIX;
    if (family != AF_INET && family != AF_INET6)
        return PROTOCOL_OTHER;
    u16 protocol = internet_protocol_of(sock);
    if (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)
        return PROTOCOL_TCP;
    if (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE)
        return PROTOCOL_UDP;
    return PROTOCOL_OTHER;
}

// The process whose watched thread runs, or for which a worker of io_uring runs: create_io_thread() of kernel/fork.c
// makes a thread of the process without telling of a fork, so that only the main thread is known here.  0 for none.
static __always_inline u64 acting_process(void)
{
    u64 id = bpf_get_current_pid_tgid();
    u32 zero = 0, tid = id, tgid = id >> 32;
    u32 *count = suspect(tid);

    if (count && *count) {
        struct calling *c = calling.lookup(&zero);
        if (c && c->tid == tid)
            return c->serial;
        struct thread *t = threads.lookup(&tid);
        if (t)
            return t->serial;
    }
    struct thread *main = tid == tgid ? 0 : watched_thread(tgid);
    return main ? main->serial : 0;
}
