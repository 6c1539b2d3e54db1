#include "gateway/control/dns_answer.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "gateway/control/resolver.h"

int dns_answer_error(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_EBADNAME:
        return -ENOENT;
    case ARES_ETIMEOUT:
        return -ETIMEDOUT;
    default:
        return -EIO;
    }
}

/* A TTL with the highest bit set is zero (RFC 2181 8). */
static uint32_t shorter_ttl(uint32_t ttl_s, int record_ttl_s)
{
    if (record_ttl_s < 0)
        return 0;
    return (uint32_t)record_ttl_s < ttl_s ? (uint32_t)record_ttl_s : ttl_s;
}

static uint32_t ttl_of(const struct ares_addrinfo *info)
{
    uint32_t ttl_s = RESOLVER_TTL_MAX_S;

    for (const struct ares_addrinfo_cname *c = info->cnames; c; c = c->next)
        ttl_s = shorter_ttl(ttl_s, c->ttl);
    for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next)
        ttl_s = shorter_ttl(ttl_s, n->ai_ttl);
    return ttl_s;
}

/* The next node of a family, or NULL. */
static const struct ares_addrinfo_node *of_family(const struct ares_addrinfo_node *n, int family)
{
    while (n && n->ai_family != family)
        n = n->ai_next;
    return n;
}

static struct address address_of(const struct ares_addrinfo_node *n)
{
    struct address address;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (n->ai_family == AF_INET) {
        memcpy(&v4, n->ai_addr, sizeof(v4));
        return address_from_v4((const uint8_t *)&v4.sin_addr);
    }
    memcpy(&v6, n->ai_addr, sizeof(v6));
    memcpy(address.bytes, &v6.sin6_addr, sizeof(address.bytes));
    return address;
}

/* By turns, so that many addresses of one family leave room for the other one. */
static void read_addresses(struct resolved *answer, const struct ares_addrinfo *info)
{
    static const int families[2] = {AF_INET6, AF_INET};
    const struct ares_addrinfo_node *next[2] = {of_family(info->nodes, AF_INET6),
                                                of_family(info->nodes, AF_INET)};

    for (unsigned i = 0; answer->count < RESOLVED_MAX && (next[0] || next[1]); i ^= 1) {
        if (!next[i])
            continue;
        answer->addresses[answer->count++] = address_of(next[i]);
        next[i] = of_family(next[i]->ai_next, families[i]);
    }
}

void dns_answer_fail(struct resolved *answer, int error)
{
    answer->error = error;
    answer->ttl_s = RESOLVER_TTL_NEGATIVE_S;
    answer->count = 0;
}

void dns_answer_read(struct resolved *answer, int status, const struct ares_addrinfo *info,
                     bool at_once)
{
    answer->error = 0;
    answer->count = 0;
    if (status == ARES_SUCCESS)
        read_addresses(answer, info);
    if (answer->count)
        answer->ttl_s = at_once ? RESOLVER_TTL_HOSTS_S : ttl_of(info);
    else
        dns_answer_fail(answer, status == ARES_SUCCESS ? -ENOENT : dns_answer_error(status));
}
