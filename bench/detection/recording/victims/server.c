// A server of four threads: works on each datagram, logs it, answers it.
// Usage: server PORT CONTROL.  Datagrams "WORD VALUE" to the unix socket CONTROL set its vices.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOOP, STORM, LOCK, LEAK, FD, THREAD, FORK, FAULT, SLOW, COST, WRITE, TRUNCATE, VICES };
static const char *const names[VICES] = {"loop", "storm", "lock",  "leak", "fd",    "thread",
					 "fork", "fault", "slow", "cost", "write", "truncate"};
static volatile double vice[VICES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile unsigned long sink;
static int log_fd, server_fd;

static void nap(long us)
{
	struct timespec t = {us / 1000000, us % 1000000 * 1000};

	nanosleep(&t, NULL);
}

__attribute__((noinline)) void do_item(int rounds)
{
	unsigned long hash = 5381;
	char line[128];

	if (vice[COST])
		rounds *= (int)vice[COST];
	for (int i = 0; i < rounds; i++)
		hash = hash * 33 ^ i;
	sink += hash;
	if (vice[SLOW])
		nap(1000 * vice[SLOW]);
	int length = snprintf(line, sizeof(line), "item %lu %d\n", hash, rounds);
	pthread_mutex_lock(&mutex);
	if (write(log_fd, line, length) < 0)
		perror("write");
	pthread_mutex_unlock(&mutex);
}

static void *serve(void *unused)
{
	struct sockaddr_in from;
	char request[64];

	for (;;) {
		socklen_t size = sizeof(from);
		ssize_t length = recvfrom(server_fd, request, sizeof(request) - 1, 0, (void *)&from, &size);

		if (length <= 0)
			continue;
		request[length] = 0;
		do_item(atoi(request));
		sendto(server_fd, request, length, 0, (void *)&from, size);
	}
	return unused;
}

static void *loop(void *unused)
{
	for (;;) {
		if (vice[LOOP])
			sink++;
		else
			nap(50000);
	}
	return unused;
}

static void *contend(void *unused)
{
	for (;;) {
		if (vice[LOCK]) {
			pthread_mutex_lock(&mutex);
			nap(1000 * vice[LOCK]);
			pthread_mutex_unlock(&mutex);
			nap(2000);
		} else {
			nap(50000);
		}
	}
	return unused;
}

static void *sleep_on(void *unused)
{
	for (;;)
		sleep(1000);
	return unused;
}

static void waste_pages(size_t size)
{
	char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < size; i += 4096)
		pages[i] = 1;
	munmap(pages, size);
}

static void waste_disk(int blocks)
{
	static char block[65536];
	int fd = open("waste", O_CREAT | O_WRONLY | O_TRUNC, 0600);

	for (int i = 0; i < blocks; i++)
		if (write(fd, block, sizeof(block)) < 0)
			perror("write");
	fdatasync(fd);
	close(fd);
}

static void *misbehave(void *unused)
{
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (;;) {
		pthread_t thread;

		nap(100000);
		for (int i = 0; i < vice[STORM] / 10; i++)
			syscall(SYS_getppid);
		if (vice[LEAK])
			memset(malloc(vice[LEAK] * 102), 1, vice[LEAK] * 102);
		for (int i = 0; i < vice[FD] / 10; i++)
			if (open("/dev/null", O_RDONLY) < 0)
				perror("open");
		for (int i = 0; i < vice[THREAD] / 10; i++)
			pthread_create(&thread, &small, sleep_on, NULL);
		for (int i = 0; i < vice[FORK] / 10; i++)
			if (fork() == 0)
				_exit(0);
		while (vice[FORK] && waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (vice[FAULT])
			waste_pages(vice[FAULT] * 409600);
		if (vice[WRITE])
			waste_disk(vice[WRITE]);
		if (vice[TRUNCATE]) {
			vice[TRUNCATE] = 0;
			if (ftruncate(log_fd, 0) < 0)
				perror("ftruncate");
		}
	}
	return unused;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un control = {.sun_family = AF_UNIX};
	pthread_t thread;
	char order[100];

	if (argc != 3)
		return 2;
	log_fd = open("log", O_CREAT | O_WRONLY | O_APPEND, 0600);
	server_fd = socket(AF_INET, SOCK_DGRAM, 0);
	address.sin_port = htons(atoi(argv[1]));
	strncpy(control.sun_path, argv[2], sizeof(control.sun_path) - 1);
	int control_fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (bind(server_fd, (void *)&address, sizeof(address)) || bind(control_fd, (void *)&control, sizeof(control)))
		return 1;
	for (int i = 0; i < 4; i++)
		pthread_create(&thread, NULL, serve, NULL);
	pthread_create(&thread, NULL, loop, NULL);
	pthread_create(&thread, NULL, contend, NULL);
	pthread_create(&thread, NULL, misbehave, NULL);
	for (;;) {
		ssize_t length = recv(control_fd, order, sizeof(order) - 1, 0);
		char word[40];
		double value;

		if (length <= 0)
			continue;
		order[length] = 0;
		if (sscanf(order, "%39s %lf", word, &value) != 2)
			continue;
		for (int i = 0; i < VICES; i++)
			if (strcmp(word, names[i]) == 0)
				vice[i] = value;
	}
}
