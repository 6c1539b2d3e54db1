/* echo: sends every UDP datagram back to where it came from, in batches of recvmmsg() and
 * sendmmsg(): the most that a server on one socket of the kernel's stack can do.
 *
 * Exit codes: 0 ended by SIGTERM or SIGINT; 1 it could not run; 2 a bad command line. */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH          64
#define DATAGRAM_BYTES 2048
#define BUFFER_BYTES   (4 << 20)

static const char help[] = "usage: echo ADDRESS PORT [CPU]\n"
                           "\n"
                           "Sends every UDP datagram that comes to ADDRESS (IPv4) and PORT back,\n"
                           "until SIGTERM. With CPU it runs on that one only.\n";

struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_in peers[BATCH];
    uint8_t bytes[BATCH][DATAGRAM_BYTES];
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

/* A number in a range, or -1. */
static long number(const char *text, long low, long high)
{
    char *end;
    long value = strtol(text, &end, 10);

    return *text >= '0' && *text <= '9' && !*end && value >= low && value <= high ? value : -1;
}

static int open_socket(const struct sockaddr_in *own)
{
    int size = BUFFER_BYTES, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* Beyond the kernel's usual limit where we may; it is no error where we may not. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (bind(fd, (const struct sockaddr *)own, sizeof(*own)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void prepare(struct batch *b)
{
    for (unsigned i = 0; i < BATCH; i++) {
        b->parts[i] = (struct iovec){.iov_base = b->bytes[i]};
        b->messages[i].msg_hdr =
            (struct msghdr){.msg_name = &b->peers[i], .msg_iov = &b->parts[i], .msg_iovlen = 1};
    }
}

static int receive(int fd, struct batch *b)
{
    for (unsigned i = 0; i < BATCH; i++) {
        b->parts[i].iov_len = DATAGRAM_BYTES;
        b->messages[i].msg_hdr.msg_namelen = sizeof(b->peers[i]);
    }
    return recvmmsg(fd, b->messages, BATCH, MSG_WAITFORONE, NULL);
}

static void send_back(int fd, struct batch *b, int n)
{
    int sent = 0;

    for (int i = 0; i < n; i++)
        b->parts[i].iov_len = b->messages[i].msg_len;
    while (sent < n && !stopped) {
        int taken = sendmmsg(fd, b->messages + sent, (unsigned)(n - sent), 0);

        sent += taken > 0 ? taken : 1; /* an error is the first one's, which is left out */
    }
}

static int serve(int fd)
{
    static struct batch batch;

    prepare(&batch);
    while (!stopped) {
        int n = receive(fd, &batch);

        if (n > 0)
            send_back(fd, &batch, n);
        else if (errno != EINTR && errno != ECONNREFUSED)
            return -1;
    }
    return 0;
}

static bool pin(const char *text)
{
    long cpu = number(text, 0, CPU_SETSIZE - 1);
    cpu_set_t set;

    if (cpu < 0)
        return false;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    struct sigaction action = {.sa_handler = stop}; /* without SA_RESTART */
    long port = argc > 2 ? number(argv[2], 1, 65535) : -1;
    int fd;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (port < 0 || argc > 4 || inet_pton(AF_INET, argv[1], &own.sin_addr) != 1 ||
        (argc == 4 && !pin(argv[3]))) {
        fputs(help, stderr);
        return 2;
    }
    own.sin_port = htons((uint16_t)port);
    fd = open_socket(&own);
    if (fd < 0) {
        fprintf(stderr, "echo: %s port %ld: %s\n", argv[1], port, strerror(errno));
        return 1;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if (serve(fd) != 0) {
        fprintf(stderr, "echo: %s\n", strerror(errno));
        return 1;
    }
    close(fd);
    return 0;
}
