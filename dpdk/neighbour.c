#include "dpdk/neighbour.h"

#include <stdlib.h>

#include "dpdk/stack.h"
#include "gateway/hash.h"
#include "gateway/list.h"

#define SECOND_US     1000000ull
#define ASK_TRIES     3
#define ASK_GAP_US    SECOND_US
#define CONFIRM_US    (60 * SECOND_US)
#define NEGATIVE_US   (3 * SECOND_US)
#define HEADS         (NEIGHBOUR_ENTRIES * 2)
#define VICTIM_PROBES 16

/* Most packets go to few neighbours, routers above all: those are found without a hash. */
#define RECENT 64

enum state {
    FREE,
    ASKING, /* nothing known yet: packets wait */
    KNOWN,
    PROBING, /* known, being asked again */
    SILENT,  /* did not answer: packets are dropped until it is forgotten */
};

struct entry {
    struct address address;
    struct rte_ether_addr mac;
    uint16_t interface;
    uint8_t state;
    uint8_t tries;
    uint16_t waiting;
    uint32_t chain; /* next entry with the same hash: index + 1 */
    struct rte_mbuf *first, *last;
    uint64_t confirmed_us, used_us;
    uint64_t due_us;     /* ASKING, PROBING: next try; SILENT: forgotten */
    struct links by_due; /* in `asked` or `silent` */
};

struct neighbours {
    struct neighbours_setup setup;
    struct pool entries;
    struct list asked;  /* ASKING and PROBING: one gap for all, so in the order of due_us */
    struct list silent; /* SILENT: the same */
    uint32_t waiting;   /* up to NEIGHBOUR_WAITING of each entry */
    uint32_t beyond;    /* those that entries have on top of that */
    uint32_t hand;      /* of the clock that looks for an entry to evict */
    uint64_t seed;
    struct entry *recent[RECENT]; /* by the last byte of the address: what was found last */
    uint32_t heads[HEADS];        /* index + 1 */
};

#define BY_DUE offsetof(struct entry, by_due)

struct neighbours *neighbours_create(const struct neighbours_setup *setup)
{
    struct neighbours *n = calloc(1, sizeof(*n));

    if (!n)
        return NULL;
    if (pool_init(&n->entries, sizeof(struct entry), NEIGHBOUR_ENTRIES) != 0) {
        free(n);
        return NULL;
    }
    n->setup = *setup;
    n->asked = n->silent = LIST_NONE;
    n->seed = (uint64_t)(uintptr_t)n; /* not guessable from outside */
    return n;
}

static struct entry *entry_at(const struct neighbours *n, uint32_t index)
{
    return pool_at(&n->entries, index);
}

static uint32_t *head_of(struct neighbours *n, uint16_t interface, const struct address *address)
{
    return &n->heads[hash_bytes(address->bytes, sizeof(address->bytes), n->seed + interface) %
                     HEADS];
}

static struct entry **recent_of(struct neighbours *n, const struct address *address)
{
    return &n->recent[address->bytes[15] % RECENT];
}

static bool is_of(const struct entry *e, uint16_t interface, const struct address *address)
{
    return address_equal(&e->address, address) && e->interface == interface;
}

static struct entry *find(struct neighbours *n, uint16_t interface, const struct address *address)
{
    struct entry **recent = recent_of(n, address);
    uint32_t at;

    if (*recent && is_of(*recent, interface, address))
        return *recent;
    at = *head_of(n, interface, address);
    while (at) {
        struct entry *e = entry_at(n, at - 1);

        if (is_of(e, interface, address)) {
            *recent = e;
            return e;
        }
        at = e->chain;
    }
    return NULL;
}

/* The list of entries in a state that ends by itself, NULL for the others. */
static struct list *list_of(struct neighbours *n, enum state state)
{
    if (state == SILENT)
        return &n->silent;
    return state == ASKING || state == PROBING ? &n->asked : NULL;
}

static void set_state(struct neighbours *n, struct entry *e, enum state state, uint64_t due_us)
{
    uint32_t index = pool_index(&n->entries, e);
    struct list *from = list_of(n, e->state), *to = list_of(n, state);

    if (from)
        list_remove(from, &n->entries, BY_DUE, index);
    e->state = (uint8_t)state;
    e->due_us = due_us;
    if (to)
        list_push_back(to, &n->entries, BY_DUE, index);
}

/* ---- waiting packets ---- */

static struct stack_mark *mark_of(struct rte_mbuf *mbuf)
{
    return rte_mbuf_to_priv(mbuf);
}

static struct rte_mbuf *pop(struct neighbours *n, struct entry *e)
{
    struct rte_mbuf *mbuf = e->first;

    e->first = mark_of(mbuf)->next;
    if (!e->first)
        e->last = NULL;
    --*(e->waiting-- > NEIGHBOUR_WAITING ? &n->beyond : &n->waiting);
    return mbuf;
}

static void drop_waiting(struct neighbours *n, struct entry *e, uint64_t *counter)
{
    while (e->first) {
        rte_pktmbuf_free(pop(n, e));
        (*counter)++;
    }
}

static void wait_in(struct neighbours *n, struct entry *e, struct rte_mbuf *mbuf)
{
    struct counters *c = n->setup.counters;

    if (e->waiting >= NEIGHBOUR_WAITING && n->beyond == NEIGHBOUR_BEYOND) {
        rte_pktmbuf_free(pop(n, e)); /* the newest say best what is needed now */
        c->drop_neighbour_queue++;
    }
    if (e->waiting < NEIGHBOUR_WAITING && n->waiting == NEIGHBOUR_WAITING_TOTAL) {
        rte_pktmbuf_free(mbuf);
        c->drop_neighbour_queue++;
        return;
    }
    mark_of(mbuf)->next = NULL;
    if (e->last)
        mark_of(e->last)->next = mbuf;
    else
        e->first = mbuf;
    e->last = mbuf;
    ++*(e->waiting++ < NEIGHBOUR_WAITING ? &n->waiting : &n->beyond);
}

/* ---- entries ---- */

static void forget(struct neighbours *n, struct entry *e)
{
    uint32_t *link = head_of(n, e->interface, &e->address);
    struct entry **recent = recent_of(n, &e->address);
    uint32_t index = pool_index(&n->entries, e);

    if (*recent == e)
        *recent = NULL;
    set_state(n, e, FREE, 0);
    while (*link != index + 1)
        link = &entry_at(n, *link - 1)->chain;
    *link = e->chain;
    drop_waiting(n, e, &n->setup.counters->drop_neighbour_silent);
    pool_put(&n->entries, e);
}

/* Among the next few under the hand: one that did not answer, else the one unused for longest. An
 * entry that is being asked for stays, so that a scan does not push out what is needed. */
static void evict(struct neighbours *n)
{
    struct entry *victim = NULL;

    for (unsigned i = 0; i < VICTIM_PROBES; i++) {
        struct entry *e = entry_at(n, n->hand);

        n->hand = (n->hand + 1) % NEIGHBOUR_ENTRIES;
        if (e->state == SILENT) {
            victim = e;
            break;
        }
        if (!victim || e->used_us < victim->used_us)
            victim = e;
    }
    forget(n, victim);
}

static struct entry *add(struct neighbours *n, uint16_t interface, const struct address *address,
                         uint64_t now)
{
    struct entry *e = pool_get(&n->entries);
    uint32_t *head;

    if (!e) {
        evict(n);
        e = pool_get(&n->entries);
    }
    memset(e, 0, sizeof(*e));
    e->address = *address;
    e->interface = interface;
    e->used_us = now;
    head = head_of(n, interface, address);
    e->chain = *head;
    *head = pool_index(&n->entries, e) + 1;
    return e;
}

static void ask(struct neighbours *n, struct entry *e, enum state state, uint64_t now)
{
    e->tries++;
    set_state(n, e, state, now + ASK_GAP_US);
    n->setup.ask(n->setup.context, e->interface, &e->address, state == PROBING ? &e->mac : NULL);
}

static void send_to(struct neighbours *n, const struct entry *e, struct rte_mbuf *mbuf)
{
    struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);

    ether->dst_addr = e->mac;
    n->setup.transmit(n->setup.context, e->interface, mbuf);
}

void neighbour_send(struct neighbours *n, uint16_t interface, const struct address *address,
                    struct rte_mbuf *mbuf, uint64_t now)
{
    struct entry *e = find(n, interface, address);

    if (!e) {
        e = add(n, interface, address, now);
        ask(n, e, ASKING, now);
    }
    e->used_us = now;
    switch ((enum state)e->state) {
    case KNOWN:
        if (now - e->confirmed_us > CONFIRM_US) {
            e->tries = 0;
            ask(n, e, PROBING, now);
        }
        send_to(n, e, mbuf);
        return;
    case PROBING:
        send_to(n, e, mbuf);
        return;
    case ASKING:
        wait_in(n, e, mbuf);
        return;
    case SILENT:
    case FREE:
        n->setup.counters->drop_neighbour_silent++;
        rte_pktmbuf_free(mbuf);
        return;
    }
}

bool neighbour_learn(struct neighbours *n, uint16_t interface, const struct address *address,
                     const struct rte_ether_addr *mac, bool create, uint64_t now)
{
    struct entry *e = find(n, interface, address);
    bool news;

    if (!rte_is_valid_assigned_ether_addr(mac))
        return false;
    if (!e) {
        if (!create)
            return false;
        e = add(n, interface, address, now);
    }
    news = (e->state != KNOWN && e->state != PROBING) || !rte_is_same_ether_addr(&e->mac, mac) ||
           now - e->confirmed_us > SECOND_US;
    e->mac = *mac;
    e->confirmed_us = now;
    e->tries = 0;
    set_state(n, e, KNOWN, 0);
    while (e->first)
        send_to(n, e, pop(n, e));
    return news;
}

/* ---- time ---- */

static void on_due(struct neighbours *n, struct entry *e, uint64_t now)
{
    if (e->state == SILENT) {
        forget(n, e);
    } else if (e->tries < ASK_TRIES) {
        ask(n, e, e->state, now);
    } else if (e->state == PROBING) {
        /* It may have a new MAC address: ask everyone. */
        e->tries = 0;
        ask(n, e, ASKING, now);
    } else {
        drop_waiting(n, e, &n->setup.counters->drop_neighbour_silent);
        set_state(n, e, SILENT, now + NEGATIVE_US);
    }
}

static uint64_t head_due_us(const struct neighbours *n, const struct list *list)
{
    return list->head == POOL_NONE ? UINT64_MAX : entry_at(n, list->head)->due_us;
}

void neighbours_advance(struct neighbours *n, uint64_t now)
{
    while (head_due_us(n, &n->asked) <= now)
        on_due(n, entry_at(n, n->asked.head), now);
    while (head_due_us(n, &n->silent) <= now)
        on_due(n, entry_at(n, n->silent.head), now);
}

uint64_t neighbours_next_us(const struct neighbours *n)
{
    uint64_t asked = head_due_us(n, &n->asked), silent = head_due_us(n, &n->silent);

    return asked < silent ? asked : silent;
}

void neighbours_destroy(struct neighbours *n)
{
    if (!n)
        return;
    for (unsigned head = 0; head < HEADS; head++)
        while (n->heads[head])
            forget(n, entry_at(n, n->heads[head] - 1));
    pool_fini(&n->entries);
    free(n);
}
