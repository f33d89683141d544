// Waits for a line, then makes N getppid calls on one CPU and prints nanoseconds per call, best of ten parts.
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    long calls = atol(argv[1]) / 10;
    double best = 1e18;
    cpu_set_t cpus;

    if (argc != 3 || calls < 1)
        return 2;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[2]), &cpus);
    sched_setaffinity(0, sizeof(cpus), &cpus);
    if (getchar() == EOF)
        return 1;
    for (int part = 0; part < 10; part++) {
        double start = now_ns(), took;
        for (long i = 0; i < calls; i++)
            syscall(SYS_getppid);
        took = (now_ns() - start) / calls;
        if (took < best)
            best = took;
    }
    printf("%.2f\n", best);
    return 0;
}
