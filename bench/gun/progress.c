#include "bench/gun/progress.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct snapshot {
    double at_s;
    uint64_t received, answered, lost;
    struct histogram latency_ns;
};

struct progress {
    pthread_t thread;
    sem_t wake;
    atomic_bool full; /* `posted` or `step` is the thread's */
    enum { SECOND, STEP, HANDSHAKES } what;
    bool stop;
    uint64_t done, failed;
    uint32_t of;
    struct gun_step step;
    struct snapshot posted, before;
    struct histogram between;
};

static void show_second(struct progress *p)
{
    const struct snapshot *now = &p->posted, *before = &p->before;
    /* Each step of a ramp counts from zero. */
    bool fresh = now->at_s <= before->at_s || now->answered < before->answered;
    double seconds = now->at_s - (fresh ? 0 : before->at_s);
    uint64_t answered = now->answered - (fresh ? 0 : before->answered);
    uint64_t lost = now->lost - (fresh ? 0 : before->lost);
    static const struct histogram empty;

    histogram_since(&now->latency_ns, fresh ? &empty : &before->latency_ns, &p->between);
    fprintf(stderr, "%6.0f s %12.0f answers/s  loss %6.2f %%  p50 %9.1f us  p99 %9.1f us\n",
            now->at_s, (double)(now->received - (fresh ? 0 : before->received)) / seconds,
            answered + lost ? 100.0 * (double)lost / (double)(answered + lost) : 0,
            (double)histogram_at(&p->between, 0.5) / 1000,
            (double)histogram_at(&p->between, 0.99) / 1000);
    p->before = p->posted;
}

static void show_step(const struct gun_step *step)
{
    fprintf(stderr, "%-4s %12.0f requests/s %12.0f answers/s  loss %6.2f %%  p99 %9.1f us\n",
            step->good ? "good" : "bad", step->offered, step->reached, step->loss * 100,
            (double)step->p99_ns / 1000);
}

static void *show(void *argument)
{
    struct progress *p = argument;

    for (;;) {
        while (sem_wait(&p->wake) != 0)
            ;
        if (!atomic_load_explicit(&p->full, memory_order_acquire))
            continue;
        if (p->stop)
            return NULL;
        if (p->what == STEP)
            show_step(&p->step);
        else if (p->what == HANDSHAKES)
            fprintf(stderr, "%llu of %u handshakes, %llu failed\n", (unsigned long long)p->done,
                    p->of, (unsigned long long)p->failed);
        else
            show_second(p);
        atomic_store_explicit(&p->full, false, memory_order_release);
    }
}

static void hand_over(struct progress *p)
{
    atomic_store_explicit(&p->full, true, memory_order_release);
    sem_post(&p->wake);
}

void progress_post(struct progress *p, const struct gun_result *r, double at_s)
{
    if (atomic_load_explicit(&p->full, memory_order_acquire))
        return;
    p->posted =
        (struct snapshot){at_s, r->received, r->answered, r->timeouts + r->resets, r->latency_ns};
    p->what = SECOND;
    hand_over(p);
}

void progress_handshakes(struct progress *p, const struct gun_security *s, uint32_t of)
{
    if (atomic_load_explicit(&p->full, memory_order_acquire))
        return;
    p->done = s->done;
    p->failed = s->failed;
    p->of = of;
    p->what = HANDSHAKES;
    hand_over(p);
}

void progress_step(struct progress *p, const struct gun_step *step)
{
    struct timespec pause = {0, 1000000};

    /* Between two steps there is time to wait. */
    while (atomic_load_explicit(&p->full, memory_order_acquire))
        nanosleep(&pause, NULL);
    p->step = *step;
    p->what = STEP;
    hand_over(p);
}

struct progress *progress_start(const cpu_set_t *cpus)
{
    struct progress *p = calloc(1, sizeof(*p));
    pthread_attr_t attributes;
    int err;

    if (!p)
        return NULL;
    sem_init(&p->wake, 0, 0);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof(*cpus), cpus);
    err = pthread_create(&p->thread, &attributes, show, p);
    pthread_attr_destroy(&attributes);
    if (!err)
        return p;
    sem_destroy(&p->wake);
    free(p);
    return NULL;
}

void progress_stop(struct progress *p)
{
    struct timespec pause = {0, 1000000};

    if (!p)
        return;
    while (atomic_load_explicit(&p->full, memory_order_acquire))
        nanosleep(&pause, NULL);
    p->stop = true;
    hand_over(p);
    pthread_join(p->thread, NULL);
    sem_destroy(&p->wake);
    free(p);
}
