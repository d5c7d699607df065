/* An echo, but a connection that begins with "!" is sent bytes without end, as fast as it takes
 * them. What stands behind the proxies in P6. */
#include "c_server.h"

enum { MOST = 65536 };

static char flood[65536];
static unsigned char is_flooded[MOST];

static void serve(int fd)
{
    static char buffer[65536];
    ssize_t got = read(fd, buffer, sizeof buffer);

    if (got < 0 && errno != EAGAIN) {
        got = 0;
    } else if (got > 0 && buffer[0] == '!' && !is_flooded[fd]) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.fd = fd};
        is_flooded[fd] = 1;
        check(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event), "epoll_ctl");
    } else if (got > 0 && !is_flooded[fd] && write(fd, buffer, (size_t)got) != got) {
        got = 0;
    }
    if (is_flooded[fd] && write(fd, flood, sizeof flood) < 0 && errno != EAGAIN)
        got = 0;
    if (got == 0) {
        is_flooded[fd] = 0;
        close(fd);
    }
}

int main(int count, char **words)
{
    memset(flood, 'x', sizeof flood);
    return run_server(count, words);
}
