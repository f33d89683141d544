// Many processes of many threads each, that do known things when they are told to.
//
//   crowd PROCESSES THREADS
//
// Lines on its input, each answered by one:
//   yield N          every thread yields N times: answers how many yields there were
//   fork RATE MS     a child that ends at once, RATE times a second for MS milliseconds: answers how many
//   leave N MS       N children that stay until the end, one each MS milliseconds: answers how many
//   end              everybody ends
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared {
    atomic_uint round;  // a change of it is the order
    atomic_uint here, done;
    unsigned yields;
};

static struct shared *shared;

static void wait_while(atomic_uint *word, unsigned value)
{
    while (atomic_load(word) == value)
        syscall(SYS_futex, word, FUTEX_WAIT, value, 0, 0, 0);
}

static void add_one(atomic_uint *word)
{
    atomic_fetch_add(word, 1);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0);
}

static void wait_until(atomic_uint *word, unsigned value)
{
    for (unsigned now; (now = atomic_load(word)) < value;)
        syscall(SYS_futex, word, FUTEX_WAIT, now, 0, 0, 0);
}

static void *work(void *unused)
{
    unsigned round = 0;

    add_one(&shared->here);
    for (;;) {
        wait_while(&shared->round, round++);
        for (unsigned i = 0; i < shared->yields; i++)
            sched_yield();
        add_one(&shared->done);
    }
    return unused;
}

static void be_process(unsigned threads)
{
    pthread_attr_t small;
    pthread_t thread;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    for (unsigned i = 1; i < threads; i++) {
        int error = pthread_create(&thread, &small, work, 0);
        if (error) {
            fprintf(stderr, "no thread %u: %s\n", i, strerror(error));
            exit(1);
        }
    }
    work(0);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static unsigned forks(double rate, double for_s)
{
    double begun = seconds(), passed;
    unsigned made = 0;

    while ((passed = seconds() - begun) < for_s) {
        if (made >= passed * rate) {
            usleep(200);
            continue;
        }
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        if (child < 0)
            exit(1);
        made++;
        waitpid(child, 0, 0);
    }
    return made;
}

static void leave(unsigned count, unsigned milliseconds)
{
    for (unsigned i = 0; i < count; i++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
        usleep(1000 * milliseconds);
    }
}

int main(int argc, char **argv)
{
    char line[128];
    double rate, milliseconds;
    unsigned round = 0, count, each;

    if (argc != 3)
        return 2;
    unsigned processes = atoi(argv[1]), threads = atoi(argv[2]), all = processes * threads;
    pid_t *child = calloc(processes, sizeof(*child));
    shared = mmap(0, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < processes; i++) {
        child[i] = fork();
        if (child[i] < 0) {
            perror("fork");
            for (unsigned j = 0; j < i; j++)
                kill(child[j], SIGKILL);
            return 1;
        }
        if (child[i] == 0)
            be_process(threads);
    }
    wait_until(&shared->here, all);
    printf("%u\n", all);
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "yield %u", &shared->yields) == 1) {
            shared->done = 0;
            shared->round = ++round;
            syscall(SYS_futex, &shared->round, FUTEX_WAKE, 0x7fffffff, 0, 0, 0);
            wait_until(&shared->done, all);
            printf("%u\n", all * shared->yields);
        } else if (sscanf(line, "fork %lf %lf", &rate, &milliseconds) == 2) {
            printf("%u\n", forks(rate, milliseconds / 1e3));
        } else if (sscanf(line, "leave %u %u", &count, &each) == 2) {
            leave(count, each);
            printf("%u\n", count);
        } else {
            break;
        }
        fflush(stdout);
    }
    // what was left ends with its parent
    for (unsigned i = 0; i < processes; i++)
        kill(child[i], SIGKILL);
    for (unsigned i = 0; i < processes; i++)
        waitpid(child[i], 0, 0);
    printf("0\n");
    return 0;
}
