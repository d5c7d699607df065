/* Ping-pong load: N connections, each sends a burst of lines, waits for all the answers, sends on.
 *
 *   load --port P --pid SERVER [--connections N] [--lines L] [--size S] [--ramp R] [--seconds T]
 *
 * Every connection sends lines of its own, numbered, and every byte that comes back is compared.
 * The first R seconds are dropped. The server's processor time is read when the window opens and
 * when it closes. Afterwards the last answers are awaited, so that a lost one is noticed.
 */
#include "common.h"

struct connection {
    int fd;
    uint32_t sequence;
    int received; /* bytes of the present burst which came back */
    double sent;
    char *burst;
};

static int connections, lines, size, burst_size, waiting;

static void send_burst(struct connection *connection, double time)
{
    for (int i = 0; i < lines; i++)
        put_hex(connection->burst + i * size + 9, connection->sequence++);
    connection->received = 0;
    connection->sent = time;
    /* All before is acknowledged, and a burst is far smaller than the socket's buffer. */
    if (send(connection->fd, connection->burst, (size_t)burst_size, MSG_NOSIGNAL) != burst_size)
        fail("a burst could not be sent: %s", strerror(errno));
    waiting++;
}

/* Read what is there and compare it; tell whether the burst is answered in full. */
static int take_answer(struct connection *connection)
{
    static char buffer[65536];
    ssize_t got = recv(connection->fd, buffer, sizeof buffer, 0);

    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("the server closed a connection: %s", got == 0 ? "end of stream" : strerror(errno));
    if (connection->received + got > burst_size)
        fail("the server answered with more than was asked");
    if (memcmp(connection->burst + connection->received, buffer, (size_t)got) != 0)
        fail("an answer differs from what was sent");
    connection->received += (int)got;
    if (connection->received < burst_size)
        return 0;
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
        all[i].burst = malloc((size_t)burst_size);
        if (all[i].burst == NULL)
            fail("out of memory");
        for (int line = 0; line < lines; line++)
            make_line(all[i].burst + line * size, size, (uint32_t)i, 0);
        watch(epoll, EPOLL_CTL_ADD, all[i].fd, EPOLLIN, (uint64_t)i);
    }
    return all;
}

/* Drive the load until the window closes, then until the last burst is answered. */
static void drive(int epoll, struct connection *all, struct window *window)
{
    struct epoll_event events[BATCH];
    double time = now();

    for (int i = 0; i < connections; i++)
        send_burst(&all[i], time);
    while (waiting > 0) {
        int count = epoll_wait(epoll, events, BATCH, 100);
        if (count < 0)
            fail("epoll_wait: %s", strerror(errno));
        time = now();
        open_window_when_due(window, time);
        close_window_when_due(window, time);
        if (time > window->closes + PATIENCE_S)
            fail("%d bursts were not answered within %d s", waiting, PATIENCE_S);
        for (int i = 0; i < count; i++) {
            struct connection *connection = &all[events[i].data.u64];
            if (!take_answer(connection))
                continue;
            time = now();
            count_work(window, lines, time - connection->sent);
            if (window->state != CLOSED)
                send_burst(connection, time);
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
    lines = (int)option(count, words, "--lines", 1);
    size = (int)option(count, words, "--size", LINE);
    burst_size = lines * size;
    if (port < 1 || server < 1 || connections < 1 || lines < 1 || size < 20 || burst_size > 65536)
        fail("usage: load --port P --pid SERVER [--connections N] [--lines L] [--size S]");
    server_forks = (int)option(count, words, "--children", 0);
    raise_descriptor_limit();

    struct connection *all = open_all(port, epoll);
    struct window window = window_after(server, ramp, seconds);
    drive(epoll, all, &window);
    print_window(&window);
    for (int i = 0; i < connections; i++) {
        close_with_reset(all[i].fd);
        free(all[i].burst);
    }
    free(all);
    return 0;
}
