// A program of which everything is known: run by tests of snooping, ends with status 7.
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS 997
#define SEARCHES 101
#define LEAKS 499
#define LEAK_BYTES 1009
#define THREADS 2
#define THREAD_CALLS 103
#define CHILDREN 3
#define CHILD_CALLS 53
#define BURN_NS 300000000
#define SENT (1280 * 1024)
#define MAPPED (64 << 20)

__attribute__((noinline)) int search(int n, const char *name)
{
    asm volatile("" ::: "memory");
    return 2 * n + (int)strlen(name);
}

__attribute__((noinline)) void *leak(void)
{
    return malloc(LEAK_BYTES);
}

static void call(int count)
{
    while (count--)
        syscall(SYS_getppid);
}

static void burn(void)
{
    struct timespec t;

    do {
        // few system calls, as the log of them is tested too
        for (volatile int i = 0; i < 1000000; i++)
            ;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    } while (t.tv_sec * 1000000000L + t.tv_nsec < BURN_NS);
}

static void *thread(void *unused)
{
    call(THREAD_CALLS);
    usleep(400000);  // whoever samples has a sample from before
    burn();
    usleep(700000);
    return unused;
}

static void *sender(void *socket_)
{
    static char data[SENT];

    if (send(*(int *)socket_, data, sizeof(data), 0) != sizeof(data))
        abort();
    return 0;
}

static void talk(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    char buffer[65536];
    pthread_t other;
    long got = 0;

    bind(listener, (void *)&address, length);
    getsockname(listener, (void *)&address, &length);
    listen(listener, 1);
    connect(client, (void *)&address, length);
    int server = accept(listener, 0, 0);
    pthread_create(&other, 0, sender, &client);
    while (got < SENT)
        got += recv(server, buffer, sizeof(buffer), 0);
    pthread_join(other, 0);
}

int main(void)
{
    static void *kept[LEAKS];
    pthread_t threads[THREADS];
    char *mapped = mmap(0, MAPPED, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    call(CALLS);
    for (int i = 0; i < LEAKS; i++)
        kept[i] = leak();
    for (int i = 0; i < SEARCHES; i++)
        search(i, "needle");
    talk();
    for (int i = 0; i < CHILDREN; i++)
        if (!fork()) {
            call(CHILD_CALLS);
            _exit(0);
        }
    for (int i = 0; i < CHILDREN; i++)
        wait(0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], 0, thread, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], 0);
    usleep(700000);
    return kept[0] && mapped ? 7 : 1;
}
