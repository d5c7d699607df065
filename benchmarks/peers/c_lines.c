/* A C server that splits lines with memchr and answers line by line, one write a line.
 *
 * The beginning of a line that is not whole yet is kept with its connection.
 */
#include "c_server.h"

enum { LONGEST = 4096 };

struct rest {
    int length;
    char bytes[LONGEST];
};

static struct rest *rests[MOST_DESCRIPTORS];

static void forget(int fd)
{
    free(rests[fd]);
    rests[fd] = NULL;
    close(fd);
}

/* Keep what is left behind the last line; tell whether it may still become a line. */
static int keep_rest(int fd, const char *bytes, size_t length)
{
    if (length > LONGEST)
        return 0;
    if (length > 0 && rests[fd] == NULL && (rests[fd] = malloc(sizeof **rests)) == NULL)
        return 0;
    if (rests[fd] != NULL) {
        memcpy(rests[fd]->bytes, bytes, length);
        rests[fd]->length = (int)length;
    }
    return 1;
}

static void serve(int fd)
{
    static char buffer[LONGEST + 65536];
    size_t length = 0;

    if (rests[fd] != NULL) {
        length = (size_t)rests[fd]->length;
        memcpy(buffer, rests[fd]->bytes, length);
    }
    ssize_t got = read(fd, buffer + length, sizeof buffer - length);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        forget(fd);
        return;
    }
    char *line = buffer, *end = buffer + length + got, *feed;
    while ((feed = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        ssize_t size = feed + 1 - line;
        if (write(fd, line, (size_t)size) != size) {
            forget(fd);
            return;
        }
        line = feed + 1;
    }
    if (!keep_rest(fd, line, (size_t)(end - line)))
        forget(fd);
}

int main(int count, char **words)
{
    return run_server(count, words);
}
