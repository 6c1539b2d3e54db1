/* Kernel sockets as a carrier.
 *
 * An unconnected socket serves one port with all addresses of the sources' subnet: it is bound to
 * the port alone, each message says which address it goes out from, and each that comes says which
 * it came to (IP_PKTINFO, IPV6_PKTINFO). So a million devices need sixteen sockets where a subnet
 * is at hand, as 127.0.0.0/8 always is, and one system call sends messages of many of them. Where
 * there is only one address, each device has a port and so a socket of its own. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/gun/carrier.h"
#include "bench/gun/clock.h"

#define ADDRESSES_MAX 65000 /* of one port */
#define PORT_FIRST    10000
#define PORT_LAST     65000
#define RECEIVE_BYTES 2048
#define QUEUE_BYTES   (32 << 20)
#define CONTROL_BYTES 64
#define SPARE_FILES   32 /* beside the sockets */
#define STUCK_NS      (200 * MILLISECOND_NS)
#define SPIN_TURNS    200 /* without anything, before the carrier sleeps */

struct sockets {
    struct carrier carrier;
    const struct gun_options *o;
    bool v6;
    bool chosen;        /* messages name their source address */
    uint32_t addresses; /* of each port */
    uint32_t count;     /* of the devices' sockets */
    int *fds;           /* one more for the origin's */
    int epoll;
    unsigned idle;
    struct sockaddr_storage target;
    socklen_t name_bytes;

    struct mmsghdr in[CARRIER_BURST], out[CARRIER_BURST];
    struct iovec in_parts[CARRIER_BURST], out_parts[CARRIER_BURST];
    struct sockaddr_storage from[CARRIER_BURST], to[CARRIER_BURST];
    struct carrier_peer peers[CARRIER_BURST]; /* `from`, as the engine has it */
    union {
        struct cmsghdr align;
        uint8_t bytes[CONTROL_BYTES];
    } in_control[CARRIER_BURST], out_control[CARRIER_BURST];
    uint8_t in_bytes[CARRIER_BURST][RECEIVE_BYTES], out_bytes[CARRIER_BURST][RECEIVE_BYTES];
    unsigned next_used;
};

/* ---- names ---- */

static socklen_t name_of(const struct address *a, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof(*out));
    if (address_is_v4(a)) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        memcpy(&v4->sin_addr, a->bytes + 12, 4);
        return sizeof(*v4);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    memcpy(&v6->sin6_addr, a->bytes, 16);
    return sizeof(*v6);
}

static void peer_of(const struct sockaddr_storage *name, struct carrier_peer *peer)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)name;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)name;

    memset(peer, 0, sizeof(*peer));
    if (name->ss_family == AF_INET) {
        peer->address = address_from_v4((const uint8_t *)&v4->sin_addr);
        peer->port = ntohs(v4->sin_port);
    } else {
        memcpy(peer->address.bytes, &v6->sin6_addr, 16);
        peer->port = ntohs(v6->sin6_port);
    }
}

/* ---- which address a message comes to and goes from ---- */

static void put_source(const struct sockets *s, struct msghdr *m, uint32_t index)
{
    struct address from = carrier_address(&s->o->source, index);
    struct cmsghdr *c = m->msg_control;

    c->cmsg_level = s->v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    c->cmsg_type = s->v6 ? IPV6_PKTINFO : IP_PKTINFO;
    if (s->v6) {
        struct in6_pktinfo info = {0};

        memcpy(&info.ipi6_addr, from.bytes, 16);
        c->cmsg_len = CMSG_LEN(sizeof(info));
        m->msg_controllen = CMSG_SPACE(sizeof(info));
        memcpy(CMSG_DATA(c), &info, sizeof(info));
    } else {
        struct in_pktinfo info = {0};

        memcpy(&info.ipi_spec_dst, from.bytes + 12, 4);
        c->cmsg_len = CMSG_LEN(sizeof(info));
        m->msg_controllen = CMSG_SPACE(sizeof(info));
        memcpy(CMSG_DATA(c), &info, sizeof(info));
    }
}

/* The place of the address that a message came to; UINT32_MAX when it is none of the devices'. */
static uint32_t destination_of(const struct sockets *s, struct msghdr *m)
{
    struct address to;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            const struct in_pktinfo *info = (const struct in_pktinfo *)CMSG_DATA(c);

            to = address_from_v4((const uint8_t *)&info->ipi_addr);
            return carrier_distance(&s->o->source, &to);
        }
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(to.bytes, CMSG_DATA(c), 16);
            return carrier_distance(&s->o->source, &to);
        }
    }
    return UINT32_MAX;
}

/* ---- receiving ---- */

/* False: for none of ours. */
static bool take_in(struct sockets *s, uint32_t socket_index, unsigned k, struct incoming *in)
{
    struct carrier_peer *peer = &s->peers[k];
    uint32_t place = 0;

    in->data = s->in_bytes[k];
    in->length = (uint16_t)s->in[k].msg_len;
    peer_of(&s->from[k], peer);
    if (socket_index == s->count) {
        in->party = PARTY_ORIGIN;
        in->peer = peer;
        return true;
    }
    if (s->chosen)
        place = destination_of(s, &s->in[k].msg_hdr);
    if (place >= s->addresses)
        return false;
    in->party = PARTY_DEVICE;
    in->endpoint = socket_index * s->addresses + place;
    in->astray =
        peer->port != s->o->target.port || !address_equal(&peer->address, &s->o->target.address);
    return in->endpoint < s->o->endpoints;
}

/* From one socket into the places from `have` on. Returns how many are filled then. */
static unsigned receive_from(struct sockets *s, uint32_t socket_index, struct incoming *in,
                             unsigned have, unsigned places, unsigned *next)
{
    int n = recvmmsg(s->fds[socket_index], s->in + *next, places - *next, MSG_DONTWAIT, NULL);

    for (int i = 0; i < n; i++) {
        unsigned k = *next + (unsigned)i;

        if (take_in(s, socket_index, k, &in[have]))
            have++;
        s->in[k].msg_hdr.msg_controllen = CONTROL_BYTES;
        s->in[k].msg_hdr.msg_namelen = sizeof(s->from[k]);
    }
    *next += n > 0 ? (unsigned)n : 0;
    return have;
}

static unsigned receive(struct carrier *c, struct incoming *in)
{
    struct sockets *s = (struct sockets *)c;
    struct epoll_event events[CARRIER_BURST];
    unsigned have = 0, next = 0;
    int n;

    if (s->count == 1 && !s->o->origin_given) {
        have = receive_from(s, 0, in, 0, CARRIER_BURST, &next);
    } else {
        n = epoll_wait(s->epoll, events, CARRIER_BURST, 0);
        for (int i = 0; i < n && next < CARRIER_BURST; i++)
            have = receive_from(s, events[i].data.u32, in, have, CARRIER_BURST, &next);
    }
    s->idle = next ? 0 : s->idle + 1;
    return have;
}

static void release(struct carrier *c)
{
    (void)c;
}

/* ---- sending ---- */

static unsigned reserve(struct carrier *c, struct outgoing *out, unsigned n)
{
    struct sockets *s = (struct sockets *)c;
    unsigned k = 0;

    while (k < n && s->next_used < CARRIER_BURST) {
        out[k].data = s->out_bytes[s->next_used];
        out[k].buffer = &s->out_parts[s->next_used];
        s->next_used++;
        k++;
    }
    return k;
}

static uint32_t socket_of(const struct sockets *s, const struct outgoing *out)
{
    return out->party == PARTY_ORIGIN ? s->count : out->endpoint / s->addresses;
}

static void prepare(struct sockets *s, const struct outgoing *out, unsigned k)
{
    struct msghdr *m = &s->out[k].msg_hdr;

    s->out_parts[k] = (struct iovec){out->data, out->length};
    m->msg_iov = &s->out_parts[k];
    m->msg_iovlen = 1;
    m->msg_namelen = s->name_bytes;
    m->msg_name = &s->target;
    m->msg_control = NULL;
    m->msg_controllen = 0;
    if (out->party == PARTY_ORIGIN) {
        name_of(&out->peer->address, out->peer->port, &s->to[k]);
        m->msg_name = &s->to[k];
    } else if (s->chosen) {
        m->msg_control = s->out_control[k].bytes;
        put_source(s, m, out->endpoint % s->addresses);
    }
}

/* The first `n` of s->out. Returns how many were lost: the kernel's queue stayed full. */
static unsigned send_all(struct sockets *s, int fd, unsigned n)
{
    unsigned done = 0;
    uint64_t end = 0;

    while (done < n) {
        int sent = sendmmsg(fd, s->out + done, n - done, 0);

        if (sent > 0) {
            done += (unsigned)sent;
            end = 0;
        } else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR) {
            break;
        } else if (!end) {
            end = clock_monotonic_ns() + STUCK_NS;
        } else if (clock_monotonic_ns() > end) {
            break;
        }
    }
    return n - done;
}

/* Messages of one socket go together, in their order. */
static unsigned send_burst(struct carrier *c, struct outgoing *out, unsigned n)
{
    struct sockets *s = (struct sockets *)c;
    unsigned lost = 0;
    uint64_t left = n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;

    while (left) {
        uint32_t which = socket_of(s, &out[__builtin_ctzll(left)]);
        unsigned count = 0;

        for (uint64_t rest = left; rest; rest &= rest - 1) {
            unsigned i = (unsigned)__builtin_ctzll(rest);

            if (socket_of(s, &out[i]) != which)
                continue;
            prepare(s, &out[i], count++);
            left &= ~(UINT64_C(1) << i);
        }
        lost += send_all(s, s->fds[which], count);
    }
    s->next_used = 0;
    return lost;
}

/* Sleeps only when nothing has come for a while: a wake-up costs more than an empty look. */
static void stay(struct carrier *c, uint64_t ns)
{
    struct sockets *s = (struct sockets *)c;
    struct epoll_event event;
    struct timespec time = {(time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)};

    if (s->idle > SPIN_TURNS && epoll_pwait2(s->epoll, &event, 1, &time, NULL) > 0)
        s->idle = 0;
}

/* ---- start ---- */

/* How many addresses there are for one port. */
static uint32_t count_addresses(const struct gun_options *o)
{
    unsigned bits = o->source_bits ? (address_is_v4(&o->source) ? 32 : 128) - o->source_bits : 0;
    uint32_t low = carrier_low(&o->source), room = ADDRESSES_MAX;

    if (bits < 32)
        room = (1u << bits) - (low & ((1u << bits) - 1));
    if (room > 2 && bits && bits < 32)
        room--; /* not the broadcast address */
    room = room < ADDRESSES_MAX ? room : ADDRESSES_MAX;
    return room < o->endpoints ? room : o->endpoints;
}

/* Files enough, or say what to do. */
static int allow_files(uint64_t wanted)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= wanted)
        return 0;
    limit.rlim_cur = wanted;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted; /* root may, up to fs.nr_open */
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    fprintf(stderr,
            "coapgun: --endpoints: %llu sockets are more than this process may have: raise ulimit "
            "-n, or give --source ADDR/LEN with a subnet that is all local: its addresses share "
            "sockets\n",
            (unsigned long long)wanted - SPARE_FILES);
    return -EMFILE;
}

static void set_options(const struct sockets *s, int fd)
{
    int bytes = QUEUE_BYTES / (s->count < 64 ? 1 : 64), on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    if (!s->chosen)
        return;
    if (s->v6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
    else
        setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
}

/* A socket on an address and port, watched under its number. Its descriptor, or a negative errno.
 */
static int open_socket(struct sockets *s, const struct address *a, uint16_t port, uint32_t number)
{
    struct sockaddr_storage name;
    socklen_t bytes = name_of(a, port, &name);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    int fd = socket(name.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, err;

    if (fd < 0)
        return -errno;
    if (s->v6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    set_options(s, fd);
    if (bind(fd, (struct sockaddr *)&name, bytes) == 0 &&
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
        return fd;
    err = -errno;
    close(fd);
    return err;
}

/* Ports that others use are passed over. */
static int open_devices(struct sockets *s, const struct address *bound)
{
    unsigned port = PORT_FIRST;
    char text[ENDPOINT_TEXT_BYTES];

    for (uint32_t i = 0; i < s->count; i++) {
        do
            s->fds[i] = port == s->o->target.port || port == s->o->origin.port
                            ? -EADDRINUSE
                            : open_socket(s, bound, (uint16_t)port, i);
        while (port++ < PORT_LAST && s->fds[i] == -EADDRINUSE);
        if (s->fds[i] >= 0)
            continue;
        fprintf(stderr, "coapgun: %s: socket %u of %u: %s\n", address_format(bound, text), i + 1,
                s->count, strerror(-s->fds[i]));
        return s->fds[i];
    }
    return 0;
}

static int open_origin(struct sockets *s)
{
    const struct endpoint *origin = &s->o->origin;
    char text[ENDPOINT_TEXT_BYTES];
    bool chosen = s->chosen;

    s->chosen = false; /* it has one address */
    s->fds[s->count] = open_socket(s, &origin->address, origin->port, s->count);
    s->chosen = chosen;
    if (s->fds[s->count] >= 0)
        return 0;
    fprintf(stderr, "coapgun: --origin %s: %s\n",
            endpoint_format(&origin->address, origin->port, text), strerror(-s->fds[s->count]));
    return s->fds[s->count];
}

/* The first and the last source address are this machine's. */
static int check_source(struct sockets *s)
{
    for (unsigned i = 0; i < 2; i++) {
        struct address a = carrier_address(&s->o->source, i ? s->addresses - 1 : 0);
        char text[ENDPOINT_TEXT_BYTES];
        int fd = open_socket(s, &a, 0, 0);

        if (fd < 0) {
            fprintf(stderr, "coapgun: --source: %s is not an address of this machine: %s\n",
                    address_format(&a, text), strerror(-fd));
            return fd;
        }
        close(fd);
    }
    return 0;
}

static void set_up_messages(struct sockets *s)
{
    for (unsigned i = 0; i < CARRIER_BURST; i++) {
        struct msghdr *m = &s->in[i].msg_hdr;

        s->in_parts[i] = (struct iovec){s->in_bytes[i], RECEIVE_BYTES};
        m->msg_iov = &s->in_parts[i];
        m->msg_iovlen = 1;
        m->msg_name = &s->from[i];
        m->msg_namelen = sizeof(s->from[i]);
        m->msg_control = s->in_control[i].bytes;
        m->msg_controllen = CONTROL_BYTES;
    }
    s->name_bytes = name_of(&s->o->target.address, s->o->target.port, &s->target);
}

/* One port: at the given address, when it is the only one, or at all. */
static int open_all(struct sockets *s)
{
    static const struct address any6 = {{0}};
    static const uint8_t zero[4];
    struct address any = s->v6 ? any6 : address_from_v4(zero);
    int err;

    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0)
        return -errno;
    err = s->o->source_given || s->chosen ? check_source(s) : 0;
    if (!err)
        err = open_devices(s, s->o->source_given && !s->chosen ? &s->o->source : &any);
    if (!err && s->o->origin_given)
        err = open_origin(s);
    return err;
}

static void close_sockets(struct carrier *c)
{
    struct sockets *s = (struct sockets *)c;

    for (uint32_t i = 0; s->fds && i <= s->count; i++)
        if (s->fds[i] >= 0)
            close(s->fds[i]);
    if (s->epoll >= 0)
        close(s->epoll);
    free(s->fds);
    free(s);
}

static int pin(const struct gun_options *o)
{
    cpu_set_t set;

    if (o->core < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET((unsigned)o->core, &set);
    if (sched_setaffinity(0, sizeof(set), &set) == 0)
        return 0;
    fprintf(stderr, "coapgun: --core %d: %s\n", o->core, strerror(errno));
    return -errno;
}

static int start(struct sockets *s)
{
    int err = pin(s->o);

    if (!err)
        err = allow_files((uint64_t)s->count + SPARE_FILES);
    if (err)
        return err;
    s->fds = malloc(sizeof(*s->fds) * (s->count + 1u));
    if (!s->fds)
        return -ENOMEM;
    memset(s->fds, 0xff, sizeof(*s->fds) * (s->count + 1u));
    set_up_messages(s);
    return open_all(s);
}

int carrier_kernel_open(const struct gun_options *o, struct carrier **out)
{
    struct sockets *s = calloc(1, sizeof(*s));
    int err;

    if (!s)
        return -ENOMEM;
    s->o = o;
    s->epoll = -1;
    s->v6 = !address_is_v4(&o->target.address);
    s->addresses = count_addresses(o);
    s->chosen = s->addresses > 1 || (o->source_given && o->source_bits);
    s->count = (o->endpoints - 1) / s->addresses + 1;
    s->carrier = (struct carrier){.receive = receive,
                                  .release = release,
                                  .reserve = reserve,
                                  .send = send_burst,
                                  .wait = stay,
                                  .close = close_sockets};
    err = start(s);
    if (err)
        close_sockets(&s->carrier);
    else
        *out = &s->carrier;
    return err;
}
