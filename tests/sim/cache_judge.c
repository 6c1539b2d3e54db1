/* RFC 7252 5.6: an answer belongs to its key, is no older than it may be, and is not fetched when
 * it is at hand or on its way. */
#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/cache.h"

#define ASKS      4096
#define FETCHES   4096
#define ANSWERS   4096
#define SLACK_US  5000          /* two ticks of the timer, and some */
#define FETCH_MAX (40 * SECOND) /* a fetch may be given up after so long */
#define MIDS      65536

/* A request of a device. */
struct ask {
    struct flow flow;
    uint64_t token;
    uint32_t key;
    int target;
    uint32_t floor; /* no older version will do */
    bool safe, answered;
    struct etag etags[ETAGS_MAX];
    unsigned etag_count;
};

/* A request at the server. */
struct fetch {
    struct flow flow;
    uint64_t token, at;
    unsigned worker;
    uint32_t key;
    int target;
    bool safe, done;
    bool apart; /* need not be shared with others */
};

/* What a worker last got of a key. */
struct answer {
    unsigned worker;
    uint32_t key, version;
    uint64_t at, fresh_until;
    uint64_t fetched_at; /* 0: need not be kept */
};

struct cache_judge {
    struct cache_world *world;
    struct ask asks[ASKS];
    struct fetch fetches[FETCHES];
    struct answer answers[ANSWERS]; /* one for each worker, key and version */
    unsigned ask_count, fetch_count, answer_count;
    uint32_t floor[WORKERS_MAX][TARGETS_MAX];
    uint64_t touched_at[WORKERS_MAX][TARGETS_MAX]; /* by an unsafe request, or its answer */
    uint64_t valid_at;                             /* when a 2.03 came last, */
    uint32_t valid_key;                            /* and of which key */
    uint8_t heard[DEVICES_MAX][MIDS / 8];
};

struct cache_judge *cache_judge_create(struct cache_world *w)
{
    struct cache_judge *j = calloc(1, sizeof(*j));

    j->world = w;
    return j;
}

void cache_judge_destroy(struct cache_judge *j)
{
    free(j);
}

static struct stage *stage_of(const struct cache_judge *j)
{
    return &j->world->fleet.stage;
}

static uint64_t token_of(const struct message *m)
{
    return hash_bytes(m->token, m->token_length, 7);
}

/* ---- between the devices and the gateway ---- */

static struct ask *find_ask(struct cache_judge *j, const struct passing *p)
{
    uint64_t token = token_of(p->m);

    for (unsigned i = j->ask_count; i-- > 0;)
        if (j->asks[i].token == token && flow_equal(&j->asks[i].flow, p->flow))
            return &j->asks[i];
    return NULL;
}

static bool is_repeated(struct cache_judge *j, const struct passing *p)
{
    uint8_t *bits = j->heard[(p->flow->peer_port - 40000u) % DEVICES_MAX];
    bool was = bits[p->m->mid / 8] >> p->m->mid % 8 & 1;

    bits[p->m->mid / 8] |= (uint8_t)(1 << p->m->mid % 8);
    return was;
}

static void note_ask(struct cache_judge *j, const struct passing *p)
{
    struct ask *a = find_ask(j, p);
    struct option_cursor c = option_cursor_at(p->m, SLOT_ETAG);
    struct option_view view;

    if (!a && j->ask_count == ASKS) {
        stage_fail(stage_of(j), "too many requests for one run");
        return;
    }
    if (!a)
        a = &j->asks[j->ask_count++];
    *a = (struct ask){.flow = *p->flow, .token = token_of(p->m), .key = cache_key(p->m)};
    a->safe = code_is_safe(p->m->code);
    a->target = cache_target(j->world, p->m);
    a->floor = j->floor[p->worker][a->target];
    while (option_next_same(&c, &view) && a->etag_count < ETAGS_MAX) {
        a->etags[a->etag_count].length = (uint8_t)view.length;
        memcpy(a->etags[a->etag_count++].value, view.value, view.length);
    }
}

static struct answer *find_answer(struct cache_judge *j, unsigned worker, uint32_t key,
                                  uint32_t version)
{
    for (unsigned i = 0; i < j->answer_count; i++) {
        struct answer *a = &j->answers[i];

        if (a->worker == worker && a->key == key && a->version == version)
            return a;
    }
    return NULL;
}

static void check_age(struct cache_judge *j, const struct answer *a, const struct message *m)
{
    uint64_t now = stage_of(j)->now;
    uint64_t says = message_uint(m, SLOT_MAX_AGE, 60) * SECOND;

    if (now > a->fresh_until + SLACK_US && now > a->at + SLACK_US)
        stage_fail(stage_of(j), "an answer of %.3f s ago, which was fresh for %.3f s",
                   (double)(now - a->at) / 1e6, (double)(a->fresh_until - a->at) / 1e6);
    if (now + says > a->fresh_until + SECOND + SLACK_US)
        stage_fail(stage_of(j), "Max-Age says %u s, and %.3f s are left", (unsigned)(says / SECOND),
                   ((double)a->fresh_until - (double)now) / 1e6);
}

static void check_valid(struct cache_judge *j, const struct ask *a, const struct message *m,
                        uint32_t *key, uint32_t *version)
{
    bool sent = false;

    for (unsigned i = 0; i < a->etag_count; i++)
        sent |= message_is_etag(m, &a->etags[i]);
    if (!sent || m->first[SLOT_ETAG].length != 8) {
        stage_fail(stage_of(j), "2.03 for an ETag that was not sent");
        return;
    }
    memcpy(key, m->first[SLOT_ETAG].value, 4);
    memcpy(version, m->first[SLOT_ETAG].value + 4, 4);
}

static void check_answer(struct cache_judge *j, const struct passing *p)
{
    struct ask *a = find_ask(j, p);
    const struct answer *from;
    uint32_t key = 0, version = 0;

    if (!a || a->answered || !code_is_response(p->m->code))
        return;
    a->answered = p->m->code != CODE_UNAUTHORIZED;
    if (!a->safe || code_class(p->m->code) != 2)
        return;
    if (p->m->code == CODE_VALID)
        check_valid(j, a, p->m, &key, &version);
    else if (p->m->payload_length >= BODY_LINE)
        memcpy(&key, p->m->payload, 4), memcpy(&version, p->m->payload + 4, 4);
    from = find_answer(j, p->worker, key, version);
    if (key != a->key)
        stage_fail(stage_of(j), "an answer of another key");
    else if (!from)
        stage_fail(stage_of(j), "an answer that no server gave to worker %u", p->worker);
    else if (version < a->floor)
        stage_fail(stage_of(j), "version %u is served after %u was made through the gateway",
                   version, a->floor);
    else
        check_age(j, from, p->m);
}

/* ---- between the gateway and the server ---- */

static struct fetch *find_fetch(struct cache_judge *j, const struct passing *p)
{
    uint64_t token = token_of(p->m);

    for (unsigned i = j->fetch_count; i-- > 0;)
        if (j->fetches[i].token == token && flow_equal(&j->fetches[i].flow, p->flow))
            return &j->fetches[i];
    return NULL;
}

/* An option that is not in the key, and that the gateway does not know, makes an answer that it
 * need not share, though it may be answered with what is there. */
static bool is_unkeyed(const struct message *m)
{
    struct option_cursor c = option_cursor(m);
    struct option_view view;

    while (option_next(&c, &view))
        if (c.number == OPTION_UNKEYED)
            return true;
    return false;
}

/* Another request for the same is on its way, and nothing has been changed since it began. */
static void check_joined(struct cache_judge *j, const struct fetch *f)
{
    uint64_t now = stage_of(j)->now;

    for (unsigned i = 0; i < j->fetch_count; i++) {
        const struct fetch *other = &j->fetches[i];

        if (other != f && !other->apart && other->worker == f->worker && other->key == f->key &&
            !other->done && now - other->at < FETCH_MAX &&
            j->touched_at[f->worker][f->target] < other->at)
            stage_fail(stage_of(j), "a request is on its way already, since %.6f s ago",
                       (double)(now - other->at) / 1e6);
    }
}

static void check_needed(struct cache_judge *j, const struct fetch *f)
{
    if (!stage_of(j)->config->cache.bytes)
        return;
    for (unsigned i = 0; i < j->answer_count; i++) {
        const struct answer *a = &j->answers[i];

        if (a->worker == f->worker && a->key == f->key &&
            j->touched_at[f->worker][f->target] < a->fetched_at &&
            f->at + SLACK_US < a->fresh_until)
            stage_fail(stage_of(j), "a request although there is an answer for another %.3f s",
                       (double)(a->fresh_until - f->at) / 1e6);
    }
}

static void note_fetch(struct cache_judge *j, const struct passing *p)
{
    struct fetch *f = &j->fetches[j->fetch_count];
    bool again;

    if (find_fetch(j, p))
        return; /* repeated */
    if (++j->fetch_count == FETCHES) {
        stage_fail(stage_of(j), "too many requests for one run");
        return;
    }
    *f = (struct fetch){.flow = *p->flow, .token = token_of(p->m), .at = stage_of(j)->now};
    f->worker = p->worker;
    f->key = cache_key(p->m);
    f->target = cache_target(j->world, p->m);
    f->safe = code_is_safe(p->m->code);
    stage_note(stage_of(j), "worker %u asks for %08x", f->worker, f->key);
    if (f->target < 0) {
        f->done = true;
        stage_fail(stage_of(j), "a request for nothing that there is");
        return;
    }
    /* So is what it asks for anew, when the entry that it wanted to validate is gone by now. */
    again = j->valid_key == f->key && j->valid_at == f->at;
    f->apart = again || is_unkeyed(p->m);
    if (!f->safe)
        j->touched_at[f->worker][f->target] = f->at;
    else if (!again)
        check_needed(j, f);
    if (f->safe && !f->apart)
        check_joined(j, f);
}

static void note_answer(struct cache_judge *j, const struct fetch *f, uint32_t version,
                        const struct message *m)
{
    struct answer *a = find_answer(j, f->worker, f->key, version);
    uint64_t now = stage_of(j)->now;

    if (!a && j->answer_count == ANSWERS) {
        stage_fail(stage_of(j), "too many answers for one run");
        return;
    }
    if (!a)
        a = &j->answers[j->answer_count++];
    stage_note(stage_of(j), "worker %u has version %u of %08x, fresh for %u s", f->worker, version,
               f->key, message_uint(m, SLOT_MAX_AGE, 60));
    *a = (struct answer){.worker = f->worker, .key = f->key, .version = version, .at = now};
    a->fetched_at = f->apart ? 0 : f->at;
    a->fresh_until = now + message_uint(m, SLOT_MAX_AGE, 60) * SECOND;
}

/* By now the other workers know that there is a new version. */
static void on_told(struct stage *s, void *who, uint64_t what)
{
    struct cache_judge *j = ((struct cache_world *)s)->judge;
    unsigned target = (unsigned)(what >> 32);

    (void)who;
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        if ((uint32_t)what > j->floor[i][target])
            j->floor[i][target] = (uint32_t)what;
}

static void take_answer(struct cache_judge *j, const struct passing *p)
{
    struct fetch *f = find_fetch(j, p);
    uint32_t version = 0;

    if (!f || f->done)
        return;
    f->done = true;
    if (code_class(p->m->code) != 2)
        return;
    if (p->m->code == CODE_VALID) {
        memcpy(&version, p->m->first[SLOT_ETAG].value + 4, 4);
        j->valid_key = f->key;
        j->valid_at = stage_of(j)->now;
    } else {
        memcpy(&version, p->m->payload + 4, 4);
    }
    if (f->safe) {
        note_answer(j, f, version, p->m);
        return;
    }
    if (version > j->floor[f->worker][f->target])
        j->floor[f->worker][f->target] = version;
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        j->touched_at[i][f->target] = stage_of(j)->now + (i == f->worker ? 0 : STAGE_TELL_US);
    stage_at(stage_of(j), stage_of(j)->now + STAGE_TELL_US, on_told, NULL,
             (uint64_t)f->target << 32 | version);
}

static void emitted(struct fleet *f, const struct passing *p)
{
    struct cache_judge *j = ((struct cache_world *)f)->judge;

    if (!p->upstream)
        check_answer(j, p);
    else if (code_is_request(p->m->code))
        note_fetch(j, p);
}

static void delivered(struct fleet *f, const struct passing *p)
{
    struct cache_judge *j = ((struct cache_world *)f)->judge;

    if (p->upstream && p->m && code_is_response(p->m->code))
        take_answer(j, p);
    else if (!p->upstream && code_is_request(p->m->code) && !is_repeated(j, p))
        note_ask(j, p);
}

const struct judge cache_judging = {emitted, delivered};
