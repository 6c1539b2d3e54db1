#include "config/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES (SECRET_MAX + 3) /* the line's end and the final zero */

/* A file that anything else than a text is at once: a FIFO is not waited for. */
static int open_file(const struct place *at, const char *file, mode_t refused)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (fd < 0) {
        place_error(at, "cannot be opened (%s); name a file that can be read", strerror(errno));
        return -1;
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        place_error(at, "is not a regular file; name one");
    else if (status.st_mode & refused)
        place_error(at, "is open to everybody on this machine; take that away with chmod o=");
    else
        return fd;
    close(fd);
    return -1;
}

/* As much of the file as its first line may have. The number of bytes, negative: an error. */
static ssize_t read_start(int fd, char buffer[LINE_BYTES])
{
    size_t length = 0;
    ssize_t n;

    do {
        n = read(fd, buffer + length, LINE_BYTES - 1 - length);
        if (n > 0)
            length += (size_t)n;
    } while ((n > 0 && length < LINE_BYTES - 1) || (n < 0 && errno == EINTR));
    return n < 0 ? -1 : (ssize_t)length;
}

/* Cuts the first line out of `length` bytes; false when it is no secret. */
static bool cut_line(const struct place *at, const char *what, char *buffer, size_t length)
{
    char *end = memchr(buffer, '\n', length);
    size_t line = end ? (size_t)(end - buffer) : length;

    if (line && buffer[line - 1] == '\r')
        line--;
    buffer[line] = '\0';
    if (line == 0)
        place_error(at, "has an empty first line; write the %s there", what);
    else if (line > SECRET_MAX)
        place_error(at, "has a first line of more than %d bytes; write a shorter %s", SECRET_MAX,
                    what);
    else if (strlen(buffer) < line)
        place_error(at, "has a zero byte in its first line; write the %s as text", what);
    else
        return true;
    return false;
}

static bool read_line(const struct place *at, const char *file, const char *what, mode_t refused,
                      char line[SECRET_MAX + 1])
{
    char buffer[LINE_BYTES] = "";
    bool good = false;
    ssize_t length;
    int fd;

    if (file[0] != '/') {
        place_error(at,
                    "is not an absolute path; write the path of a file whose first line is the %s",
                    what);
        return false;
    }
    fd = open_file(at, file, refused);
    if (fd < 0)
        return false;
    length = read_start(fd, buffer);
    close(fd);
    if (length < 0)
        place_error(at, "cannot be read (%s); name a file that can be read", strerror(errno));
    else
        good = cut_line(at, what, buffer, (size_t)length);
    if (good)
        strcpy(line, buffer);
    explicit_bzero(buffer, sizeof(buffer));
    return good;
}

bool secret_read(const struct place *at, const char *file, const char *what,
                 char line[SECRET_MAX + 1])
{
    return read_line(at, file, what, 0, line);
}

bool secret_read_private(const struct place *at, const char *file, const char *what,
                         char line[SECRET_MAX + 1])
{
    return read_line(at, file, what, S_IROTH | S_IWOTH, line);
}
