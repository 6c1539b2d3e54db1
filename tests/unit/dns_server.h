/* A DNS server in a thread, on 127.0.0.1 with UDP and TCP ports that the kernel chooses: for tests
 * of the resolver. What it does with a question depends on the name; see dns_zone. */
#ifndef COAPGW_TESTS_UNIT_DNS_SERVER_H
#define COAPGW_TESTS_UNIT_DNS_SERVER_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define DNS_BYTES 1500
#define DNS_HELD  16

enum dns_way {
    DNS_ANSWERED,
    DNS_ABSENT,    /* NXDOMAIN */
    DNS_FAILED,    /* SERVFAIL */
    DNS_SILENT,    /* no answer */
    DNS_HALF,      /* no answer about AAAA */
    DNS_TRUNCATED, /* by UDP empty with TC, by TCP whole */
    DNS_CUT,       /* as many records as said are not in it */
    DNS_NOISY,     /* the answer comes after datagrams that are none */
    DNS_KEPT,      /* answered after dns_release() */
    DNS_DAMAGED,   /* bytes of the answer are wrong, others each time */
};

struct dns_entry {
    const char *name; /* "*" in front stands for anything */
    enum dns_way way;
    unsigned a, aaaa; /* records: 192.0.2.1, .2, ... and 2001:db8::1, ::2, ... */
    uint32_t a_ttl, aaaa_ttl;
    const char *alias; /* a CNAME leads to it, and it has the records */
    uint32_t alias_ttl;
};

static const struct dns_entry dns_zone[] = {
    {"v4.test", DNS_ANSWERED, .a = 1, .a_ttl = 300},
    {"v6.test", DNS_ANSWERED, .aaaa = 1, .aaaa_ttl = 120},
    {"both.test", DNS_ANSWERED, .a = 2, .aaaa = 1, .a_ttl = 100, .aaaa_ttl = 50},
    {"many.test", DNS_ANSWERED, .a = 12, .aaaa = 12, .a_ttl = 7, .aaaa_ttl = 8},
    {"many4.test", DNS_ANSWERED, .a = 12, .aaaa = 1, .a_ttl = 7, .aaaa_ttl = 8},
    {"alias.test", DNS_ANSWERED, .a = 1, .a_ttl = 300, .alias = "real.test", .alias_ttl = 30},
    {"dangling.test", DNS_ANSWERED, .alias = "nowhere.test", .alias_ttl = 30},
    {"zero.test", DNS_ANSWERED, .a = 1, .a_ttl = 0},
    {"long.test", DNS_ANSWERED, .a = 1, .a_ttl = 0x7fffffff},
    {"negative.test", DNS_ANSWERED, .a = 1, .a_ttl = 0xffffffff},
    {"empty.test", DNS_ANSWERED, .a = 0},
    {"failed.test", DNS_FAILED, .a = 0},
    {"half.test", DNS_HALF, .a = 1, .a_ttl = 9},
    {"truncated.test", DNS_TRUNCATED, .a = 3, .a_ttl = 60},
    {"cut.test", DNS_CUT, .a = 3, .aaaa = 3, .a_ttl = 60},
    {"noisy.test", DNS_NOISY, .a = 1, .a_ttl = 60},
    {"kept.test", DNS_KEPT, .a = 1, .a_ttl = 60},
    {"*.silent.test", DNS_SILENT, .a = 0},
    {"*.damaged.test", DNS_DAMAGED, .a = 2, .aaaa = 2, .a_ttl = 60, .alias = "real.test"},
    {"*.any.test", DNS_ANSWERED, .a = 1, .a_ttl = 60},
    {"*", DNS_ABSENT, .a = 0},
};

/* A message that is being written or read. */
struct dns_message {
    uint8_t bytes[DNS_BYTES];
    size_t length, question_end;
    struct sockaddr_in peer;
};

struct dns_server {
    int udp, tcp, connection, bell;
    uint16_t port;
    pthread_t thread;
    atomic_bool stop, released;
    atomic_uint questions;
    uint64_t random;
    unsigned held;
    struct dns_message kept[DNS_HELD];
};

static inline uint32_t dns_random(struct dns_server *s)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(s->random >> 33);
}

static inline void dns_put(struct dns_message *m, const void *bytes, size_t n)
{
    if (m->length + n <= sizeof(m->bytes)) {
        memcpy(m->bytes + m->length, bytes, n);
        m->length += n;
    }
}

static inline void dns_put16(struct dns_message *m, uint16_t value)
{
    dns_put(m, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

static inline void dns_put_name(struct dns_message *m, const char *name)
{
    while (*name) {
        size_t n = strcspn(name, ".");

        dns_put(m, (uint8_t[]){(uint8_t)n}, 1);
        dns_put(m, name, n);
        name += n + (name[n] == '.');
    }
    dns_put(m, "", 1);
}

/* The name asked for as text, and where the question ends. False when it is no question. */
static inline bool dns_read_question(struct dns_message *m, char name[256], uint16_t *type)
{
    size_t at = 12, n = 0;

    while (at < m->length && m->bytes[at] != 0 && m->bytes[at] < 64 && n + m->bytes[at] < 254) {
        if (n)
            name[n++] = '.';
        memcpy(name + n, m->bytes + at + 1, m->bytes[at]);
        n += m->bytes[at];
        at += 1u + m->bytes[at];
    }
    name[n] = 0;
    m->question_end = at + 5;
    if (m->question_end > m->length || m->bytes[at] != 0)
        return false;
    *type = (uint16_t)(m->bytes[at + 1] << 8 | m->bytes[at + 2]);
    return true;
}

static inline const struct dns_entry *dns_look_up(const char *name)
{
    const struct dns_entry *e = dns_zone;

    for (;; e++) {
        size_t n = strlen(name), tail = strlen(e->name) - 1;

        if (strcasecmp(e->name, name) == 0 ||
            (e->name[0] == '*' && n >= tail && strcasecmp(name + n - tail, e->name + 1) == 0))
            return e;
    }
}

static inline void dns_put_record(struct dns_message *m, const char *owner, uint16_t type,
                                  uint32_t ttl, const void *data, uint16_t n)
{
    if (owner)
        dns_put_name(m, owner);
    else
        dns_put16(m, 0xc00c); /* the name in the question */
    dns_put16(m, type);
    dns_put16(m, 1);
    dns_put16(m, (uint16_t)(ttl >> 16));
    dns_put16(m, (uint16_t)ttl);
    dns_put16(m, n);
    dns_put(m, data, n);
    m->bytes[7]++;
}

/* Makes the answer out of the question. */
static inline void dns_answer(struct dns_message *m, const struct dns_entry *e, uint16_t type)
{
    struct dns_message alias = {.length = 0};
    uint8_t v4[4] = {192, 0, 2}, v6[16] = {0x20, 0x01, 0x0d, 0xb8};

    m->length = m->question_end;
    m->bytes[2] |= 0x80;
    m->bytes[3] = (uint8_t)(e->way == DNS_ABSENT ? 0x83 : e->way == DNS_FAILED ? 0x82 : 0x80);
    memset(m->bytes + 6, 0, 6);
    if (e->alias) {
        dns_put_name(&alias, e->alias);
        dns_put_record(m, NULL, 5, e->alias_ttl, alias.bytes, (uint16_t)alias.length);
    }
    for (unsigned i = 0; type == 1 && i < e->a; i++) {
        v4[3] = (uint8_t)(i + 1);
        dns_put_record(m, e->alias, 1, e->a_ttl, v4, 4);
    }
    for (unsigned i = 0; type == 28 && i < e->aaaa; i++) {
        v6[15] = (uint8_t)(i + 1);
        dns_put_record(m, e->alias, 28, e->aaaa_ttl, v6, 16);
    }
}

static inline void dns_send(struct dns_server *s, const struct dns_message *m)
{
    (void)sendto(s->udp, m->bytes, m->length, 0, (const struct sockaddr *)&m->peer,
                 sizeof(m->peer));
}

static inline void dns_send_noise(struct dns_server *s, const struct dns_message *answer)
{
    struct dns_message m = *answer;

    for (m.length = 0; m.length <= answer->question_end; m.length += 3)
        dns_send(s, &m);
    m = *answer;
    m.bytes[0] ^= 0x55; /* another message's ID */
    dns_send(s, &m);
    m = *answer;
    m.bytes[13] ^= 1; /* another name */
    dns_send(s, &m);
}

static inline void dns_damage(struct dns_server *s, struct dns_message *m)
{
    for (unsigned n = dns_random(s) % 4; n-- > 0;)
        m->bytes[2 + dns_random(s) % (m->length - 2)] = (uint8_t)dns_random(s);
    if (dns_random(s) % 2)
        m->length = dns_random(s) % (m->length + 1);
}

static inline void dns_serve_udp(struct dns_server *s)
{
    struct dns_message m = {.length = 0};
    socklen_t peer_length = sizeof(m.peer);
    ssize_t n = recvfrom(s->udp, m.bytes, sizeof(m.bytes), MSG_DONTWAIT, (struct sockaddr *)&m.peer,
                         &peer_length);
    const struct dns_entry *e;
    char name[256];
    uint16_t type;

    m.length = n > 0 ? (size_t)n : 0;
    if (!dns_read_question(&m, name, &type))
        return;
    atomic_fetch_add(&s->questions, 1);
    e = dns_look_up(name);
    if (e->way == DNS_SILENT || (e->way == DNS_HALF && type == 28))
        return;
    dns_answer(&m, e, type);
    if (e->way == DNS_NOISY)
        dns_send_noise(s, &m);
    if (e->way == DNS_CUT)
        m.length -= 3;
    if (e->way == DNS_DAMAGED)
        dns_damage(s, &m);
    if (e->way == DNS_TRUNCATED) {
        m.length = m.question_end;
        m.bytes[2] |= 2;
        m.bytes[7] = 0;
    }
    if (e->way == DNS_KEPT && !atomic_load(&s->released)) {
        if (s->held < DNS_HELD)
            s->kept[s->held++] = m;
        return;
    }
    dns_send(s, &m);
}

static inline bool dns_read_whole(int fd, uint8_t *bytes, size_t length)
{
    while (length) {
        ssize_t n = recv(fd, bytes, length, 0);

        if (n <= 0)
            return false;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

/* A question by TCP, with its length in front (RFC 1035 4.2.2). False: the connection is over. */
static inline bool dns_serve_tcp(int fd)
{
    struct dns_message m = {.length = 0};
    uint8_t length[2];
    char name[256];
    uint16_t type;

    if (!dns_read_whole(fd, length, 2))
        return false;
    m.length = (size_t)(length[0] << 8 | length[1]);
    if (m.length > sizeof(m.bytes) || !dns_read_whole(fd, m.bytes, m.length) ||
        !dns_read_question(&m, name, &type))
        return false;
    dns_answer(&m, dns_look_up(name), type);
    length[0] = (uint8_t)(m.length >> 8);
    length[1] = (uint8_t)m.length;
    return send(fd, length, 2, MSG_NOSIGNAL) == 2 &&
           send(fd, m.bytes, m.length, MSG_NOSIGNAL) == (ssize_t)m.length;
}

static inline void *dns_run(void *argument)
{
    struct dns_server *s = argument;

    while (!atomic_load(&s->stop)) {
        struct pollfd polled[] = {{.fd = s->bell, .events = POLLIN},
                                  {.fd = s->udp, .events = POLLIN},
                                  {.fd = s->tcp, .events = POLLIN},
                                  {.fd = s->connection, .events = POLLIN}};
        uint64_t rung;

        if (poll(polled, 4, -1) <= 0)
            continue;
        if (polled[0].revents)
            (void)!read(s->bell, &rung, sizeof(rung));
        while (atomic_load(&s->released) && s->held)
            dns_send(s, &s->kept[--s->held]);
        if (polled[1].revents)
            dns_serve_udp(s);
        if (polled[3].revents && !dns_serve_tcp(s->connection)) {
            close(s->connection);
            s->connection = -1;
        }
        if (polled[2].revents && s->connection < 0)
            s->connection = accept(s->tcp, NULL, NULL);
    }
    return NULL;
}

/* A UDP and a TCP socket with the same port. */
static inline bool dns_bind(struct dns_server *s)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(local);

    s->udp = socket(AF_INET, SOCK_DGRAM, 0);
    s->tcp = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s->tcp, (struct sockaddr *)&local, length) == 0 && listen(s->tcp, 4) == 0 &&
        getsockname(s->tcp, (struct sockaddr *)&local, &length) == 0 &&
        bind(s->udp, (struct sockaddr *)&local, length) == 0) {
        s->port = ntohs(local.sin_port);
        return true;
    }
    close(s->udp);
    close(s->tcp);
    return false;
}

static inline bool dns_start(struct dns_server *s)
{
    memset(s, 0, sizeof(*s));
    s->connection = -1;
    for (unsigned tries = 0; s->port == 0; tries++)
        if (!dns_bind(s) && tries == 20)
            return false;
    s->bell = eventfd(0, 0);
    return pthread_create(&s->thread, NULL, dns_run, s) == 0;
}

static inline void dns_ring(struct dns_server *s)
{
    (void)!write(s->bell, &(uint64_t){1}, 8);
}

static inline void dns_release(struct dns_server *s)
{
    atomic_store(&s->released, true);
    dns_ring(s);
}

static inline void dns_stop(struct dns_server *s)
{
    atomic_store(&s->stop, true);
    dns_ring(s);
    pthread_join(s->thread, NULL);
    close(s->udp);
    close(s->tcp);
    close(s->bell);
    if (s->connection >= 0)
        close(s->connection);
}

#endif
