#include "tests/sim/dtls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/rand.h>

#define CALM_US     (300 * SECOND)
#define END_US      (1500 * SECOND)
#define DISASTER_US (40 * SECOND)
#define STORM       72000 /* beyond KEEP_STEP */
#define SERVED_MIN  2

/* ---- random numbers ---- */

/* OpenSSL's RAND_METHOD is deprecated for programs that bring better numbers. These are worse: the
 * same in each run. */
static struct random openssl_random;

static int draw_bytes(unsigned char *bytes, int count)
{
    for (int i = 0; i < count; i++)
        bytes[i] = (unsigned char)random_u64(&openssl_random);
    return 1;
}

static int has_numbers(void)
{
    return 1;
}

static void fix_random(uint64_t seed)
{
    static const RAND_METHOD method = {
        .bytes = draw_bytes, .pseudorand = draw_bytes, .status = has_numbers};
    uint8_t bytes[RANDOM_SEED_BYTES] = {1};

    memcpy(bytes + sizeof(seed), &seed, sizeof(seed));
    random_seed(&openssl_random, bytes);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    RAND_set_rand_method(seed ? &method : NULL);
#pragma GCC diagnostic pop
}

/* ---- files ---- */

static int file_of(const char *name, const char *text)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    size_t length = strlen(text);

    if (fd < 0 || fchmod(fd, 0600) < 0 || write(fd, text, length) != (ssize_t)length)
        return -1;
    return fd;
}

static bool make_files(struct dtls_world *w)
{
    char text[THINGS_MAX * 64] = "# devices\n", key[65];
    size_t at = strlen(text);

    for (unsigned i = 0; i < THINGS_MAX; i++) {
        uint8_t bytes[16];

        thing_key(i, bytes);
        at += (size_t)snprintf(text + at, sizeof(text) - at, "dev%02u:", i);
        for (unsigned k = 0; k < sizeof(bytes); k++)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%02x", bytes[k]);
        at += (size_t)snprintf(text + at, sizeof(text) - at, "\n");
    }
    for (unsigned i = 0; i < 64; i++)
        key[i] = "0123456789abcdef"[(i * 7 + 3) % 16];
    key[64] = '\0';
    w->psk_fd = file_of("psk", text);
    w->keep_fd = file_of("keep", key);
    return w->psk_fd >= 0 && w->keep_fd >= 0;
}

/* ---- the server ---- */

static void on_request(struct node *n, const struct flow *flow, const struct message *m)
{
    struct dtls_world *w = n->owner;
    uint8_t body[BODY_LINE * 2];
    char query[256], text[16] = "";
    struct response answer = response_make(m->code == CODE_GET ? CODE_CONTENT : CODE_CHANGED);
    unsigned id = 0;

    message_query(m, query, sizeof(query));
    if (m->payload_length && m->payload_length < sizeof(text))
        memcpy(text, m->payload, m->payload_length);
    if (sscanf(query, "k=%u", &id) != 1 || id == 0 || id > w->asked_count ||
        (m->code != CODE_GET && (unsigned)atoi(text) != id)) {
        stage_fail(n->stage, "a request that nobody has made");
        return;
    }
    judge_executed(w, id, m->code, query);
    body_write(body, sizeof(body), id, w->asked[id].thing);
    answer.payload = body;
    answer.payload_length = sizeof(body);
    node_respond(n, flow, m, &answer, SECOND);
}

static const struct node_handler serving = {.request = on_request};

/* ---- the cast ---- */

static void arrived(struct stage *s, const struct flow *flow, const uint8_t *data, size_t length)
{
    struct dtls_world *w = dtls_world_of(s);

    if (fleet_server_of(flow) >= 0) {
        node_receive(&w->server, flow, data, length);
        return;
    }
    for (unsigned i = 0; i < w->thing_count; i++)
        if (flow_equal(&w->things[i].wire, flow)) {
            thing_receive(&w->things[i], data, length);
            return;
        }
}

static bool told(struct stage *s, unsigned worker, struct parcel *parcel)
{
    struct dtls_world *w = dtls_world_of(s);

    return w->stored && vault_told(&w->vault, worker, parcel);
}

static unsigned room(struct stage *s, unsigned worker)
{
    const struct dtls_world *w = dtls_world_of(s);

    return w->stored ? vault_room(&w->vault, worker) : 0;
}

static const struct stage_cast cast = {.emitted = judge_emitted,
                                       .delivered = judge_delivered,
                                       .arrived = arrived,
                                       .consumed = judge_consumed,
                                       .told = told,
                                       .room = room};

/* ---- the gateway ---- */

static void draw_plan(struct dtls_world *w)
{
    static const unsigned associations[] = {4, 8, 100, 100}, handshakes[] = {1, 2, 4, 64};
    static const unsigned memory_kib[] = {64, 256, 4096}, budgets[] = {1, 4, 16};
    static const unsigned idle_s[] = {60, 200, 600}, pauses_s[] = {2, 5, 20};
    struct stage *s = dtls_stage(w);

    w->associations = associations[stage_below(s, 4)];
    w->handshakes = handshakes[stage_below(s, 4)];
    w->memory_kib = memory_kib[stage_below(s, 3)];
    w->budget = budgets[stage_below(s, 3)];
    w->idle_s = idle_s[stage_below(s, 3)];
    w->pause_us = (unsigned)(pauses_s[stage_below(s, 3)] * SECOND);
    w->stored = stage_below(s, 3) != 0;
    w->kept = w->stored && stage_below(s, 4);
    w->store_keys = w->stored && stage_below(s, 2);
    w->cids = stage_below(s, 6) != 0;
    w->tickets = stage_below(s, 4) == 0;
    w->lives_left = stage_below(s, 5);
    w->thing_count = 2 + stage_below(s, THINGS_MAX - 1);
    w->secret = random_u64(&s->random) | 1;
    s->journaled = stage_below(s, 2);
}

static void remember(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);
    bool own;

    s->mid_key = w->secret;
    if (!w->stored)
        return;
    if (stage_clock(s) < vault_clock(&w->vault))
        s->clock_ahead_us = vault_clock(&w->vault) - s->now;
    s->number_floor = vault_floor(&w->vault);
    s->mid_life = vault_life(&w->vault, &own);
    s->forgetful[s->life + 1] = !own;
}

static bool open_gateway(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);
    char yaml[4096], store[256] = "", keep[128] = "", only[128] = "";

    if (w->stored)
        snprintf(store, sizeof(store),
                 "store: {url: \"redis://127.0.0.1:6379/0\", on_failure: serve, timeout: 500ms}\n");
    if (w->kept)
        snprintf(keep, sizeof(keep), ", persist_key_file: /proc/self/fd/%d", w->keep_fd);
    for (unsigned i = 0; i < w->thing_count; i++)
        if (thing_may_know(&w->things[i]))
            snprintf(only + strlen(only), sizeof(only) - strlen(only), "%s\"psk:dev%02u\"",
                     only[0] ? ", " : "", i);
    w->started_us = s->now;
    w->workers = 1 + stage_below(s, 3);
    snprintf(
        yaml, sizeof(yaml),
        "workers: %u\n"
        "interfaces:\n"
        "  - {name: s, device: \"tap:s0\", addresses: [" GATEWAY "/8]}\n"
        "listeners:\n"
        "  - uri: coaps://" GATEWAY "\n"
        "    dtls: {psk: {file: /proc/self/fd/%d, store: %s}, connection_id: %s, tickets: %s}\n"
        "upstreams:\n"
        "  - {name: s, servers: [coap://10.0.9.1], transmission: {nstart: 64}, "
        "tell_client: {query: client}}\n"
        "routes:\n"
        "  - {path: /s, to: s}\n"
        "  - {path: /h, resources: {max: 64, size: 64KiB}}\n"
        "  - {path: /hello, respond: {payload: \"hello\"}}\n"
        "  - {path: /only, respond: {payload: \"secret\"}, allow: [%s]}\n"
        "%s"
        "security: {idle: %us, handshake_budget: %u%s}\n"
        "limits: {sessions: 2000, exchanges: 2000, outbound: 2000, remembered: 20000, "
        "queue: 1000, message_memory: %uKiB, associations: %u, handshakes: %u}\n",
        w->workers, w->psk_fd, w->store_keys ? "true" : "false", w->cids ? "true" : "false",
        w->tickets ? "true" : "false", only, store, w->idle_s, w->budget, keep, w->memory_kib,
        w->associations, w->handshakes);
    remember(w);
    if (!stage_open(s, yaml)) {
        stage_fail(s, "it cannot be set up");
        return false;
    }
    judge_born(w);
    if (w->stored)
        vault_start(&w->vault);
    return true;
}

static void die(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    stage_note(s, "the gateway is gone");
    if (w->stored)
        vault_kill(&w->vault);
    stage_kill(s);
    if (!s->failed && stage_parcels_out(s))
        stage_fail(s, "%u parcels have gone with the process", stage_parcels_out(s));
}

static void restart(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    die(w);
    stage_run(s, s->now + 1000 + stage_below(s, stage_below(s, 3) ? SECOND : 20 * SECOND));
    if (s->failed)
        return;
    stage_note(s, "the gateway starts");
    (void)open_gateway(w);
}

/* ---- the store's disasters ---- */

static void on_relief(struct stage *s, void *who, uint64_t what)
{
    struct dtls_world *w = dtls_world_of(s);

    (void)who;
    (void)what;
    vault_come_back(&w->vault);
    w->vault.deaf = w->vault.failing = false;
}

static void on_disaster(struct stage *s, void *who, uint64_t what)
{
    struct dtls_world *w = dtls_world_of(s);
    struct vault *v = &w->vault;
    uint64_t relief = 100000 + stage_below(s, stage_below(s, 3) ? 3 * SECOND : 20 * SECOND);

    (void)who;
    (void)what;
    if (w->calm)
        return;
    switch (stage_below(s, 6)) {
    case 0:
    case 1:
        stage_note(s, "store: away");
        vault_go_away(v);
        break;
    case 2:
        vault_stall(v, relief);
        break;
    case 3:
        vault_cut(v);
        break;
    case 4:
        v->deaf = true;
        break;
    case 5:
        v->failing = true;
        break;
    }
    stage_at(s, s->now + relief, on_relief, NULL, 0);
    stage_at(s, s->now + relief + stage_below(s, DISASTER_US), on_disaster, NULL, 0);
}

/* ---- the phases ---- */

/* One device uses up so many sequence numbers that new ones have to be reserved, which cannot be
 * done when the store is away. */
static void storm(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    for (unsigned i = 0; i < w->thing_count; i++) {
        struct thing *t = &w->things[i];

        if (!t->has_peer || !t->track || peer_state(&t->peer) != PEER_ESTABLISHED)
            continue;
        stage_note(s, "storm of %s", t->identity);
        if (stage_below(s, 2))
            vault_go_away(&w->vault);
        thing_storm(t, STORM);
        return;
    }
}

static void churn(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);
    bool stormy = w->kept && w->lives_left && stage_below(s, 12) == 0;

    for (; w->lives_left && !s->failed; w->lives_left--) {
        stage_run(s, s->now + 1000 + stage_below(s, stage_below(s, 3) ? 60 * SECOND : 5 * SECOND));
        if (stormy && !s->failed)
            storm(w);
        stormy = false;
        if (!s->failed)
            restart(w);
    }
    stage_run(s, s->now + 60 * SECOND + stage_below(s, 200 * SECOND));
}

static void check_served(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    for (unsigned i = 0; i < w->thing_count; i++) {
        const struct thing *t = &w->things[i], *target = &w->things[t->target];

        if (!thing_is_honest(t))
            continue;
        if (t->served < SERVED_MIN)
            stage_fail(s, "%s has got %u answers in peace", t->identity, t->served);
        else if (w->associations >= THINGS_MAX && w->handshakes > 2 && thing_is_honest(target) &&
                 t->seen_version == 0)
            stage_fail(s, "%s has not got a value of %s", t->identity, target->identity);
    }
}

/* Nothing is lost and nobody moves; the attacker goes on. */
static void calm_down(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    stage_note(s, "peace");
    w->calm = true;
    on_relief(s, NULL, 0);
    s->network.loss = 0;
    stage_run(s, s->now + CALM_US / 3);
    for (unsigned i = 0; i < w->thing_count; i++)
        w->things[i].served = w->things[i].seen_version = 0;
    stage_run(s, s->now + CALM_US);
    if (!s->failed)
        check_served(w);
}

static void check_empty(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    stage_check_empty(s);
    for (unsigned i = 0; !s->failed && i < s->worker_count; i++) {
        struct worker_usage u;

        worker_usage(s->workers[i], &u);
        if (u.associations || u.handshakes)
            stage_fail(s, "worker %u keeps %u associations and %u handshakes", i, u.associations,
                       u.handshakes);
    }
    if (!s->failed && w->stored && vault_count_what(&w->vault, STORE_ASSOCIATION))
        stage_fail(s, "the store keeps %u associations",
                   vault_count_what(&w->vault, STORE_ASSOCIATION));
}

static void run(struct dtls_world *w)
{
    struct stage *s = dtls_stage(w);

    attack_begin(w);
    if (w->stored)
        stage_at(s, s->now + stage_below(s, DISASTER_US), on_disaster, NULL, 0);
    churn(w);
    if (!s->failed)
        calm_down(w);
    w->leaving = true;
    for (unsigned i = 0; i < w->thing_count && !s->failed; i++)
        if (w->things[i].has_peer && stage_below(s, 3) == 0)
            peer_close(&w->things[i].peer);
    stage_run(s, s->now + END_US + w->idle_s * SECOND);
    if (!s->failed)
        check_empty(w);
}

/* ---- start and end ---- */

static void end(struct dtls_world *w)
{
    if (w->stored)
        vault_free(&w->vault);
    for (unsigned i = 0; i < w->thing_count; i++)
        thing_free(&w->things[i]);
    node_free(&w->server);
    judge_free(w);
    peer_crypto_destroy(w->crypto);
    close(w->psk_fd);
    close(w->keep_fd);
    fix_random(0);
}

int dtls_run(uint64_t seed, bool trace)
{
    struct dtls_world *w = calloc(1, sizeof(*w));
    struct stage *s = dtls_stage(w);
    int failed;

    stage_begin(s, "dtls", seed, trace, &cast);
    fix_random(seed + 1);
    s->deaths = true;
    fleet_draw_network(&w->fleet, 0.2);
    w->crypto = peer_crypto_create();
    draw_plan(w);
    if (w->stored) {
        vault_init(&w->vault, s);
        w->vault.key = thing_stored_key;
    }
    for (unsigned i = 0; i < w->thing_count; i++)
        thing_init(w, i);
    node_init(&w->server, s, &serving, w);
    if (make_files(w) && open_gateway(w))
        run(w);
    failed = s->failed;
    end(w);
    failed |= fleet_end(&w->fleet);
    free(w);
    return failed;
}
