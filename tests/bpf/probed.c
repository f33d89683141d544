// A program with known functions: does the work that its arguments name when a line comes on its input.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

KEEP int search(int n, const char *name)
{
    (void)*(const volatile char *)name;
    return 2 * n - 1;
}

KEEP uint64_t six(int8_t a, uint16_t b, int32_t c, uint64_t d, char e, void *f)
{
    asm volatile("" : : "r"(f) : "memory");
    return a + b + c + d + e;
}

KEEP const char *greeting(int n)
{
    asm volatile("" ::: "memory");
    return n % 2 ? "odd\n\"one\"" : NULL;
}

KEEP int recurse(int n)
{
    int below = n > 1 ? recurse(n - 1) : 0;
    asm volatile("" ::: "memory");
    return below + 1;
}

static jmp_buf back;

KEEP void leap(int n)
{
    if (n == 0)
        longjmp(back, 1);
    if (n > 0)
        leap(n - 1);
    asm volatile("" ::: "memory");
}

KEEP void leap_back(void)
{
    if (!setjmp(back))
        leap(5);
}

KEEP void burn(long us)
{
    struct timespec begun, now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begun);
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000000 + (now.tv_nsec - begun.tv_nsec) / 1000 < us);
}

KEEP void doze(long us)
{
    usleep(us);
    asm volatile("" ::: "memory");
}

void *volatile kept;

KEEP void take_much(void)
{
    for (int i = 0; i < 101; i++)
        kept = malloc(1009);
}

KEEP void take_little(void)
{
    for (int i = 0; i < 13; i++)
        kept = calloc(7, 11);
}

KEEP void give_back(void)
{
    for (int i = 0; i < 499; i++) {
        void *volatile p = malloc(64 + i);
        p = realloc(p, 4096 + i);
        free(p);
        void *q;
        if (posix_memalign(&q, 64, 317))
            abort();
        free(q);
        p = aligned_alloc(128, 256);
        free(p);
        free(reallocarray(NULL, 3, 19));
        // takes nothing and leaves the old one
        p = malloc(8);
        if (realloc(p, SIZE_MAX / 2) || reallocarray(p, SIZE_MAX / 4, 2))
            abort();
        free(p);
    }
}

static void *threaded(void *argument)
{
    for (int i = 0; i < 211; i++)
        search((int)(intptr_t)argument, "thread");
    return NULL;
}

static void work(int argc, char **argv)
{
    const char *what = argv[1];
    long n = argc > 2 ? atol(argv[2]) : 1;

    if (!strcmp(what, "search")) {
        for (int i = 0; i < n; i++)
            search(i, argc > 3 ? argv[3] : "name");
    } else if (!strcmp(what, "six")) {
        six(-5, 65535, -70000, 1ULL << 63, 'x', (void *)0xabcdef);
    } else if (!strcmp(what, "greeting")) {
        greeting(1);
        greeting(2);
    } else if (!strcmp(what, "recurse")) {
        recurse(n);
    } else if (!strcmp(what, "leap")) {
        leap_back();
        leap_back();
        recurse(7);
        leap_back();
    } else if (!strcmp(what, "burn")) {
        for (int i = 0; i < 17; i++)
            burn(n);
    } else if (!strcmp(what, "doze")) {
        for (int i = 0; i < 17; i++)
            doze(n);
    } else if (!strcmp(what, "absent")) {
        // a page that nothing has touched: it is read by the function itself
        int fd = memfd_create("page", 0);
        if (write(fd, "from a file", 12) != 12)
            abort();
        for (int i = 0; i < 3; i++) {
            char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
            int (*volatile touch)(int, const char *) = search;
            touch(1000 + i, page);
            munmap(page, 4096);
        }
    } else if (!strcmp(what, "threads")) {
        pthread_t thread[5];
        for (long i = 0; i < 5; i++)
            pthread_create(&thread[i], NULL, threaded, (void *)(i + 1));
        for (int i = 0; i < 5; i++)
            pthread_join(thread[i], NULL);
    } else if (!strcmp(what, "library")) {
        void *library = dlopen(argv[3], RTLD_NOW);
        int (*twice)(int) = library ? dlsym(library, "twice") : NULL;
        for (int i = 0; i < n; i++)
            if (!twice || twice(i) != 2 * i)
                abort();
    } else if (!strcmp(what, "leak")) {
        take_much();
        take_little();
        give_back();
    }
}

static void wait_for_line(void)
{
    char c;
    while (read(0, &c, 1) == 1 && c != '\n')
        ;
}

static void say(const char *what)
{
    if (write(1, what, strlen(what)) < 0)
        abort();
}

int main(int argc, char **argv)
{
    say("ready\n");
    for (;;) {
        char c;
        if (read(0, &c, 1) != 1)
            return 0;
        if (c == 'w') {
            work(argc, argv);
        } else if (c == 'f') {
            // a child that waits too
            pid_t child = fork();
            if (child) {
                char text[32];
                snprintf(text, sizeof(text), "%d\n", child);
                say(text);
                waitpid(child, NULL, 0);
            }
            else {
                wait_for_line();
                continue;
            }
        } else if (c == 'x') {
            execl(argv[argc - 1], argv[argc - 1], argv[1], argv[2], NULL);
            abort();
        } else {
            continue;
        }
        say("done\n");
        if (c == 'f')
            return 0;
    }
}
