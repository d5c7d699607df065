/* The plainest ping-pong there is: N connections, each sends a line, waits for as many bytes, and
 * sends the same line again. What comes back is counted and not looked at.
 *
 *   ping --port P --pid SERVER [--connections N] [--ramp R] [--seconds T]
 *
 * It is what a generator costs at least that takes the time of each exchange. `load` is the same
 * with lines that differ, and are compared.
 */
#include "common.h"

struct connection {
    int fd, received;
    double sent;
};

static char line[LINE];
static int connections, waiting;

static void send_line(struct connection *connection, double time)
{
    connection->received = 0;
    connection->sent = time;
    if (send(connection->fd, line, LINE, MSG_NOSIGNAL) != LINE)
        fail("a line could not be sent: %s", strerror(errno));
    waiting++;
}

/* Read what is there; tell whether it is as long as what was sent. */
static int take_answer(struct connection *connection)
{
    static char buffer[65536];
    ssize_t got = recv(connection->fd, buffer, sizeof buffer, 0);

    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("the server closed a connection: %s", got == 0 ? "end of stream" : strerror(errno));
    connection->received += (int)got;
    if (connection->received < LINE)
        return 0;
    if (connection->received > LINE)
        fail("the server answered with more than was asked");
    waiting--;
    return 1;
}

static struct connection *open_all(int port, int epoll)
{
    struct connection *all = calloc((size_t)connections, sizeof *all);
    if (all == NULL)
        fail("out of memory");
    for (int i = 0; i < connections; i++) {
        all[i].fd = open_and_exchange(port, (uint32_t)i);
        watch(epoll, EPOLL_CTL_ADD, all[i].fd, EPOLLIN, (uint64_t)i);
    }
    return all;
}

/* Drive the load until the window closes, then until the last line is answered. */
static void drive(int epoll, struct connection *all, struct window *window)
{
    struct epoll_event events[BATCH];
    double time = now();

    for (int i = 0; i < connections; i++)
        send_line(&all[i], time);
    while (waiting > 0) {
        int count = epoll_wait(epoll, events, BATCH, 100);
        if (count < 0)
            fail("epoll_wait: %s", strerror(errno));
        time = now();
        open_window_when_due(window, time);
        close_window_when_due(window, time);
        if (time > window->closes + PATIENCE_S)
            fail("%d lines were not answered within %d s", waiting, PATIENCE_S);
        for (int i = 0; i < count; i++) {
            struct connection *connection = &all[events[i].data.u64];
            if (!take_answer(connection))
                continue;
            time = now();
            count_work(window, 1, time - connection->sent);
            if (window->state != CLOSED)
                send_line(connection, time);
        }
    }
}

int main(int count, char **words)
{
    int port = (int)option(count, words, "--port", 0);
    pid_t server = (pid_t)option(count, words, "--pid", 0);
    double ramp = option(count, words, "--ramp", 0.2);
    double seconds = option(count, words, "--seconds", 1);
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    connections = (int)option(count, words, "--connections", 100);
    if (port < 1 || server < 1 || connections < 1)
        fail("usage: ping --port P --pid SERVER [--connections N]");
    raise_descriptor_limit();
    make_line(line, LINE, 0, 0);

    struct connection *all = open_all(port, epoll);
    struct window window = window_after(server, ramp, seconds);
    drive(epoll, all, &window);
    print_window(&window);
    for (int i = 0; i < connections; i++)
        close_with_reset(all[i].fd);
    free(all);
    return 0;
}
