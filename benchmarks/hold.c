/* Idle holder: open N connections, one exchange each, then keep quiet.
 *
 *   hold --port P --connections N [--together 1]
 *
 * Prints {"held": N} once all are open and answered, then waits until its standard input (which
 * has to be a pipe) ends, or the server has closed every connection. With --together, each
 * connection first exchanges one more line, all within a fraction of a second, so that an idle
 * limit strikes all of them together; a byte on standard input makes them do so once more, after
 * which it prints {"exchanged": N}. At the end it prints how many the server closed, and how long
 * after their last answer: the earliest, the middle and the latest, in seconds.
 */
#include "common.h"

enum { STRIDE = 64, STANDARD_INPUT = -1 };

struct held {
    int fd; /* -1 once the server closed it */
    double answered;
};

/* One more exchange on each connection, a stride of them at a time. */
static void exchange_together(struct held *all, int connections)
{
    char line[LINE], answer[LINE];

    for (int first = 0; first < connections; first += STRIDE) {
        int last = first + STRIDE < connections ? first + STRIDE : connections;
        for (int i = first; i < last; i++) {
            make_line(line, LINE, (uint32_t)i, 1);
            if (send(all[i].fd, line, LINE, MSG_NOSIGNAL) != LINE)
                fail("connection %d: send: %s", i, strerror(errno));
        }
        for (int i = first; i < last; i++) {
            make_line(line, LINE, (uint32_t)i, 1);
            if (fcntl(all[i].fd, F_SETFL, 0) != 0)
                fail("fcntl: %s", strerror(errno));
            if (recv(all[i].fd, answer, LINE, MSG_WAITALL) != LINE)
                fail("connection %d: no answer: %s", i, strerror(errno));
            if (memcmp(line, answer, LINE) != 0)
                fail("connection %d: the answer is wrong", i);
            all[i].answered = now();
        }
    }
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void note_close(struct held *held, double *ages, int *closed)
{
    char byte;
    if (recv(held->fd, &byte, 1, MSG_DONTWAIT) > 0)
        fail("a quiet connection received a byte");
    ages[(*closed)++] = now() - held->answered;
    close_with_reset(held->fd);
    held->fd = -1;
}

/* What standard input says: a byte, or its end. */
static int told_to_exchange(void)
{
    char byte;
    return read(STDIN_FILENO, &byte, 1) == 1;
}

static void exchange_and_say(struct held *all, int connections)
{
    exchange_together(all, connections);
    printf("{\"exchanged\": %d}\n", connections);
    fflush(stdout);
}

/* Wait until told to stop, or until nothing is left; give the number the server closed. */
static int keep_quiet(struct held *all, int connections, double *ages)
{
    struct epoll_event events[BATCH];
    int epoll = epoll_create1(EPOLL_CLOEXEC), closed = 0;

    watch(epoll, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, (uint64_t)STANDARD_INPUT);
    for (int i = 0; i < connections; i++)
        watch(epoll, EPOLL_CTL_ADD, all[i].fd, EPOLLIN | EPOLLRDHUP, (uint64_t)i);
    printf("{\"held\": %d}\n", connections);
    fflush(stdout);
    while (closed < connections) {
        int count = epoll_wait(epoll, events, BATCH, -1);
        if (count < 0)
            fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 != (uint64_t)STANDARD_INPUT)
                note_close(&all[events[i].data.u64], ages, &closed);
            else if (!told_to_exchange())
                return closed;
            else if (closed > 0)
                fail("the server closed connections before their time");
            else
                exchange_and_say(all, connections);
        }
    }
    return closed;
}

int main(int count, char **words)
{
    int port = (int)option(count, words, "--port", 0);
    int connections = (int)option(count, words, "--connections", 1000);
    size_t entries = (size_t)(connections > 0 ? connections : 1);
    struct held *all = calloc(entries, sizeof *all);
    double *ages = calloc(entries, sizeof *ages);

    if (port < 1 || connections < 1 || all == NULL || ages == NULL)
        fail("usage: hold --port P --connections N [--together 1]");
    raise_descriptor_limit();
    for (int i = 0; i < connections; i++) {
        all[i].fd = open_and_exchange(port, (uint32_t)i);
        all[i].answered = now();
    }
    if (option(count, words, "--together", 0) != 0)
        exchange_together(all, connections);

    int closed = keep_quiet(all, connections, ages);
    qsort(ages, (size_t)closed, sizeof *ages, compare_doubles);
    printf("{\"closed\": %d, \"earliest_s\": %.6f, \"middle_s\": %.6f, \"latest_s\": %.6f}\n",
           closed, closed ? ages[0] : 0.0, closed ? ages[closed / 2] : 0.0,
           closed ? ages[closed - 1] : 0.0);
    for (int i = 0; i < connections; i++)
        if (all[i].fd >= 0)
            close_with_reset(all[i].fd);
    free(all);
    free(ages);
    return 0;
}
