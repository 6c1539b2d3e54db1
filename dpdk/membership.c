#include "dpdk/membership.h"

#include <stdlib.h>

#define NEVER UINT64_MAX

/* RFC 3376 8, RFC 3810 9: their defaults. */
#define ROBUSTNESS         2
#define UNSOLICITED_MS     1000
#define UNSOLICITED_OLD_MS 10000
#define QUERY_INTERVAL_MS  125000
#define ANSWER_GAP_US      100000ull

/* An answer that may be due. */
struct answer {
    uint64_t due_us; /* or NEVER */
    uint64_t quiet_until_us;
};

/* What is announced on one interface in one family. */
struct party {
    uint16_t interface;
    const struct address *source;
    const struct address *groups;
    struct answer *answers; /* for each group */
    struct answer all;      /* for all groups together: MEMBERSHIP_CURRENT only */
    unsigned count;
    enum membership_version version;
    uint64_t old_until_us[MEMBERSHIP_CURRENT]; /* a querier of this version is there */
    uint64_t change_due_us;                    /* the next report that we came or go */
    uint8_t changes_left;
    bool leaving;
};

struct membership {
    struct membership_setup setup;
    struct random random;
    struct party *parties;
    unsigned count;
    uint64_t next_us;
};

/* ---- sending ---- */

static void send_or_drop(struct membership *m, const struct party *p, struct rte_mbuf *mbuf,
                         bool written)
{
    if (!written) {
        rte_pktmbuf_free(mbuf);
        m->setup.counters->drop_no_buffer++; /* asked for again, or not */
        return;
    }
    m->setup.counters->membership_reports++;
    m->setup.transmit(m->setup.context, p->interface, mbuf);
}

static void send_records(struct membership *m, const struct party *p, enum membership_record record,
                         unsigned first, unsigned count)
{
    const struct stack_interface *interface = &m->setup.interfaces[p->interface];

    while (count) {
        unsigned n = count < MEMBERSHIP_RECORDS ? count : MEMBERSHIP_RECORDS;
        struct rte_mbuf *mbuf = rte_pktmbuf_alloc(m->setup.pool);

        send_or_drop(
            m, p, mbuf,
            mbuf && membership_write(mbuf, interface, p->source, record, p->groups + first, n));
        first += n;
        count -= n;
    }
}

static void send_old(struct membership *m, const struct party *p, bool leaves, unsigned group)
{
    struct rte_mbuf *mbuf;

    if (leaves && p->version == MEMBERSHIP_OLDEST)
        return; /* IGMPv1 has no word for it */
    mbuf = rte_pktmbuf_alloc(m->setup.pool);
    send_or_drop(m, p, mbuf,
                 mbuf && membership_write_old(mbuf, &m->setup.interfaces[p->interface], p->source,
                                              p->version, leaves, &p->groups[group]));
}

static void send_change(struct membership *m, const struct party *p)
{
    if (p->version == MEMBERSHIP_CURRENT) {
        send_records(m, p, p->leaving ? MEMBERSHIP_LEAVES : MEMBERSHIP_JOINS, 0, p->count);
        return;
    }
    for (unsigned i = 0; i < p->count; i++)
        send_old(m, p, p->leaving, i);
}

static void send_state(struct membership *m, const struct party *p, unsigned group)
{
    if (p->version == MEMBERSHIP_CURRENT)
        send_records(m, p, MEMBERSHIP_IS_IN_GROUP, group, 1);
    else
        send_old(m, p, false, group);
}

/* ---- time ---- */

static uint64_t random_us(struct membership *m, uint32_t most_ms)
{
    return random_below(&m->random, most_ms + 1) * 1000ull;
}

static void cancel(struct party *p)
{
    p->all.due_us = NEVER;
    for (unsigned i = 0; i < p->count; i++)
        p->answers[i].due_us = NEVER;
}

/* The oldest version that a querier has spoken lately. When it changes, nothing of before holds
 * (RFC 3376 7.2.1, RFC 3810 8.2.1); that we leave is still to be said. */
static void settle_version(struct party *p, uint64_t now)
{
    enum membership_version version = MEMBERSHIP_OLDEST;

    while (version < MEMBERSHIP_CURRENT && p->old_until_us[version] <= now)
        version++;
    if (version == p->version)
        return;
    p->version = version;
    cancel(p);
    if (!p->leaving)
        p->changes_left = 0;
}

static bool is_due(struct answer *a, uint64_t now)
{
    if (a->due_us > now)
        return false;
    a->due_us = NEVER;
    a->quiet_until_us = now + ANSWER_GAP_US;
    return true;
}

static void advance_party(struct membership *m, struct party *p, uint64_t now)
{
    settle_version(p, now);
    if (p->changes_left && p->change_due_us <= now) {
        send_change(m, p);
        p->changes_left--;
        p->change_due_us =
            now +
            random_us(m, p->version == MEMBERSHIP_CURRENT ? UNSOLICITED_MS : UNSOLICITED_OLD_MS);
    }
    if (is_due(&p->all, now))
        send_records(m, p, MEMBERSHIP_IS_IN_GROUP, 0, p->count);
    for (unsigned i = 0; i < p->count; i++)
        if (is_due(&p->answers[i], now))
            send_state(m, p, i);
}

static uint64_t party_next_us(const struct party *p)
{
    uint64_t next = p->changes_left ? p->change_due_us : NEVER;

    if (p->all.due_us < next)
        next = p->all.due_us;
    for (unsigned i = 0; i < p->count; i++)
        if (p->answers[i].due_us < next)
            next = p->answers[i].due_us;
    return next;
}

static void find_next(struct membership *m)
{
    m->next_us = NEVER;
    for (unsigned i = 0; i < m->count; i++) {
        uint64_t next = party_next_us(&m->parties[i]);

        if (next < m->next_us)
            m->next_us = next;
    }
}

void membership_advance(struct membership *m, uint64_t now)
{
    if (now < m->next_us)
        return;
    for (unsigned i = 0; i < m->count; i++)
        advance_party(m, &m->parties[i], now);
    find_next(m);
}

uint64_t membership_next_us(const struct membership *m)
{
    return m->next_us;
}

/* ---- hearing ---- */

static struct party *find_party(struct membership *m, uint16_t interface, bool v4)
{
    for (unsigned i = 0; i < m->count; i++)
        if (m->parties[i].interface == interface && address_is_v4(m->parties[i].groups) == v4)
            return &m->parties[i];
    return NULL;
}

/* The sooner of what was due already and a random time within what the query allows. */
static void schedule(struct membership *m, struct answer *a, uint32_t most_ms, uint64_t now)
{
    uint64_t due = now + random_us(m, most_ms);

    if (due < a->quiet_until_us)
        due = a->quiet_until_us;
    if (due < a->due_us)
        a->due_us = due;
}

static void hear_query(struct membership *m, struct party *p, const struct membership_message *q,
                       uint64_t now)
{
    if (q->version < MEMBERSHIP_CURRENT) /* RFC 3376 8.12, RFC 3810 9.12 */
        p->old_until_us[q->version] =
            now + (ROBUSTNESS * QUERY_INTERVAL_MS + q->response_ms) * 1000ull;
    settle_version(p, now);
    if (q->general && p->version == MEMBERSHIP_CURRENT) {
        schedule(m, &p->all, q->response_ms, now);
        return;
    }
    for (unsigned i = 0; i < p->count; i++) {
        struct answer *a = &p->answers[i];
        uint64_t latest = now + q->response_ms * 1000ull;

        if (!q->general && !address_equal(&p->groups[i], &q->group))
            continue;
        /* Old hosts leave a timer alone that ends in time (RFC 2236 3); an answer for all groups
         * that is due soon is one for this group, too (RFC 3376 5.2). */
        if (p->version == MEMBERSHIP_CURRENT ? p->all.due_us > latest : a->due_us > latest)
            schedule(m, a, q->response_ms, now);
    }
}

/* Another host has said of a group what we would: with old versions one is enough. */
static void hear_report(struct party *p, const struct address *group)
{
    for (unsigned i = 0; i < p->count; i++)
        if (p->version != MEMBERSHIP_CURRENT && address_equal(&p->groups[i], group))
            p->answers[i].due_us = NEVER;
}

static bool has_group(const struct party *p, const struct address *group)
{
    for (unsigned i = 0; i < p->count; i++)
        if (address_equal(&p->groups[i], group))
            return true;
    return false;
}

bool membership_hear(struct membership *m, uint16_t interface, bool v4,
                     const struct membership_message *message, uint64_t now)
{
    struct party *p = find_party(m, interface, v4);

    if (!p || p->leaving || (!message->general && !has_group(p, &message->group)))
        return false;
    if (message->kind == MEMBERSHIP_QUERY)
        hear_query(m, p, message, now);
    else if (message->kind == MEMBERSHIP_REPORT)
        hear_report(p, &message->group);
    else
        return false;
    find_next(m);
    return true;
}

void membership_leave(struct membership *m, uint64_t now)
{
    for (unsigned i = 0; i < m->count; i++) {
        struct party *p = &m->parties[i];

        cancel(p);
        p->leaving = true;
        p->changes_left = ROBUSTNESS;
        p->change_due_us = now;
    }
    find_next(m);
}

/* ---- start and end ---- */

static const struct address *first_address4(const struct config_interface *i)
{
    for (unsigned k = 0; k < i->address_count; k++)
        if (address_is_v4(&i->addresses[k].address))
            return &i->addresses[k].address;
    return NULL;
}

static int add_party(struct membership *m, uint16_t interface, const struct address *source,
                     const struct address *groups, unsigned count, uint64_t now)
{
    struct party *p = &m->parties[m->count];

    if (count == 0 || !source)
        return 0;
    *p = (struct party){.interface = interface,
                        .source = source,
                        .groups = groups,
                        .count = count,
                        .version = MEMBERSHIP_CURRENT,
                        .change_due_us = now,
                        .changes_left = ROBUSTNESS};
    p->answers = calloc(count, sizeof(*p->answers));
    if (!p->answers)
        return -1;
    m->count++;
    cancel(p);
    return 0;
}

static int add_parties(struct membership *m, uint64_t now)
{
    const struct config *c = m->setup.config;

    for (unsigned i = 0; i < c->interface_count; i++) {
        const struct groups *g = &m->setup.groups[i];

        if (add_party(m, (uint16_t)i, first_address4(&c->interfaces[i]), g->addresses, g->count4,
                      now) ||
            add_party(m, (uint16_t)i, &m->setup.link_local[i], g->addresses + g->count4,
                      g->count - g->count4, now))
            return -1;
    }
    return 0;
}

struct membership *membership_create(const struct membership_setup *setup, uint64_t now)
{
    struct membership *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->setup = *setup;
    random_seed(&m->random, setup->seed);
    m->parties = calloc(2 * setup->config->interface_count, sizeof(*m->parties));
    if (!m->parties || add_parties(m, now) != 0) {
        membership_destroy(m);
        return NULL;
    }
    find_next(m);
    return m;
}

void membership_destroy(struct membership *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->count; i++)
        free(m->parties[i].answers);
    free(m->parties);
    free(m);
}
