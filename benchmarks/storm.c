/* A storm: S clients connect at once, each for one exchange, while N others play ping-pong.
 *
 *   storm --port P --pid SERVER [--connections N] [--storm S] [--calm C]
 *
 * The N play for C seconds; then the storm breaks: S connects as fast as they can be made, a few
 * between two looks at the sockets, each client sends its line as soon as it is connected. It is
 * over when the last of them has its answer; all stay connected until then. Prints how long that
 * took, the server's processor time meanwhile, and the latencies of the N before and during it.
 * Every byte is compared. The storm's clients come from 127.0.0.2 to 127.0.0.251.
 */
#include "common.h"

enum { CONNECTS_A_TURN = 16, STORM_PATIENCE_S = 60, CALM_PATIENCE_S = 10 };
enum role { PLAYER, CONNECTING, ASKING, ANSWERED };

struct client {
    int fd;
    enum role role;
    int received;
    uint32_t sequence;
    double sent;
    char line[LINE];
};

static int epoll, port, waiting, answered;

static void send_line(struct client *client, uint32_t index, double time)
{
    make_line(client->line, LINE, index, client->sequence++);
    client->received = 0;
    client->sent = time;
    if (send(client->fd, client->line, LINE, MSG_NOSIGNAL) != LINE)
        fail("send: %s", strerror(errno));
}

static void begin_storm_client(struct client *all, uint32_t index)
{
    struct sockaddr_in from = loopback(2 + (int)(index % 250), 0), to = loopback(1, port);
    struct client *client = &all[index];
    int on = 1;

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail("socket: %s", strerror(errno));
    no_delay(client->fd);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(client->fd, (struct sockaddr *)&from, sizeof from) != 0)
        fail("bind: %s", strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    client->role = CONNECTING;
    watch(epoll, EPOLL_CTL_ADD, client->fd, EPOLLOUT, index);
}

static void ask(struct client *client, uint32_t index)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0)
        fail("connect: %s", strerror(error));
    client->role = ASKING;
    send_line(client, index, now());
    watch(epoll, EPOLL_CTL_MOD, client->fd, EPOLLIN, index);
}

/* Read and compare; tell whether the answer is whole. */
static int take_answer(struct client *client)
{
    char answer[LINE + 1];
    ssize_t got = recv(client->fd, answer, sizeof answer, 0);

    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("a client lost its connection: %s", got == 0 ? "end of stream" : strerror(errno));
    if (client->received + got > LINE ||
        memcmp(client->line + client->received, answer, (size_t)got) != 0)
        fail("an answer differs from what was sent");
    client->received += (int)got;
    return client->received == LINE;
}

/* Look at the sockets once. `playing`: players send their next line. */
static void turn(struct client *all, int timeout, int playing)
{
    struct epoll_event events[BATCH];
    int count = epoll_wait(epoll, events, BATCH, timeout);

    if (count < 0)
        fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        uint32_t index = (uint32_t)events[i].data.u64;
        struct client *client = &all[index];
        if (client->role == CONNECTING) {
            ask(client, index);
            continue;
        }
        if (!take_answer(client))
            continue;
        if (client->role == ASKING) {
            client->role = ANSWERED;
            answered++;
            continue;
        }
        double time = now();
        note_latency(time - client->sent);
        if (playing)
            send_line(client, index, time);
        else
            waiting--;
    }
}

/* Let the players play until `end`; give the 99th percentile of their latencies. */
static long play_until(struct client *all, double end)
{
    memset(histogram, 0, sizeof histogram);
    while (now() < end)
        turn(all, 10, 1);
    return latency_at(0.99);
}

/* The storm, from its first connect to its last answer. */
static void storm(struct client *all, int players, int size)
{
    double patience = now() + STORM_PATIENCE_S;

    memset(histogram, 0, sizeof histogram);
    for (int begun = 0; answered < size;) {
        for (int i = 0; i < CONNECTS_A_TURN && begun < size; i++, begun++)
            begin_storm_client(all, (uint32_t)(players + begun));
        turn(all, begun < size ? 0 : 100, 1);
        if (now() > patience)
            fail("%d of %d had no answer within %d s", size - answered, size, STORM_PATIENCE_S);
    }
}

/* The players' last answers. */
static void settle(struct client *all, int players)
{
    double patience = now() + CALM_PATIENCE_S;

    waiting = players;
    while (waiting > 0) {
        turn(all, 100, 0);
        if (now() > patience)
            fail("%d bursts were not answered within %d s", waiting, CALM_PATIENCE_S);
    }
}

int main(int count, char **words)
{
    pid_t server = (pid_t)option(count, words, "--pid", 0);
    int players = (int)option(count, words, "--connections", 100);
    int size = (int)option(count, words, "--storm", 10000);
    double calm = option(count, words, "--calm", 0.5);
    struct client *all = calloc((size_t)(players + size > 0 ? players + size : 1), sizeof *all);

    port = (int)option(count, words, "--port", 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (port < 1 || server < 1 || players < 1 || size < 1 || all == NULL)
        fail("usage: storm --port P --pid SERVER [--connections N] [--storm S] [--calm C]");
    raise_descriptor_limit();

    for (int i = 0; i < players; i++) {
        all[i].fd = open_and_exchange(port, (uint32_t)i);
        all[i].role = PLAYER;
        watch(epoll, EPOLL_CTL_ADD, all[i].fd, EPOLLIN, (uint64_t)i);
    }
    for (int i = 0; i < players; i++)
        send_line(&all[i], (uint32_t)i, now());
    play_until(all, now() + calm / 2); /* the ramp */
    long calm_p99 = play_until(all, now() + calm);
    double cpu = cpu_seconds_of(server), begin = now();
    storm(all, players, size);
    double seconds = now() - begin;
    cpu = cpu_seconds_of(server) - cpu;
    settle(all, players); /* their last answers count, too: they were asked for in the storm */
    long p50 = latency_at(0.50), p99 = latency_at(0.99), most = latency_at(1);
    printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"calm_p99_us\": %ld, \"p50_us\": %ld, "
           "\"p99_us\": %ld, \"longest_us\": %ld}\n",
           seconds, cpu, calm_p99, p50, p99, most);
    for (int i = 0; i < players + size; i++)
        close_with_reset(all[i].fd);
    free(all);
    return 0;
}
