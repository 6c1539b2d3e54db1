/* Sockets: one for each port, which all addresses share. The destination of what comes and the
 * source of what goes stand in IP_PKTINFO. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fleet/fleet.h"

#define BURST         64
#define DATAGRAM_MAX  1500
#define BUFFER_BYTES  (32 << 20)
#define CONTROL_BYTES CMSG_SPACE(sizeof(struct in_pktinfo))

union control {
    struct cmsghdr header; /* for its alignment */
    uint8_t bytes[CONTROL_BYTES];
};

struct batch {
    unsigned count;
    struct mmsghdr messages[BURST];
    struct iovec parts[BURST];
    union control controls[BURST];
    uint8_t data[BURST][DATAGRAM_OUT];
};

static int sockets[SOCKETS_MAX];
static unsigned socket_count; /* of all places */
static struct batch *out;     /* one for each socket */
static int poll_fd;

static struct in_addr address_of(const struct device *d)
{
    return (struct in_addr){htonl(fleet.options.first + d->index / fleet.options.sockets)};
}

void link_name(const struct device *d, char text[32])
{
    char address[INET_ADDRSTRLEN];
    struct in_addr a = address_of(d);

    inet_ntop(AF_INET, &a, address, sizeof(address));
    snprintf(text, 32, "%s:%u", address, fleet.options.port + d->index % fleet.options.sockets);
}

static void fail(const char *what)
{
    fprintf(stderr, "coapgw-fleet: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_socket(uint16_t port)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, bytes = BUFFER_BYTES;

    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 ||
        setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0)
        fail("a socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
        fail("the size of a socket's buffer (needs root)");
    return fd;
}

static void prepare_batch(struct batch *b)
{
    for (unsigned i = 0; i < BURST; i++) {
        struct msghdr *h = &b->messages[i].msg_hdr;
        struct cmsghdr *c = &b->controls[i].header;

        b->parts[i].iov_base = b->data[i];
        *h = (struct msghdr){.msg_name = &fleet.options.gateway,
                             .msg_namelen = sizeof(fleet.options.gateway),
                             .msg_iov = &b->parts[i],
                             .msg_iovlen = 1,
                             .msg_control = c,
                             .msg_controllen = CONTROL_BYTES};
        c->cmsg_level = IPPROTO_IP;
        c->cmsg_type = IP_PKTINFO;
        c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
    }
}

static void watch_fd(int fd, uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};

    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll");
}

void link_open(void)
{
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    socket_count = fleet.options.sockets * (fleet.options.key_length ? PLACES : 1);
    out = calloc(socket_count, sizeof(*out));
    if (poll_fd < 0 || !out)
        fail("start");
    for (unsigned i = 0; i < socket_count; i++) {
        sockets[i] = open_socket((uint16_t)(fleet.options.port + i));
        prepare_batch(&out[i]);
        watch_fd(sockets[i], i);
    }
    watch_fd(STDIN_FILENO, SOCKETS_MAX);
}

/* What cannot be sent is lost, as on any network: the gateway's interface may be gone. */
static void flush_socket(unsigned i)
{
    struct batch *b = &out[i];
    unsigned done = 0;

    while (done < b->count) {
        int n = sendmmsg(sockets[i], b->messages + done, b->count - done, 0);

        if (n < 0 && errno == EAGAIN && usleep(200) == 0)
            continue;
        if (n <= 0) {
            fleet.unsent++;
            done++;
        } else {
            fleet.sent += (unsigned)n;
            done += (unsigned)n;
        }
    }
    b->count = 0;
}

void link_flush(void)
{
    for (unsigned i = 0; i < socket_count; i++)
        flush_socket(i);
}

void link_send(const struct device *d, unsigned place, const uint8_t *data, size_t length)
{
    unsigned s = place * fleet.options.sockets + d->index % fleet.options.sockets;
    struct batch *b = &out[s];
    struct in_pktinfo info = {.ipi_spec_dst = address_of(d)};

    if (d->mute)
        return;
    if (b->count == BURST)
        flush_socket(s);
    memcpy(b->data[b->count], data, length);
    b->parts[b->count].iov_len = length;
    memcpy(CMSG_DATA(&b->controls[b->count].header), &info, sizeof(info));
    b->count++;
}

/* The device that a datagram is for, or NULL. */
static struct device *device_for(struct msghdr *h, unsigned socket_index)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    struct in_pktinfo info;
    uint64_t index;

    if (!c || c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO)
        return NULL;
    memcpy(&info, CMSG_DATA(c), sizeof(info));
    index = (uint64_t)(ntohl(info.ipi_addr.s_addr) - fleet.options.first) * fleet.options.sockets +
            socket_index % fleet.options.sockets;
    return index < fleet.options.devices ? &fleet.devices[index] : NULL;
}

static bool is_gateway(const struct sockaddr_in *from)
{
    return from->sin_addr.s_addr == fleet.options.gateway.sin_addr.s_addr &&
           from->sin_port == fleet.options.gateway.sin_port;
}

/* Returns how many were received. */
static int receive_burst(unsigned s)
{
    static uint8_t data[BURST][DATAGRAM_MAX];
    static union control controls[BURST];
    static struct sockaddr_in from[BURST];
    struct mmsghdr messages[BURST];
    struct iovec parts[BURST];
    int count;

    for (unsigned i = 0; i < BURST; i++) {
        parts[i] = (struct iovec){data[i], DATAGRAM_MAX};
        messages[i].msg_hdr = (struct msghdr){&from[i],     sizeof(from[i]), &parts[i], 1,
                                              &controls[i], CONTROL_BYTES,   0};
    }
    count = recvmmsg(sockets[s], messages, BURST, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        struct device *d = device_for(&messages[i].msg_hdr, s);

        fleet.received++;
        if (d && is_gateway(&from[i]))
            secure_receive(d, s / fleet.options.sockets, data[i], messages[i].msg_len);
    }
    return count;
}

bool link_turn(int wait_ms)
{
    struct epoll_event events[SOCKETS_MAX + 1];
    int count = epoll_wait(poll_fd, events, SOCKETS_MAX + 1, wait_ms);
    bool quiet = true;

    fleet.now = clock_now();
    for (int i = 0; i < count; i++) {
        if (events[i].data.u32 == SOCKETS_MAX)
            quiet = false;
        else
            for (unsigned n = 0; n < 16 && receive_burst(events[i].data.u32) == BURST; n++)
                ;
    }
    return quiet;
}
