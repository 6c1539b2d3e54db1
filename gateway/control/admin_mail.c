#include "gateway/control/admin_mail.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <rte_ring.h>

#define RING_PARCELS 64

/* A worker that has something to do answers at once; one that sleeps, when it wakes. */
#define STEP_FIRST_US   20
#define STEP_LONGEST_US 500

/* Plain memory, not the EAL's: it is made before that. */
static struct rte_ring *make_ring(const char *name)
{
    ssize_t bytes = rte_ring_get_memsize(RING_PARCELS);
    struct rte_ring *ring = NULL;

    if (bytes > 0)
        ring = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN((size_t)bytes, RTE_CACHE_LINE_SIZE));
    if (ring && rte_ring_init(ring, name, RING_PARCELS, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
        free(ring);
        ring = NULL;
    }
    return ring;
}

int mail_init(struct mail *m, unsigned workers)
{
    memset(m, 0, sizeof(*m));
    m->workers = workers;
    for (unsigned i = 0; i < workers; i++) {
        m->to[i] = make_ring("asked");
        m->from[i] = make_ring("told");
        if (!m->to[i] || !m->from[i]) {
            mail_fini(m);
            return -ENOMEM;
        }
    }
    return 0;
}

void mail_fini(struct mail *m)
{
    for (unsigned i = 0; i < m->workers; i++) {
        free(m->to[i]);
        free(m->from[i]);
        m->to[i] = m->from[i] = NULL;
    }
}

uint64_t mail_now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t mail_post(struct mail *m, unsigned worker, enum inspect_type type,
                   struct inspect_question *q, const void *more, size_t bytes)
{
    struct parcel *parcel =
        parcel_new(m->parcels, PARCEL_INSPECT, (uint16_t)type, (uint32_t)(sizeof(*q) + bytes));

    if (!parcel)
        return 0;
    q->serial = ++m->serial;
    parcel->from = PARCEL_CONTROL;
    parcel_write(parcel, 0, q, sizeof(*q));
    parcel_write(parcel, sizeof(*q), more, bytes);
    if (rte_ring_sp_enqueue(m->to[worker], parcel) != 0) {
        parcel_free(m->parcels, parcel);
        return 0;
    }
    return q->serial;
}

/* True when it is the answer that is waited for. */
static bool is_answer(const struct parcel *parcel, uint64_t serial)
{
    struct inspect_head head;

    return parcel_read(parcel, 0, &head, sizeof(head)) && head.serial == serial;
}

/* False at the deadline. Waits a little, and each time longer; `*step_us` is 0 at first. */
static bool wait_a_step(const struct mail *m, uint64_t deadline_us, long *step_us)
{
    struct timespec step;

    if (mail_now_us() >= deadline_us || atomic_load(&m->closing))
        return false;
    *step_us = *step_us == 0                    ? STEP_FIRST_US
               : *step_us * 2 > STEP_LONGEST_US ? STEP_LONGEST_US
                                                : *step_us * 2;
    step = (struct timespec){.tv_nsec = *step_us * 1000};
    nanosleep(&step, NULL);
    return true;
}

struct parcel *mail_await(struct mail *m, unsigned worker, uint64_t serial, uint64_t deadline_us)
{
    long step_us = 0;
    void *parcel;

    if (!serial)
        return NULL;
    do {
        while (rte_ring_sc_dequeue(m->from[worker], &parcel) == 0) {
            if (is_answer(parcel, serial))
                return parcel;
            parcel_free(m->parcels, parcel);
        }
    } while (wait_a_step(m, deadline_us, &step_us));
    return NULL;
}

int mail_ask(struct mail *m, unsigned worker, enum inspect_type type, struct inspect_question *q,
             const void *more, size_t bytes, uint64_t deadline_us, struct inspect_head *head,
             struct parcel **answer)
{
    long step_us = 0;
    uint64_t serial;

    do
        serial = mail_post(m, worker, type, q, more, bytes);
    while (!serial && wait_a_step(m, deadline_us, &step_us));
    *answer = mail_await(m, worker, serial, deadline_us);
    if (!*answer)
        return -ETIMEDOUT;
    parcel_read(*answer, 0, head, sizeof(*head));
    if (head->error) {
        mail_free(m, *answer);
        *answer = NULL;
    }
    return head->error;
}

void mail_free(struct mail *m, struct parcel *parcel)
{
    parcel_free(m->parcels, parcel);
}

bool mail_tell(void *context, unsigned worker, struct parcel *parcel)
{
    struct mail *m = context;

    return rte_ring_sp_enqueue(m->from[worker], parcel) == 0;
}

struct parcel *mail_take(void *context, unsigned worker)
{
    struct mail *m = context;
    void *parcel;

    return rte_ring_sc_dequeue(m->to[worker], &parcel) == 0 ? parcel : NULL;
}
