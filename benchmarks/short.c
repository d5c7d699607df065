/* Short connections: connect, one exchange, close; W of them under way at any time.
 *
 *   short --port P --pid SERVER --close rst|fin [--width W] [--ramp R] [--seconds T]
 *
 * "rst": the client resets the connection once it has the answer.
 * "fin": the client ends its stream once it has the answer, waits for the end of the server's
 *        stream, and closes: four packets of farewell, and the server does its half.
 * Source addresses rotate over 127.0.0.2 to 127.0.0.251, or the "fin" form would run out of ports.
 */
#include "common.h"

enum state { CONNECTING, AWAITING_ANSWER, AWAITING_END, DONE };

struct slot {
    int fd;
    enum state state;
    int received;
    double started;
    char line[LINE];
};

static int epoll, port, close_by_fin, under_way;
static uint32_t serial;

/* Begin a connection in slot `index`. */
static void begin(struct slot *slots, int index)
{
    struct slot *slot = &slots[index];
    struct sockaddr_in from = loopback(2 + (int)(serial % 250), 0), to = loopback(1, port);
    int on = 1;

    slot->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (slot->fd < 0)
        fail("socket: %s", strerror(errno));
    no_delay(slot->fd);
    /* Let connect() choose the port, when the whole four-tuple is known. */
    setsockopt(slot->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(slot->fd, (struct sockaddr *)&from, sizeof from) != 0)
        fail("bind: %s", strerror(errno));
    slot->started = now();
    if (connect(slot->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    slot->state = CONNECTING;
    slot->received = 0;
    make_line(slot->line, LINE, (uint32_t)index, serial++);
    watch(epoll, EPOLL_CTL_ADD, slot->fd, EPOLLOUT, (uint64_t)index);
    under_way++;
}

static void finish(struct slot *slot)
{
    if (close_by_fin)
        close(slot->fd);
    else
        close_with_reset(slot->fd);
    slot->state = DONE;
    under_way--;
}

static void send_line(struct slot *slot, int index)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(slot->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0)
        fail("connect: %s", strerror(error));
    if (send(slot->fd, slot->line, LINE, MSG_NOSIGNAL) != LINE)
        fail("send: %s", strerror(errno));
    slot->state = AWAITING_ANSWER;
    watch(epoll, EPOLL_CTL_MOD, slot->fd, EPOLLIN, (uint64_t)index);
}

/* Read and compare; go on to the close when the answer is whole. */
static void take_answer(struct slot *slot)
{
    char answer[LINE + 1];
    ssize_t got = recv(slot->fd, answer, sizeof answer, 0);

    if (got < 0 && errno == EAGAIN)
        return;
    if (slot->state == AWAITING_END) {
        if (got > 0)
            fail("the server answered with more than was asked");
        if (got < 0)
            fail("the server did not end its stream in order: %s", strerror(errno));
        finish(slot);
        return;
    }
    if (got <= 0)
        fail("no answer: %s", got == 0 ? "end of stream" : strerror(errno));
    if (slot->received + got > LINE || memcmp(slot->line + slot->received, answer, (size_t)got))
        fail("an answer differs from what was sent");
    slot->received += (int)got;
    if (slot->received < LINE)
        return;
    if (close_by_fin) {
        slot->state = AWAITING_END;
        shutdown(slot->fd, SHUT_WR);
    } else {
        finish(slot);
    }
}

/* Keep all slots busy until the window closes, then see the last connections through. */
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
            fail("%d connections were not served within %d s", under_way, PATIENCE_S);
        for (int i = 0; i < count; i++) {
            int index = (int)events[i].data.u64;
            struct slot *slot = &slots[index];
            if (slot->state == CONNECTING)
                send_line(slot, index);
            else
                take_answer(slot);
            if (slot->state != DONE)
                continue;
            count_work(window, 1, now() - slot->started);
            if (window->state != CLOSED)
                begin(slots, index);
        }
    }
}

static int wants_fin(int count, char **words)
{
    for (int i = 1; i + 1 < count; i += 2)
        if (strcmp(words[i], "--close") == 0)
            return strcmp(words[i + 1], "fin") == 0;
    fail("usage: short --port P --pid SERVER --close rst|fin [--width W]");
}

int main(int count, char **words)
{
    pid_t server = (pid_t)option(count, words, "--pid", 0);
    double ramp = option(count, words, "--ramp", 0.2);
    double seconds = option(count, words, "--seconds", 1);
    int width = (int)option(count, words, "--width", 64);
    struct slot *slots = calloc((size_t)(width > 0 ? width : 1), sizeof *slots);

    port = (int)option(count, words, "--port", 0);
    close_by_fin = wants_fin(count, words);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (port < 1 || server < 1 || width < 1 || slots == NULL)
        fail("usage: short --port P --pid SERVER --close rst|fin [--width W]");
    server_forks = (int)option(count, words, "--children", 0);
    raise_descriptor_limit();

    struct window window = window_after(server, ramp, seconds);
    drive(slots, width, &window);
    print_window(&window);
    free(slots);
    return 0;
}
