/* Stalled readers: N connections ask for bytes without end, and read none of them.
 *
 *   stall --port P --connections N
 *
 * Prints {"stalled": N, "queued": B} once no more bytes have come for a while and each has some (B
 * in all, in this side's kernel); what is behind them may still be filling. Then waits until its
 * standard input (which has to be a pipe) ends, and prints how many the proxy has closed meanwhile.
 */
#include "common.h"
#include <poll.h>
#include <sys/ioctl.h>

enum { LOOK_MS = 20, QUIET_LOOKS = 8 };

static int connections;

static struct pollfd *open_all(int port)
{
    struct pollfd *all = calloc((size_t)connections, sizeof *all);
    struct sockaddr_in server = loopback(1, port);

    if (all == NULL)
        fail("out of memory");
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (all[i].fd < 0)
            fail("socket: %s", strerror(errno));
        if (connect(all[i].fd, (struct sockaddr *)&server, sizeof server) != 0)
            fail("connection %d: connect: %s", i, strerror(errno));
        if (send(all[i].fd, "!", 1, MSG_NOSIGNAL) != 1)
            fail("connection %d: send: %s", i, strerror(errno));
    }
    return all;
}

/* Bytes that wait to be read; fails if a connection has none although it should. */
static long queued_on(const struct pollfd *all, int all_should)
{
    long total = 0;
    for (int i = 0; i < connections; i++) {
        int queued = 0;
        if (ioctl(all[i].fd, FIONREAD, &queued) != 0)
            fail("FIONREAD: %s", strerror(errno));
        if (all_should && queued == 0)
            fail("connection %d was sent nothing", i);
        total += queued;
    }
    return total;
}

static long wait_until_full(const struct pollfd *all)
{
    const struct timespec look = {.tv_nsec = LOOK_MS * 1000000L};
    double patience = now() + PATIENCE_S;
    long queued = 0;

    for (int quiet = 0; quiet < QUIET_LOOKS;) {
        nanosleep(&look, NULL);
        long more = queued_on(all, 0);
        quiet = more == queued && more > 0 ? quiet + 1 : 0;
        queued = more;
        if (now() > patience)
            fail("bytes still come after %d s", PATIENCE_S);
    }
    return queued_on(all, 1);
}

static int closed_among(struct pollfd *all)
{
    int closed = 0;
    for (int i = 0; i < connections; i++)
        all[i].events = POLLRDHUP;
    if (poll(all, (nfds_t)connections, 0) < 0)
        fail("poll: %s", strerror(errno));
    for (int i = 0; i < connections; i++)
        closed += (all[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    return closed;
}

int main(int count, char **words)
{
    int port = (int)option(count, words, "--port", 0);
    char byte;

    connections = (int)option(count, words, "--connections", 100);
    if (port < 1 || connections < 1)
        fail("usage: stall --port P --connections N");
    raise_descriptor_limit();

    struct pollfd *all = open_all(port);
    printf("{\"stalled\": %d, \"queued\": %ld}\n", connections, wait_until_full(all));
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    printf("{\"closed\": %d}\n", closed_among(all));
    for (int i = 0; i < connections; i++)
        close_with_reset(all[i].fd);
    free(all);
    return 0;
}
