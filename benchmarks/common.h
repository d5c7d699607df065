/* What the generators share: options, clocks, sockets, and how a run ends.
 *
 * A generator prints JSON on standard output. A run that went wrong prints {"error": "..."} and
 * exits with status 1, so that no lost or changed byte can pass for a result.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 64, BATCH = 512, PATIENCE_S = 10, HISTOGRAM_US = 2000000 };

__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *format, ...)
{
    va_list arguments;
    printf("{\"error\": \"");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\"}\n");
    exit(1);
}

static inline double clock_seconds(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0)
        fail("clock_gettime: %s", strerror(errno));
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static inline double now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

/* Whether the server's work is done by its children (--children 1). */
static int server_forks;

/* A process's parent, and the seconds, to a hundredth, of its children that are gone. */
static inline pid_t parent_of(pid_t pid, double *gone)
{
    char path[64], text[1024], *after;
    int parent = -1;
    unsigned long user = 0, system = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if ((file = fopen(path, "re")) == NULL)
        return -1;
    if (fgets(text, sizeof text, file) != NULL && (after = strrchr(text, ')')) != NULL)
        sscanf(after + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu", &parent,
               &user, &system);
    fclose(file);
    *gone = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return parent;
}

static inline double cpu_seconds_of_children(pid_t pid)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    struct timespec used;
    clockid_t clock;
    double seconds, unused;

    if (processes == NULL || parent_of(pid, &seconds) < 0)
        fail("/proc cannot be read");
    while ((entry = readdir(processes)) != NULL) {
        pid_t child = atoi(entry->d_name);
        if (child > 0 && parent_of(child, &unused) == pid &&
            clock_getcpuclockid(child, &clock) == 0 && clock_gettime(clock, &used) == 0)
            seconds += (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
    }
    closedir(processes);
    return seconds;
}

/* Processor seconds which the server has used so far, all its threads, to the nanosecond. */
static inline double cpu_seconds_of(pid_t pid)
{
    clockid_t clock;
    int error = clock_getcpuclockid(pid, &clock);
    if (error != 0)
        fail("the server (process %d) is gone: %s", (int)pid, strerror(error));
    return clock_seconds(clock) + (server_forks ? cpu_seconds_of_children(pid) : 0.0);
}

/* The value of option `name` (as in "--port"), or `otherwise`. */
static inline double option(int count, char **words, const char *name, double otherwise)
{
    for (int i = 1; i + 1 < count; i += 2)
        if (strcmp(words[i], name) == 0)
            return atof(words[i + 1]);
    return otherwise;
}

static inline void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("setrlimit: %s", strerror(errno));
}

static inline struct sockaddr_in loopback(int last_byte, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(0x7f000000u + (uint32_t)last_byte);
    return address;
}

static inline void no_delay(int fd)
{
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        fail("TCP_NODELAY: %s", strerror(errno));
}

/* Close with a reset, so that no local port is kept in TIME_WAIT. */
static inline void close_with_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static inline void watch(int epoll, int how, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event event = {.events = events, .data.u64 = tag};
    if (epoll_ctl(epoll, how, fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
}

/* Write eight hexadecimal digits. */
static inline void put_hex(char *to, uint32_t number)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 7; i >= 0; i--, number >>= 4)
        to[i] = digits[number & 15];
}

/* A line no other connection and no other exchange sends: "CCCCCCCC SSSSSSSS xxx...x\n". */
static inline void make_line(char *to, int size, uint32_t connection, uint32_t sequence)
{
    memset(to, 'x', (size_t)size);
    put_hex(to, connection);
    to[8] = ' ';
    put_hex(to + 9, sequence);
    to[17] = ' ';
    to[size - 1] = '\n';
}

/* Connect, send one line, read the same line back: after this the server holds and serves the
 * connection. One at a time, so that no server's backlog overflows. Blocking, with a limit. */
static inline int open_and_exchange(int port, uint32_t connection)
{
    struct sockaddr_in server = loopback(1, port);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    char line[LINE], answer[LINE];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    no_delay(fd);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0)
        fail("connection %u: connect: %s", connection, strerror(errno));
    make_line(line, LINE, connection, 0xffffffffu);
    if (send(fd, line, LINE, MSG_NOSIGNAL) != LINE)
        fail("connection %u: send: %s", connection, strerror(errno));
    for (size_t got = 0; got < LINE;) {
        ssize_t more = recv(fd, answer + got, LINE - got, 0);
        if (more <= 0)
            fail("connection %u: no first answer: %s", connection,
                 more == 0 ? "end of stream" : strerror(errno));
        got += (size_t)more;
    }
    if (memcmp(line, answer, LINE) != 0)
        fail("connection %u: the first answer is wrong", connection);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        fail("fcntl: %s", strerror(errno));
    return fd;
}

/* A histogram of microseconds. */
static uint32_t histogram[HISTOGRAM_US];

static inline void note_latency(double seconds)
{
    long us = (long)(seconds * 1e6);
    histogram[us < 0 ? 0 : us >= HISTOGRAM_US ? HISTOGRAM_US - 1 : us]++;
}

static inline long latency_at(double share)
{
    uint64_t total = 0, seen = 0;
    for (long us = 0; us < HISTOGRAM_US; us++)
        total += histogram[us];
    for (long us = 0; us < HISTOGRAM_US; us++)
        if ((seen += histogram[us]) > 0 && (double)seen >= (double)total * share)
            return us;
    return 0;
}

/* The part of a run that counts: it opens after the ramp and closes when its time is over. */
struct window {
    pid_t server;
    double opens, closes, opened, seconds, cpu;
    long counted;
    enum { RAMP, OPEN, CLOSED } state;
};

static inline struct window window_after(pid_t server, double ramp, double seconds)
{
    struct window window = {.server = server, .opens = now() + ramp};
    window.closes = window.opens + seconds;
    return window;
}

/* Count `work` units, the last of which took `latency` seconds, if the window is open. */
static inline void count_work(struct window *window, long work, double latency)
{
    if (window->state != OPEN)
        return;
    window->counted += work;
    note_latency(latency);
}

/* Open the window once the ramp is over. */
static inline void open_window_when_due(struct window *window, double time)
{
    if (window->state != RAMP || time < window->opens)
        return;
    window->state = OPEN;
    window->opened = time;
    window->cpu = cpu_seconds_of(window->server);
}

/* Once its time is over, close the window: keep what it took, in time and processor time. */
static inline void close_window_when_due(struct window *window, double time)
{
    if (window->state != OPEN || time < window->closes)
        return;
    window->state = CLOSED;
    window->cpu = cpu_seconds_of(window->server) - window->cpu;
    window->seconds = time - window->opened;
}

/* Print what the window took, and `more`: further members, each after its comma. */
static inline void print_window_and(const struct window *window, const char *more)
{
    if (window->counted == 0)
        fail("nothing was answered in the window");
    printf("{\"count\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f, "
           "\"p50_us\": %ld, \"p99_us\": %ld%s}\n",
           window->counted, window->seconds, window->cpu, latency_at(0.50), latency_at(0.99), more);
}

static inline void print_window(const struct window *window)
{
    print_window_and(window, "");
}

#endif
