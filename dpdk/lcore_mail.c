/* What reaches a worker beside packets: news of changed resources, parcels, resolved names. */
#include "dpdk/lcore_parts.h"

/* Parcels of one source that are looked at in one turn: some of them send. */
#define MAIL_PER_TURN 64

/* ---- changed resources ---- */

void lcore_changed(void *context, uint64_t uri)
{
    struct lcore *l = context;

    for (unsigned to = 0; to < l->workers; to++) {
        if (to == l->index)
            continue;
        if (rte_ring_enqueue(l->shared->news[l->index][to], (void *)(uintptr_t)uri) != 0)
            atomic_store(&l->shared->news_lost[to], true);
        lcore_wake(l->shared, to);
    }
}

unsigned lcore_poll_news(struct lcore *l)
{
    void *got[WORKER_BURST];
    uint64_t uris[WORKER_BURST];
    unsigned total = 0;

    if (l->workers == 1)
        return 0;
    for (unsigned from = 0; from < l->workers; from++) {
        unsigned n;

        if (from == l->index)
            continue;
        n = rte_ring_dequeue_burst(l->shared->news[from][l->index], got, WORKER_BURST, NULL);
        if (n == 0)
            continue;
        for (unsigned i = 0; i < n; i++)
            uris[i] = (uintptr_t)got[i];
        worker_changed(l->worker, uris, n, l->now);
        total += n;
    }
    if (atomic_load_explicit(&l->shared->news_lost[l->index], memory_order_relaxed) &&
        atomic_exchange(&l->shared->news_lost[l->index], false))
        worker_forget(l->worker, l->now);
    return total;
}

/* ---- parcels ---- */

static bool tell_office(const struct lcore_office *office, unsigned worker, struct parcel *parcel)
{
    return office->tell && office->tell(office->context, worker, parcel);
}

bool lcore_tell(void *context, unsigned to, struct parcel *parcel)
{
    struct lcore *l = context;

    parcel->from = (uint16_t)l->index;
    if (to == PARCEL_STORE)
        return tell_office(&l->shared->store, l->index, parcel);
    if (to == PARCEL_CONTROL)
        return tell_office(&l->shared->control, l->index, parcel);
    if (to >= l->workers || to == l->index ||
        rte_ring_enqueue(l->shared->mail[l->index][to], parcel) != 0)
        return false;
    lcore_wake(l->shared, to);
    return true;
}

unsigned lcore_room(void *context, unsigned to)
{
    const struct lcore *l = context;

    return to < l->workers && to != l->index ? rte_ring_free_count(l->shared->mail[l->index][to])
                                             : 0;
}

static unsigned poll_office(struct lcore *l, const struct lcore_office *office)
{
    struct parcel *parcel;
    unsigned n = 0;

    while (office->take && n < MAIL_PER_TURN &&
           (parcel = office->take(office->context, l->index)) != NULL) {
        worker_told(l->worker, parcel, l->now);
        n++;
    }
    return n;
}

unsigned lcore_poll_mail(struct lcore *l)
{
    void *got[MAIL_PER_TURN];
    unsigned total = poll_office(l, &l->shared->store) + poll_office(l, &l->shared->control);

    for (unsigned from = 0; from < l->workers; from++) {
        unsigned n;

        if (from == l->index)
            continue;
        n = rte_ring_dequeue_burst(l->shared->mail[from][l->index], got, MAIL_PER_TURN, NULL);
        for (unsigned i = 0; i < n; i++)
            worker_told(l->worker, got[i], l->now);
        total += n;
    }
    return total;
}

/* ---- names ---- */

bool lcore_resolve(void *context, const char *name, size_t length, uint32_t id)
{
    const struct lcore *l = context;
    const struct lcore_resolver *r = &l->shared->resolver;

    return r->ask(r->resolver, l->index, name, length, id);
}

unsigned lcore_poll_resolver(struct lcore *l)
{
    const struct lcore_resolver *r = &l->shared->resolver;
    struct resolved answer;
    unsigned n = 0;

    while (r->take && n < WORKER_BURST && r->take(r->resolver, l->index, &answer)) {
        worker_resolved(l->worker, &answer, l->now);
        n++;
    }
    return n;
}
