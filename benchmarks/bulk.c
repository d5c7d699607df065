/* Bulk through a proxy: F flows, which send as fast as they can, one way or both.
 *
 *   bulk --port P --pid PROXY --listener FD [--flows F] [--up 1] [--down 1] [--ramp R] [--seconds T]
 *
 * This program is both ends: the clients, and the server behind the proxy, whose listening socket
 * it is given (FD). "up" is from the clients to the server. What arrives is counted, and compared
 * with what was sent, byte by byte: each flow and direction sends the same long pattern, each from
 * a place of its own in it, whose length is a prime. When the window is over sending stops, what
 * is still under way is awaited, and the ends of the streams must follow. A connection that says
 * nothing and ends, such as a proxy's look whether the server is there, is passed over.
 */
#include "common.h"

enum { CHUNK = 1 << 18, PERIOD = 1048573, MOST_FLOWS = 64, HELLO = 8, STRIDE = 65537 };

/* One end of a flow. */
struct end {
    int fd;
    int sends, is_server;
    uint64_t sent, received;
    uint32_t phase; /* where in the pattern its stream begins */
    struct end *other;
};

static unsigned char pattern[PERIOD + CHUNK], buffer[CHUNK];
static struct end clients[MOST_FLOWS], servers[MOST_FLOWS];
static int epoll, flows, listener, ended;
static uint64_t total;

static void fill_pattern(void)
{
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < PERIOD; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        pattern[i] = (unsigned char)(state >> 32);
    }
    memcpy(pattern + PERIOD, pattern, CHUNK);
}

/* The place in the pattern of byte `number` of what `end` sends. */
static const unsigned char *place(const struct end *end, uint64_t number)
{
    return pattern + (number + end->phase) % PERIOD;
}

static void send_more(struct end *end)
{
    ssize_t sent = send(end->fd, place(end, end->sent), CHUNK, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        fail("send: %s", strerror(errno));
    if (sent > 0)
        end->sent += (uint64_t)sent;
}

static void receive_more(struct end *end)
{
    ssize_t got = recv(end->fd, buffer, CHUNK, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got < 0)
        fail("recv: %s", strerror(errno));
    if (got == 0) {
        if (end->received != end->other->sent)
            fail("a stream ended after %llu of %llu bytes", (unsigned long long)end->received,
                 (unsigned long long)end->other->sent);
        watch(epoll, EPOLL_CTL_DEL, end->fd, 0, 0);
        ended += end->is_server;
        return;
    }
    if (end->received + (uint64_t)got > end->other->sent)
        fail("more arrived than was sent");
    if (memcmp(buffer, place(end->other, end->received), (size_t)got) != 0)
        fail("bytes differ from what was sent");
    end->received += (uint64_t)got;
    total += (uint64_t)got;
}

/* Tell which flow a connection to the server is: its client's first words. -1: it has ended. */
static int flow_of(int fd)
{
    char hello[HELLO];
    ssize_t got = recv(fd, hello, HELLO, MSG_WAITALL);
    if (got != HELLO)
        return -1;
    return (int)strtol(hello, NULL, 16);
}

/* Take connections that come out of the proxy until that of `flow` is there. */
static int take_from_proxy(int flow)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            fail("the proxy did not connect: %s", strerror(errno));
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (flow_of(fd) == flow)
            return fd;
        close(fd);
    }
}

static void make_end(struct end *end, int fd, int sends, uint32_t phase, struct end *other)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        fail("fcntl: %s", strerror(errno));
    no_delay(fd);
    *end = (struct end){.fd = fd, .sends = sends, .phase = phase, .other = other};
    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | (sends ? EPOLLOUT : 0), (uint64_t)(uintptr_t)end);
}

static void open_flow(int port, int index, int up, int down)
{
    struct sockaddr_in proxy = loopback(1, port);
    char hello[HELLO];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fail("socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&proxy, sizeof proxy) != 0)
        fail("connect: %s", strerror(errno));
    put_hex(hello, (uint32_t)index);
    if (send(fd, hello, HELLO, MSG_NOSIGNAL) != HELLO)
        fail("send: %s", strerror(errno));
    int accepted = take_from_proxy(index);
    make_end(&clients[index], fd, up, (uint32_t)index * STRIDE, &servers[index]);
    make_end(&servers[index], accepted, down, (uint32_t)(index + MOST_FLOWS / 2) * STRIDE,
             &clients[index]);
    servers[index].is_server = 1;
}

/* Send no more. */
static void stop_sending(void)
{
    for (int i = 0; i < flows; i++)
        for (int side = 0; side < 2; side++) {
            struct end *end = side ? &servers[i] : &clients[i];
            if (!end->sends)
                continue;
            end->sends = 0;
            watch(epoll, EPOLL_CTL_MOD, end->fd, EPOLLIN, (uint64_t)(uintptr_t)end);
        }
}

static int is_all_there(void)
{
    for (int i = 0; i < flows; i++)
        if (clients[i].received != servers[i].sent || servers[i].received != clients[i].sent)
            return 0;
    return 1;
}

static void turn(void)
{
    struct epoll_event events[BATCH];
    int count = epoll_wait(epoll, events, BATCH, 100);

    if (count < 0)
        fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct end *end = (struct end *)(uintptr_t)events[i].data.u64;
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            receive_more(end);
        if (events[i].events & EPOLLOUT && end->sends)
            send_more(end);
    }
}

/* Drive the flows until the window closes; give the bytes that arrived while it was open. */
static uint64_t drive(struct window *window)
{
    uint64_t before = 0;
    while (window->state != CLOSED) {
        turn();
        double time = now();
        if (window->state == RAMP) {
            open_window_when_due(window, time);
            before = total;
        }
        close_window_when_due(window, time);
    }
    return total - before;
}

/* See everything arrive, and the clients' ends reach the server. */
static void finish(void)
{
    double patience = now() + PATIENCE_S;
    stop_sending();
    while (!is_all_there()) {
        turn();
        if (now() > patience)
            fail("bytes did not arrive within %d s", PATIENCE_S);
    }
    for (int i = 0; i < flows; i++)
        shutdown(clients[i].fd, SHUT_WR);
    for (ended = 0; ended < flows;) {
        turn();
        if (now() > patience)
            fail("%d streams did not end within %d s", flows - ended, PATIENCE_S);
    }
    for (int i = 0; i < flows; i++) {
        close_with_reset(servers[i].fd);
        close_with_reset(clients[i].fd);
    }
}

int main(int count, char **words)
{
    int port = (int)option(count, words, "--port", 0);
    pid_t proxy = (pid_t)option(count, words, "--pid", 0);
    double ramp = option(count, words, "--ramp", 0.2);
    double seconds = option(count, words, "--seconds", 1);
    int up = (int)option(count, words, "--up", 0), down = (int)option(count, words, "--down", 0);
    struct timeval patience = {.tv_sec = PATIENCE_S};

    listener = (int)option(count, words, "--listener", -1);
    flows = (int)option(count, words, "--flows", 1);
    if (port < 1 || proxy < 1 || listener < 0 || flows < 1 || flows > MOST_FLOWS / 2 ||
        !(up || down))
        fail("usage: bulk --port P --pid PROXY --listener FD --up 1|--down 1 [--flows F]");
    server_forks = (int)option(count, words, "--children", 0);
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    fill_pattern();
    for (int i = 0; i < flows; i++)
        open_flow(port, i, up, down);

    struct window window = window_after(proxy, ramp, seconds);
    uint64_t bytes = drive(&window);
    finish();
    if (bytes == 0)
        fail("nothing arrived in the window");
    printf("{\"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
           (unsigned long long)bytes, window.seconds, window.cpu);
    return 0;
}
