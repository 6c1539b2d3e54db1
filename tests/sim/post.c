/* The rings between workers, and those from the store: parcels reach a worker in the order in which
 * one sender has sent them, but not at once, and not in the order of all senders. */
#include <stdlib.h>

#include <rte_mempool.h>

#include "tests/sim/stage.h"

#define SENDERS   (WORKERS_MAX + 1) /* the last one is the store */
#define RING_SIZE 1024

struct letter {
    struct letter *next;
    struct parcel *parcel;
};

struct ring {
    struct letter *first, **last;
    unsigned count;
    uint64_t last_at; /* when the last one is due */
};

struct post {
    struct ring rings[SENDERS][WORKERS_MAX];
};

static unsigned sender(unsigned from)
{
    return from == PARCEL_STORE ? WORKERS_MAX : from;
}

struct rte_mempool *post_pool(void)
{
    static struct rte_mempool *pool;

    if (!pool)
        pool = parcel_pool_create("sim", STAGE_PARCELS);
    return pool;
}

struct post *post_create(void)
{
    struct post *post = calloc(1, sizeof(*post));

    for (unsigned from = 0; from < SENDERS; from++)
        for (unsigned to = 0; to < WORKERS_MAX; to++)
            post->rings[from][to].last = &post->rings[from][to].first;
    return post;
}

static struct parcel *take(struct ring *ring)
{
    struct letter *letter = ring->first;
    struct parcel *parcel = letter->parcel;

    ring->first = letter->next;
    if (!ring->first)
        ring->last = &ring->first;
    ring->count--;
    free(letter);
    return parcel;
}

void post_clear(struct stage *s)
{
    for (unsigned from = 0; s->post && from < SENDERS; from++)
        for (unsigned to = 0; to < WORKERS_MAX; to++) {
            struct ring *ring = &s->post->rings[from][to];

            while (ring->first)
                parcel_free(s->parcels, take(ring));
            ring->last_at = 0;
        }
}

void post_destroy(struct stage *s)
{
    post_clear(s);
    free(s->post);
    s->post = NULL;
}

/* `what`: the life, the sender and the worker. What is due in a life that is over has gone. */
static void arrive(struct stage *s, void *who, uint64_t what)
{
    unsigned from = what >> 8 & 0xff, to = what & 0xff;

    (void)who;
    if (what >> 16 == s->life && s->running)
        worker_told(s->workers[to], take(&s->post->rings[from][to]), stage_clock(s));
}

void stage_hand(struct stage *s, unsigned from, unsigned to, struct parcel *parcel,
                uint32_t delay_us)
{
    struct ring *ring = &s->post->rings[sender(from)][to];
    struct letter *letter = calloc(1, sizeof(*letter));
    uint64_t at = s->now + stage_below(s, delay_us + 1);

    parcel->from = (uint16_t)from;
    letter->parcel = parcel;
    *ring->last = letter;
    ring->last = &letter->next;
    ring->count++;
    ring->last_at = at > ring->last_at ? at : ring->last_at;
    stage_at(s, ring->last_at, arrive, NULL,
             (uint64_t)s->life << 16 | (uint64_t)sender(from) << 8 | to);
}

unsigned post_room(const struct stage *s, unsigned from, unsigned to)
{
    unsigned size = s->ring_size ? s->ring_size : RING_SIZE;
    unsigned count = s->post->rings[sender(from)][to].count;

    return count < size ? size - count : 0;
}

unsigned stage_parcels_out(const struct stage *s)
{
    return rte_mempool_in_use_count(s->parcels);
}
