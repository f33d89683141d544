// Sends or receives over a pair of UNIX sockets through io_uring, by its workers (IOSQE_ASYNC).
//
//     uring COUNT SIZE    waits for a line, sends and receives COUNT messages of SIZE bytes, waits for another

#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;

static void *part(size_t size, off_t at)
{
    void *out = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, at);
    if (out == MAP_FAILED)
        exit(2);
    return out;
}

static int transfer(int op, int fd, void *data, unsigned size)
{
    unsigned index = *sq_tail & *sq_mask;
    struct io_uring_sqe *sqe = sqes + index;

    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = op;
    sqe->fd = fd;
    sqe->addr = (uintptr_t)data;
    sqe->len = size;
    sqe->flags = IOSQE_ASYNC;
    sq_array[index] = index;
    __atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1)
        exit(3);
    while (__atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) == *cq_head)
        ;
    int result = cqes[*cq_head & *cq_mask].res;
    __atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
    return result;
}

int main(int argc, char **argv)
{
    unsigned count = atoi(argv[1]), size = atoi(argv[2]);
    struct io_uring_params params = {0};
    char *data = calloc(1, size);
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 1;
    ring = syscall(SYS_io_uring_setup, 8, &params);
    if (ring < 0)
        return 1;
    char *sq = part(params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    char *cq = part(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    sqes = part(params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    sq_tail = (unsigned *)(sq + params.sq_off.tail);
    sq_mask = (unsigned *)(sq + params.sq_off.ring_mask);
    sq_array = (unsigned *)(sq + params.sq_off.array);
    cq_head = (unsigned *)(cq + params.cq_off.head);
    cq_tail = (unsigned *)(cq + params.cq_off.tail);
    cq_mask = (unsigned *)(cq + params.cq_off.ring_mask);
    cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
    puts("ready");
    fflush(stdout);
    getchar();
    for (unsigned i = 0; i < count; i++)
        if (transfer(IORING_OP_SEND, pair[0], data, size) != (int)size ||
            transfer(IORING_OP_RECV, pair[1], data, size) != (int)size)
            return 4;
    puts("done");
    fflush(stdout);
    getchar();
    return 0;
}
