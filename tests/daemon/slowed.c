// Forty threads serve, each every 550 ms, and 100 ms each time.  One call in ten takes five times as long while the file
// of the first argument is there, and one in ten leaks while that of the second is.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))
#define THREADS 40

static char **files;
void *volatile kept;

static void rest(long ms)
{
    struct timespec span = {0, ms * 1000000};
    nanosleep(&span, NULL);
}

KEEP void serve(int slow)
{
    rest(slow ? 500 : 100);
    asm volatile("" ::: "memory");
}

KEEP void other(void)
{
    asm volatile("" ::: "memory");
}

KEEP void keep(void)
{
    kept = malloc(65521);
}

static void *work(void *first)
{
    for (long i = (long)first;; i++) {
        int slow = i % 10 == 0 && access(files[1], F_OK) == 0;
        serve(slow);
        other();
        if (i % 10 == 0 && access(files[2], F_OK) == 0)
            keep();
        void *volatile p = malloc(1009);
        free(p);
        // as many calls a second, slow or not
        rest(slow ? 50 : 450);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    files = argv;
    for (long i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)i))
            return 1;
        rest(550 / THREADS);
    }
    puts("ready");
    fflush(stdout);
    pause();
}
