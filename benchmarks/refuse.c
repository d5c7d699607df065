/* Refused connections: connect, wait until the server ends it, next; W under way at any time.
 *
 *   refuse --port P --pid SERVER [--width W] [--ramp R] [--seconds T]
 *
 * All come from 127.0.0.1, which holds as many connections as it may. Nothing is sent. A byte from
 * the server, a refusal by the kernel, or a connection that is neither refused nor served, is an
 * error. A server that ends its stream in order (FIN) is answered with a reset, which leaves
 * nothing behind in either kernel: the cheapest for it. Latency is from connect to the end.
 */
#include "common.h"

struct slot {
    int fd;
    double started;
};

static int epoll, port, under_way;
static long resets, ends;

static void begin(struct slot *slots, int index)
{
    struct sockaddr_in to = loopback(1, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fail("socket: %s", strerror(errno));
    slots[index].fd = fd;
    slots[index].started = now();
    /* A server in a hurry may have reset it before connect() returns. */
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS &&
        errno != ECONNRESET)
        fail("connect: %s", strerror(errno));
    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, (uint64_t)index);
    under_way++;
}

/* Tell whether the server has ended it; count how. */
static int is_refused(const struct slot *slot)
{
    char byte;
    ssize_t got = recv(slot->fd, &byte, 1, 0);

    if (got > 0)
        fail("the server sent something to a connection it had to refuse");
    if (got == 0)
        ends++;
    else if (errno == ECONNRESET || errno == EPIPE)
        resets++;
    else if (errno == EAGAIN)
        return 0;
    else
        fail("not refused by the server: %s", strerror(errno));
    return 1;
}

/* Keep all slots busy until the window closes, then see the last refusals through. */
static void drive(struct slot *slots, int width, struct window *window)
{
    struct epoll_event events[BATCH];

    for (int i = 0; i < width; i++)
        begin(slots, i);
    while (under_way > 0) {
        int count = epoll_wait(epoll, events, BATCH, 100);
        double time = now();
        if (count < 0)
            fail("epoll_wait: %s", strerror(errno));
        open_window_when_due(window, time);
        close_window_when_due(window, time);
        if (time > window->closes + PATIENCE_S)
            fail("%d connections were not refused within %d s", under_way, PATIENCE_S);
        for (int i = 0; i < count; i++) {
            int index = (int)events[i].data.u64;
            if (!is_refused(&slots[index]))
                continue;
            close_with_reset(slots[index].fd);
            under_way--;
            count_work(window, 1, now() - slots[index].started);
            if (window->state != CLOSED)
                begin(slots, index);
        }
    }
}

int main(int count, char **words)
{
    pid_t server = (pid_t)option(count, words, "--pid", 0);
    double ramp = option(count, words, "--ramp", 0.2);
    double seconds = option(count, words, "--seconds", 1);
    int width = (int)option(count, words, "--width", 64);
    struct slot *slots = calloc((size_t)(width > 0 ? width : 1), sizeof *slots);
    char more[80];

    port = (int)option(count, words, "--port", 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (port < 1 || server < 1 || width < 1 || slots == NULL)
        fail("usage: refuse --port P --pid SERVER [--width W] [--ramp R] [--seconds T]");
    raise_descriptor_limit();

    struct window window = window_after(server, ramp, seconds);
    drive(slots, width, &window);
    snprintf(more, sizeof more, ", \"resets\": %ld, \"ends\": %ld", resets, ends);
    print_window_and(&window, more);
    free(slots);
    return 0;
}
