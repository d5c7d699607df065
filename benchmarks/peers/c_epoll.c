/* The limit: a bare epoll echo, one read and one write an event, no framing, no timeouts. */
#include "c_server.h"

static void serve(int fd)
{
    static char buffer[65536];
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0 || write(fd, buffer, (size_t)got) != got)
        close(fd);
}

int main(int count, char **words)
{
    return run_server(count, words);
}
