/* dtlspeer: socket, clock and the one poll loop. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/dtls/dtlspeer.h"

uint64_t clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_US + (uint64_t)t.tv_nsec / 1000;
}

static int bind_to(int fd, int family, const char *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    bool is_v6 = family == AF_INET6;

    if (inet_pton(family, address, is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
        return -EINVAL;
    if (bind(fd, is_v6 ? (void *)&v6 : (void *)&v4, is_v6 ? sizeof(v6) : sizeof(v4)) < 0)
        return -errno;
    return 0;
}

int link_open(struct tool *t, const char *address)
{
    int fd = socket(t->server.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = 0;

    if (fd < 0)
        return -errno;
    if (address)
        error = bind_to(fd, t->server.ss_family, address);
    if (error == 0 && connect(fd, (const struct sockaddr *)&t->server, t->server_length) < 0)
        error = -errno;
    if (error < 0) {
        close(fd);
        return error;
    }
    if (t->other_fd >= 0)
        close(t->other_fd);
    t->other_fd = t->fd;
    t->fd = fd;
    return 0;
}

int link_send(struct tool *t, const uint8_t *datagram, size_t length)
{
    /* A refusal by ICMP is as good as a loss: the timers know what to do. */
    if (send(t->fd, datagram, length, 0) < 0 && errno != ECONNREFUSED)
        return -errno;
    return 0;
}

static void on_send(void *context, const uint8_t *datagram, size_t length)
{
    struct tool *t = context;

    memcpy(t->last, datagram, length);
    t->last_length = length;
    t->has_last = true;
    link_send(t, datagram, length);
}

static void on_deliver(void *context, const uint8_t *data, size_t length)
{
    struct tool *t = context;

    if (!t->raw) {
        coap_receive(t, data, length);
        return;
    }
    print_text("data ", data, length);
    if (length < sizeof(t->received) - t->received_length) {
        memcpy(t->received + t->received_length, data, length);
        t->received_length += length;
    }
}

static void on_alert(void *context, uint8_t level, uint8_t description)
{
    struct tool *t = context;

    t->alert = description;
    printf("alert %s %u\n", level == 2 ? "fatal" : "warning", description);
}

const struct peer_events link_events = {.send = on_send, .deliver = on_deliver, .alert = on_alert};

static void receive_all(struct tool *t)
{
    uint8_t datagram[65536];
    ssize_t length;

    for (;;) {
        length = recv(t->fd, datagram, sizeof(datagram), 0);
        if (length < 0 && (errno == ECONNREFUSED || errno == EINTR))
            continue;
        if (length < 0)
            return;
        t->datagrams++;
        peer_receive(&t->peer, datagram, (size_t)length, clock_us());
    }
}

static int poll_ms(const struct tool *t, uint64_t until_us)
{
    uint64_t now = clock_us(),
             due = peer_state(&t->peer) == PEER_IDLE ? FOREVER : peer_next_us(&t->peer);

    due = due < until_us ? due : until_us;
    due = due < coap_next_us(t) ? due : coap_next_us(t);
    if (due == FOREVER)
        return -1;
    if (due <= now)
        return 0;
    due = (due - now) / 1000 + 1;
    return due > 60000 ? 60000 : (int)due;
}

bool link_turn(struct tool *t, uint64_t until_us, int input)
{
    struct pollfd polled[2] = {{.fd = t->fd, .events = POLLIN}, {.fd = input, .events = POLLIN}};

    fflush(stdout);
    if (poll(polled, 2, poll_ms(t, until_us)) < 0)
        return false;
    if (polled[0].revents)
        receive_all(t);
    if (peer_state(&t->peer) != PEER_IDLE)
        peer_advance(&t->peer, clock_us());
    coap_advance(t, clock_us());
    return polled[1].revents != 0;
}

bool link_wait(struct tool *t, bool (*done)(const struct tool *), uint64_t wait_us)
{
    uint64_t until = clock_us() + wait_us;

    while (!done(t) && clock_us() < until)
        link_turn(t, until, -1);
    return done(t);
}
