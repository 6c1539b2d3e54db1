#include "gateway/store/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "gateway/store/store_parts.h"

/* After work has come in, the thread looks at the rings so often for some time, before it sleeps in
 * earnest and has to be woken: under load no worker rings the bell. */
#define NAP_US     200
#define NAPPING_MS 10

/* What is on the way gets so long at the end. */
#define FLUSH_MS 1000

#define SLEEP_LONGEST_MS 1000

uint64_t store_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void ring_bell(const struct store *s)
{
    const uint64_t one = 1;

    /* It can only fail when the bell has been rung 2^64 - 2 times and not been heard. */
    (void)!write(s->bell, &one, sizeof(one));
}

/* ---- the worker's side ---- */

bool store_tell(struct store *s, unsigned worker, struct parcel *parcel)
{
    bool sleeps;

    if (!s->enabled || !channel_tell(&s->channels[worker], parcel, &sleeps))
        return false;
    if (sleeps)
        ring_bell(s);
    return true;
}

struct parcel *store_take(struct store *s, unsigned worker)
{
    return s->enabled ? channel_take(&s->channels[worker]) : NULL;
}

/* ---- sleeping ---- */

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t sleep_us(const struct store *s)
{
    uint64_t due = earliest(earliest(redis_due_ms(&s->redis), service_due_ms(s)),
                            earliest(writes_due_ms(s), reading_due_ms(s)));

    due = earliest(due, keys_due_ms(s));
    if (due <= s->now_ms)
        return 0;
    return earliest(due - s->now_ms, SLEEP_LONGEST_MS) * 1000;
}

static void say_asleep(struct store *s, bool asleep)
{
    for (unsigned i = 0; i < s->workers; i++)
        (void)atomic_exchange(&s->channels[i].asleep, asleep);
}

static void wait_for_work(struct store *s, bool worked, bool told_all)
{
    uint64_t us = worked ? 0 : sleep_us(s);
    uint64_t rung;
    bool asleep;

    if (!told_all)
        us = earliest(us, 1000);
    if (s->now_ms < s->nap_until_ms)
        us = earliest(us, NAP_US);
    asleep = us > NAP_US;
    if (asleep) {
        say_asleep(s, true);
        if (writes_are_there(s)) /* told before it was said */
            us = 0;
    }
    if (redis_wait(&s->redis, s->bell, us))
        (void)!read(s->bell, &rung, sizeof(rung));
    if (asleep)
        say_asleep(s, false);
}

/* ---- the loop ---- */

/* At the end: all is written, or there is nobody to write it to. */
static bool is_finished(struct store *s)
{
    if (!atomic_load(&s->stop))
        return false;
    if (s->end_ms == 0)
        s->end_ms = s->now_ms + FLUSH_MS;
    return s->now_ms >= s->end_ms || !s->service.up ||
           (!writes_are_flying(s) && !writes_are_there(s));
}

static void *run(void *argument)
{
    struct store *s = argument;

    pthread_setname_np(pthread_self(), "store");
    for (;;) {
        bool worked, told_all;

        s->now_ms = store_clock_ms();
        redis_advance(&s->redis, s->now_ms);
        service_advance(s);
        writes_advance(s);
        keys_advance(s);
        reading_advance(s);
        told_all = service_tell(s); /* what has come out of all before */
        worked = writes_take(s);
        if (worked)
            s->nap_until_ms = s->now_ms + NAPPING_MS;
        if (is_finished(s))
            break;
        wait_for_work(s, worked, told_all);
    }
    return NULL;
}

/* ---- start and end ---- */

static int make_channels(struct store *s)
{
    const size_t bytes = s->workers * sizeof(*s->channels);
    int err = 0;

    s->channels = aligned_alloc(64, bytes);
    if (!s->channels)
        return -ENOMEM;
    memset(s->channels, 0, bytes);
    for (unsigned i = 0; i < s->workers && !err; i++)
        err = channel_init(&s->channels[i]);
    return err;
}

static int make_parts(struct store *s)
{
    int err = make_channels(s);

    if (!err)
        err = service_init(s);
    if (!err)
        err = writes_init(s);
    if (!err)
        err = keys_init(s);
    reading_init(s);
    s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!err && s->bell < 0)
        err = -errno;
    return err;
}

struct store *store_create(const struct config *config)
{
    struct store *s = calloc(1, sizeof(*s));
    int err;

    if (!s)
        return NULL;
    s->config = config;
    s->workers = config->workers;
    s->enabled = config->store.kind != CONFIG_STORE_NONE;
    s->bell = -1;
    pthread_mutex_init(&s->error_lock, NULL);
    atomic_store(&s->owner, true);
    err = s->enabled ? make_parts(s) : 0;
    if (err) {
        store_destroy(s);
        errno = -err;
        return NULL;
    }
    return s;
}

int store_start(struct store *s, const struct store_setup *setup)
{
    const struct redis_setup redis = {&s->config->store, s, service_ready, service_lost};
    int err;

    if (!s->enabled) {
        fputs("coapgw: store: none: observe relations and what is held here do not survive a "
              "restart\n",
              stderr);
        return 0;
    }
    s->setup = *setup;
    s->now_ms = store_clock_ms();
    redis_init(&s->redis, &redis, s->now_ms);
    store_set_error(s, s->redis.error);
    err = pthread_create(&s->thread, NULL, run, s);
    s->running = err == 0;
    return -err;
}

static void stop_thread(struct store *s)
{
    if (!s->running)
        return;
    atomic_store(&s->stop, true);
    ring_bell(s);
    pthread_join(s->thread, NULL);
    redis_fini(&s->redis);
    reading_stop(s);
    s->running = false;
}

void store_destroy(struct store *s)
{
    if (!s)
        return;
    stop_thread(s);
    if (s->enabled) {
        for (unsigned i = 0; s->channels && i < s->workers; i++)
            channel_fini(&s->channels[i], s->setup.parcels);
        writes_fini(s);
        keys_fini(s);
        service_fini(s);
        seen_clear(&s->seen);
        free(s->channels);
        if (s->bell >= 0)
            close(s->bell);
    }
    pthread_mutex_destroy(&s->error_lock);
    free(s);
}

/* ---- status ---- */

void store_set_error(struct store *s, const char *text)
{
    pthread_mutex_lock(&s->error_lock);
    snprintf(s->error, sizeof(s->error), "%s", text);
    pthread_mutex_unlock(&s->error_lock);
}

void store_status(const struct store *s, struct store_status *status)
{
    /* The lock is no part of what is seen from outside. */
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&s->error_lock;
    const struct counts *c = &s->counts;

    *status = (struct store_status){
        .enabled = s->enabled,
        .connected = atomic_load(&s->connected),
        .owner = atomic_load(&s->owner),
        .resumed = atomic_load(&s->resumed),
        .puts = atomic_load(&c->puts),
        .deletes = atomic_load(&c->deletes),
        .confirmed = atomic_load(&c->confirmed),
        .failed = atomic_load(&c->failed),
        .timeouts = atomic_load(&c->timeouts),
        .read = atomic_load(&c->read),
        .rejected = atomic_load(&c->rejected),
        .foreign = atomic_load(&c->foreign),
        .connects = atomic_load(&c->connects),
        .keys_found = atomic_load(&c->keys_found),
        .keys_unknown = atomic_load(&c->keys_unknown),
        .keys_bad = atomic_load(&c->keys_bad),
        .keys_failed = atomic_load(&c->keys_failed),
        .under_way = atomic_load(&s->redis.under_way),
    };
    pthread_mutex_lock(lock);
    memcpy(status->error, s->error, sizeof(status->error));
    pthread_mutex_unlock(lock);
}

void store_print(const struct store *s, FILE *out)
{
    struct store_status status;

    store_status(s, &status);
    if (!status.enabled) {
        fputs("store: none\n", out);
        return;
    }
    fprintf(out, "store: %s%s%s%s%s\n", status.connected ? "connected" : "not connected",
            status.owner ? "" : ", taken over", status.resumed ? ", resumed" : "",
            status.error[0] ? ": " : "", status.error);
    fprintf(out,
            "store: %" PRIu64 " puts, %" PRIu64 " deletes; %" PRIu64 " confirmed, %" PRIu64
            " failed, %" PRIu64 " timeouts; %u under way\n",
            status.puts, status.deletes, status.confirmed, status.failed, status.timeouts,
            status.under_way);
    fprintf(out,
            "store: %" PRIu64 " read back, %" PRIu64 " rejected, %" PRIu64 " foreign; %" PRIu64
            " connects\n",
            status.read, status.rejected, status.foreign, status.connects);
    fprintf(out,
            "store: %" PRIu64 " keys found, %" PRIu64 " unknown, %" PRIu64 " bad, %" PRIu64
            " failed\n",
            status.keys_found, status.keys_unknown, status.keys_bad, status.keys_failed);
}
