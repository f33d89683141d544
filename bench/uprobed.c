// Calls one of its functions N times when a line comes on its input, and prints the nanoseconds of one call.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// its first instruction is one that the kernel emulates
long cheap(long n, const char *text);
// its first instruction is one that the kernel must step over
long dear(long n, const char *text);

asm(".text\n"
    ".globl cheap\n.type cheap, @function\ncheap: push %rbx\n mov %rdi, %rax\n pop %rbx\n ret\n.size cheap, .-cheap\n"
    ".globl dear\n.type dear, @function\ndear: lea 1(%rdi), %rax\n ret\n.size dear, .-dear\n");

static long pair(long n, const char *text)
{
    void *volatile p = malloc(64);
    free(p);
    return n + !text;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    long (*volatile call)(long, const char *) = !strcmp(argv[1], "cheap") ? cheap : !strcmp(argv[1], "dear") ? dear : pair;
    long calls = atol(argv[2]), sum = 0;
    char line[16];

    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        struct timespec begun, ended;
        clock_gettime(CLOCK_MONOTONIC, &begun);
        for (long i = 0; i < calls; i++)
            sum += call(i, "a string of some length");
        clock_gettime(CLOCK_MONOTONIC, &ended);
        printf("%.1f\n", ((ended.tv_sec - begun.tv_sec) * 1e9 + (ended.tv_nsec - begun.tv_nsec)) / calls);
        fflush(stdout);
    }
    return sum == 1;
}
