// Waits for a line, then makes RATE getppid calls a second for SECONDS; 0 for RATE is as fast as it can.
// Prints calls made and nanoseconds of CPU per call.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 1000000L

static long clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    double rate = atof(argv[1]), seconds = atof(argv[2]);
    long made = 0;
    if (getchar() == EOF)
        return 1;
    long begun = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (long now = begun; now < begun + seconds * 1e9; now = clock_ns(CLOCK_MONOTONIC)) {
        long due = rate ? (now - begun) * 1e-9 * rate : made + 10000;
        for (; made < due; made++)
            syscall(SYS_getppid);
        if (rate) {
            struct timespec slice = {0, SLICE_NS};
            nanosleep(&slice, 0);
        }
    }
    printf("%ld %.1f\n", made, (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / made);
    return 0;
}
