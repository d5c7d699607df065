/* The epoll loop of the C servers: accept, and call `serve` for whatever is readable.
 *
 * A write that the socket does not take whole closes the connection: the load is ping-pong, the
 * socket buffer is never full, and the generator would notice.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096, BATCH = 512, MOST_DESCRIPTORS = 65536 };

static int epoll;

static void serve(int fd);

static void check(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(listener, "socket");
    check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "SO_REUSEADDR");
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, BACKLOG), "listen");
    return listener;
}

/* Take every connection that waits. */
static void accept_all(int listener)
{
    for (;;) {
        int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED)
                check(fd, "accept4");
            return;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }
}

static int run_server(int count, char **words)
{
    struct epoll_event events[BATCH];
    struct rlimit limit;

    if (count != 2) {
        fprintf(stderr, "usage: %s PORT\n", words[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max < MOST_DESCRIPTORS ? limit.rlim_max : MOST_DESCRIPTORS;
    check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");

    int listener = listen_on(atoi(words[1]));
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, BATCH, -1);
        if (ready < 0 && errno != EINTR)
            check(ready, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener);
            else
                serve(events[i].data.fd);
        }
    }
}
