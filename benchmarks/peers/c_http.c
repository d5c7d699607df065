/* The limit of HTTP: 64 bytes of an answer for each empty line, whatever was asked. It counts ends
 * of requests in what one read brings, and none comes in two pieces: the load is ping-pong. */
#include "c_server.h"

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Padding: xxxxxxxxxxxxx\r\n\r\n";

enum { ANSWER = sizeof answer - 1, MOST_AT_ONCE = 64 };

static void serve(int fd)
{
    static char buffer[65536], answers[ANSWER * MOST_AT_ONCE];
    ssize_t got = read(fd, buffer, sizeof buffer), size = 0;
    if (got < 0 && errno == EAGAIN)
        return;
    for (char *at = buffer, *end; got > 0 && size < (ssize_t)sizeof answers; at = end + 4) {
        end = memmem(at, (size_t)(buffer + got - at), "\r\n\r\n", 4);
        if (end == NULL)
            break;
        memcpy(answers + size, answer, ANSWER);
        size += ANSWER;
    }
    if (got <= 0 || size == 0 || write(fd, answers, (size_t)size) != size)
        close(fd);
}

int main(int count, char **words)
{
    return run_server(count, words);
}
