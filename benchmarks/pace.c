/* A fixed rate: lines are sent at their instants, whatever has been answered.
 *
 *   pace --port P --pid SERVER --rate R [--connections N] [--ramp R] [--seconds T]
 *
 * R lines a second, evenly spaced, over N connections in turn. Latency counts from the instant at
 * which a line was due, so a server that stands still is charged for all that had to wait. Every
 * byte that comes back is compared with what was sent.
 */
#include "common.h"
#include <sys/timerfd.h>

enum { MOST_WAITING = 4096, TIMER = -1 };

struct connection {
    int fd;
    uint32_t asked, answered; /* lines */
    int received;             /* bytes of the answer that is due */
    char line[LINE];
    double *due; /* when each of those that wait was due: a ring */
};

static int connections, epoll, timer;
static long waiting;

static void send_line(struct connection *connection, double due)
{
    char line[LINE];
    if (connection->asked - connection->answered == MOST_WAITING)
        fail("%d lines of a connection wait for their answers: this rate is too much",
             MOST_WAITING);
    memcpy(line, connection->line, LINE);
    put_hex(line + 9, connection->asked);
    if (send(connection->fd, line, LINE, MSG_NOSIGNAL) != LINE)
        fail("a line could not be sent: %s", strerror(errno));
    connection->due[connection->asked++ % MOST_WAITING] = due;
    waiting++;
}

/* What counts is that a line was due in the window, however late its answer comes. */
static void note(struct window *window, double due, double time)
{
    waiting--;
    if (window->state == RAMP || due < window->opened || due >= window->closes)
        return;
    window->counted++;
    note_latency(time - due);
}

/* Take and compare what is there; note how late each answer is. */
static void take_answers(struct connection *connection, struct window *window)
{
    static char buffer[65536];
    ssize_t got = recv(connection->fd, buffer, sizeof buffer, 0);
    double time = now();

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        fail("the server closed a connection: %s", got == 0 ? "end of stream" : strerror(errno));
    for (ssize_t taken = 0; taken < got;) {
        if (connection->answered == connection->asked)
            fail("the server answered with more than was asked");
        int part = LINE - connection->received;
        if (part > got - taken)
            part = (int)(got - taken);
        put_hex(connection->line + 9, connection->answered);
        if (memcmp(connection->line + connection->received, buffer + taken, (size_t)part) != 0)
            fail("an answer differs from what was sent");
        taken += part;
        connection->received += part;
        if (connection->received < LINE)
            return;
        connection->received = 0;
        note(window, connection->due[connection->answered++ % MOST_WAITING], time);
    }
}

static struct connection *open_all(int port)
{
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (all == NULL)
        fail("out of memory");
    for (int i = 0; i < connections; i++) {
        all[i].fd = open_and_exchange(port, (uint32_t)i);
        all[i].due = malloc(MOST_WAITING * sizeof *all[i].due);
        if (all[i].due == NULL)
            fail("out of memory");
        make_line(all[i].line, LINE, (uint32_t)i, 0);
        watch(epoll, EPOLL_CTL_ADD, all[i].fd, EPOLLIN, (uint64_t)i);
    }
    return all;
}

/* Have the timer ring at an instant. */
static void set_timer(double when)
{
    struct itimerspec at = {0};
    at.it_value.tv_sec = (time_t)when;
    at.it_value.tv_nsec = (long)((when - (double)at.it_value.tv_sec) * 1e9);
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL) != 0)
        fail("timerfd_settime: %s", strerror(errno));
}

/* Send all that is due until the window closes, and see every answer come. */
static void drive(struct connection *all, struct window *window, double interval)
{
    struct epoll_event events[BATCH];
    double begin = now();
    uint64_t serial = 0;

    while (window->state != CLOSED || waiting > 0) {
        double time = now(), due = begin + (double)serial * interval;
        open_window_when_due(window, time);
        close_window_when_due(window, time);
        if (time > window->closes + PATIENCE_S)
            fail("%ld lines were not answered within %d s", waiting, PATIENCE_S);
        for (; due <= time && due < window->closes; due = begin + (double)serial * interval)
            send_line(&all[serial++ % (uint64_t)connections], due);
        if (window->state != CLOSED)
            set_timer(due);
        int count = epoll_wait(epoll, events, BATCH, 100);
        if (count < 0)
            fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++)
            if (events[i].data.u64 != (uint64_t)TIMER)
                take_answers(&all[events[i].data.u64], window);
    }
}

int main(int count, char **words)
{
    int port = (int)option(count, words, "--port", 0);
    pid_t server = (pid_t)option(count, words, "--pid", 0);
    double ramp = option(count, words, "--ramp", 0.2);
    double seconds = option(count, words, "--seconds", 1);
    double rate = option(count, words, "--rate", 0);
    char more[80];

    connections = (int)option(count, words, "--connections", 1);
    if (port < 1 || server < 1 || rate <= 0 || connections < 1)
        fail("usage: pace --port P --pid SERVER --rate R [--connections N]");
    raise_descriptor_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0)
        fail("timerfd_create: %s", strerror(errno));
    /* Setting it anew clears it: it need not be read. */
    watch(epoll, EPOLL_CTL_ADD, timer, EPOLLIN | EPOLLET, (uint64_t)TIMER);

    struct connection *all = open_all(port);
    struct window window = window_after(server, ramp, seconds);
    drive(all, &window, 1 / rate);
    snprintf(more, sizeof more, ", \"p999_us\": %ld", latency_at(0.999));
    print_window_and(&window, more);
    for (int i = 0; i < connections; i++) {
        close_with_reset(all[i].fd);
        free(all[i].due);
    }
    free(all);
    return 0;
}
