// sendrecv UNIX|TCP|UDP PAIRS CPU: waits for a line, sends and receives a byte PAIRS times on one CPU and prints
// nanoseconds per pair, best of fifty parts.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { PARTS = 50 };

static void join(int type, int out[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int server = socket(AF_INET, type, 0);

    out[1] = socket(AF_INET, type, 0);
    if (bind(server, (void *)&address, size) || getsockname(server, (void *)&address, &size))
        exit(1);
    if (type == SOCK_STREAM && listen(server, 1))
        exit(1);
    if (connect(out[1], (void *)&address, size))
        exit(1);
    out[0] = type == SOCK_STREAM ? accept(server, 0, 0) : server;
}

int main(int argc, char **argv)
{
    long pairs = atol(argv[2]);
    struct timespec from, to;
    int ends[2];
    cpu_set_t cpus;
    char byte = 0;
    double best = 1e18;

    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[3]), &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus))
        return 1;
    if (!strcmp(argv[1], "UNIX") ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : 0)
        return 1;
    if (strcmp(argv[1], "UNIX"))
        join(strcmp(argv[1], "TCP") ? SOCK_DGRAM : SOCK_STREAM, ends);
    getchar();
    for (int part = 0; part < PARTS; part++) {
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (long i = 0; i < pairs / PARTS; i++)
            if (send(ends[1], &byte, 1, 0) != 1 || recv(ends[0], &byte, 1, 0) != 1)
                return 1;
        clock_gettime(CLOCK_MONOTONIC, &to);
        double took = ((to.tv_sec - from.tv_sec) * 1e9 + to.tv_nsec - from.tv_nsec) / (pairs / PARTS);
        if (took < best)
            best = took;
    }
    printf("%.2f\n", best);
    return 0;
}
