/* Associations and the store, played: what is given when, what comes back after a kill, and that no
 * sequence number is ever used twice with a key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tests/unit/worker_harness.h"

#include <errno.h>

#include <rte_mempool.h>

#include "gateway/security/security_parts.h"
#include "gateway/store/store.h"

enum { PORT = 5684, FLIGHT_MAX = 1024, RECORDS_MAX = 64, MTU = 1280 };

/* A record in Redis, or on its way there. */
struct kept {
    enum store_type type;
    uint64_t cookie;
    struct store_association clear;
    uint8_t sealed[STORE_SEALED_MAX];
};

static struct scene {
    struct config config;
    struct config_listener listener;
    struct config_dtls_listener dtls;
    struct local_address local;
    struct counters counters;
    struct wheel wheel;
    struct rte_mempool *parcels;
    struct security *security;
    struct random random;
    uint64_t now;
    bool full; /* the ring to the store */
    struct kept flight[FLIGHT_MAX];
    unsigned flying;
    struct kept redis[RECORDS_MAX];
    unsigned records;
    unsigned rejected;
    uint8_t buffer[2048];
    /* The judge's: the sequence of the next record that may be seen, by the id's last byte. */
    uint64_t next[256];
    uint64_t sent;
    unsigned ended;
} * scene;

/* ---- what is around a struct security ---- */

static bool on_alloc(void *context, const struct flow *flow, struct outgoing *out)
{
    (void)context;
    (void)flow;
    *out = (struct outgoing){.data = scene->buffer, .room = MTU - 28, .buffer = scene->buffer};
    return true;
}

/* The peer's port says which one it is. */
static void on_send(void *context, const struct flow *flow, struct outgoing *out, uint16_t length)
{
    struct record_view v;
    uint8_t who = (uint8_t)flow->peer_port;

    (void)context;
    assert_int_equal(record_next(out->data, length, 0, &v), length);
    assert_int_equal(v.epoch, 1);
    assert_true(v.sequence >= scene->next[who]); /* never twice, whichever life it is */
    scene->next[who] = v.sequence + 1;
    scene->sent++;
}

static void on_cancel(void *context, struct outgoing *out)
{
    (void)context;
    (void)out;
}

static bool on_tell(void *context, unsigned to, struct parcel *parcel)
{
    struct kept *k = &scene->flight[scene->flying];
    struct store_head head;

    (void)context;
    assert_int_equal(to, PARCEL_STORE);
    if (scene->full || scene->flying == FLIGHT_MAX)
        return false;
    assert_int_equal(parcel->kind, PARCEL_RECORD);
    assert_true(parcel_read(parcel, 0, &head, sizeof(head)));
    assert_int_equal(head.what, STORE_ASSOCIATION);
    *k = (struct kept){.type = (enum store_type)parcel->type, .cookie = head.cookie};
    assert_true(parcel_read(parcel, sizeof(head), &k->clear, sizeof(k->clear)));
    assert_true(
        parcel_read(parcel, sizeof(head) + sizeof(k->clear), k->sealed, k->clear.sealed_length));
    scene->flying++;
    parcel_free(scene->parcels, parcel);
    return true;
}

static void on_deliver(void *context, const struct datagram *burst, unsigned n)
{
    (void)context;
    (void)burst;
    (void)n;
}

static void on_ended(void *context, const struct flow *session)
{
    (void)context;
    (void)session;
    scene->ended++;
}

static bool on_is_busy(void *context, const struct flow *session)
{
    (void)context;
    (void)session;
    return false;
}

static void start(void)
{
    static const uint8_t seed[RANDOM_SEED_BYTES] = {1};
    const struct security_setup setup = {
        .config = &scene->config,
        .io = {.alloc = on_alloc,
               .send = on_send,
               .cancel = on_cancel,
               .tell = on_tell,
               .parcels = scene->parcels},
        .ops = {.deliver = on_deliver, .ended = on_ended, .is_busy = on_is_busy},
        .counters = &scene->counters,
        .wheel = &scene->wheel,
        .index = 1,
        .count = 2,
        .associations = RECORDS_MAX,
        .now = scene->now,
        .seed = seed};

    wheel_init(&scene->wheel, scene->now);
    memset(&scene->counters, 0, sizeof(scene->counters));
    scene->security = security_create(&setup);
    assert_non_null(scene->security);
}

static int set_up(void **state)
{
    static char prefix[] = "coapgw", service[] = "10.99.0.2:5684";

    (void)state;
    scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    random_seed(&scene->random, (uint8_t[RANDOM_SEED_BYTES]){3});
    scene->now = 1700000000000000;
    scene->local = (struct local_address){
        .address = address_from_v4((const uint8_t[]){10, 99, 0, 2}), .mtu = MTU};
    scene->dtls.psk = true;
    scene->listener =
        (struct config_listener){.port = PORT, .transport = TRANSPORT_DTLS, .dtls = &scene->dtls};
    scene->config.locals = &scene->local;
    scene->config.local_count = 1;
    scene->config.listeners = &scene->listener;
    scene->config.listener_count = 1;
    scene->config.workers = 2;
    scene->config.limits.associations = RECORDS_MAX;
    scene->config.limits.handshakes = 4;
    scene->config.security = (struct config_security){.idle_us = UINT64_C(86400) * 1000000,
                                                      .handshake_budget = 16,
                                                      .persist = true,
                                                      .persist_key = {9, 8, 7}};
    scene->config.store = (struct config_store){
        .kind = CONFIG_STORE_UNIX, .prefix = prefix, .service = service, .timeout_ms = 1000};
    scene->parcels = parcel_pool_create("parcels", 255);
    assert_non_null(scene->parcels);
    start();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    security_destroy(scene->security);
    assert_int_equal(rte_mempool_avail_count(scene->parcels), scene->parcels->size);
    parcel_pool_destroy(scene->parcels);
    free(scene);
    return 0;
}

/* ---- the store ---- */

static void say(enum store_type type, const struct store_head *head, const struct kept *k)
{
    const uint32_t length = k ? (uint32_t)sizeof(k->clear) + k->clear.sealed_length : 0,
                   at = sizeof(*head);
    struct parcel *parcel =
        parcel_new(scene->parcels, PARCEL_RECORD, (uint16_t)type, (uint32_t)sizeof(*head) + length);

    assert_non_null(parcel);
    assert_true(parcel_write(parcel, 0, head, sizeof(*head)));
    if (k) {
        assert_true(parcel_write(parcel, at, &k->clear, sizeof(k->clear)));
        assert_true(parcel_write(parcel, at + (uint32_t)sizeof(k->clear), k->sealed,
                                 k->clear.sealed_length));
    }
    assert_int_equal(security_told(scene->security, parcel), k || type == STORE_DONE);
    parcel_free(scene->parcels, parcel);
}

static void say_state(enum store_type type)
{
    say(type, &(struct store_head){.cookie = 0}, NULL);
}

static void say_done(uint64_t cookie, int error)
{
    say(STORE_DONE,
        &(struct store_head){.cookie = cookie, .error = error, .what = STORE_ASSOCIATION}, NULL);
}

static struct kept *find(const uint8_t *id)
{
    for (unsigned i = 0; i < scene->records; i++)
        if (memcmp(scene->redis[i].clear.id, id, STORE_ID_BYTES) == 0)
            return &scene->redis[i];
    return NULL;
}

static void apply(const struct kept *k)
{
    struct kept *old = find(k->clear.id);

    if (k->type == STORE_PUT) {
        if (!old)
            old = &scene->redis[scene->records++];
        assert_true(scene->records <= RECORDS_MAX);
        *old = *k;
    } else {
        scene->rejected += k->type == STORE_REJECT;
        if (old)
            *old = scene->redis[--scene->records];
    }
}

/* The first `count` commands are carried out, and answered if anybody lives. */
static void let(unsigned count, bool answer)
{
    uint64_t cookies[FLIGHT_MAX];
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++) {
        apply(&scene->flight[i]);
        if (scene->flight[i].type == STORE_PUT)
            cookies[n++] = scene->flight[i].cookie;
    }
    scene->flying -= count;
    memmove(scene->flight, scene->flight + count, scene->flying * sizeof(scene->flight[0]));
    for (unsigned i = 0; answer && i < n; i++)
        say_done(cookies[i], 0);
}

static void turn(uint64_t us)
{
    scene->now += us;
    (void)wheel_advance(&scene->wheel, scene->now, 1000);
    (void)security_advance(scene->security, scene->now);
}

/* All that is to be given is given, and confirmed. */
static void settle(void)
{
    for (unsigned i = 0; i < 1000 && (scene->flying || security_has_work(scene->security)); i++) {
        turn(10);
        let(scene->flying, true);
    }
    assert_int_equal(scene->flying, 0);
}

static void lose_connection(unsigned through)
{
    uint64_t cookies[FLIGHT_MAX];
    unsigned n = 0;

    for (unsigned i = 0; i < scene->flying; i++)
        if (scene->flight[i].type == STORE_PUT)
            cookies[n++] = scene->flight[i].cookie;
    let(through, false);
    scene->flying = 0;
    for (unsigned i = 0; i < n; i++)
        say_done(cookies[i], -ENOTCONN);
    say_state(STORE_DOWN);
}

static void read_back(bool verify)
{
    struct kept copy[RECORDS_MAX];
    unsigned count = scene->records;

    memcpy(copy, scene->redis, sizeof(copy));
    for (unsigned i = 0; i < count; i++)
        say(STORE_RECORD, &(struct store_head){.what = STORE_ASSOCIATION, .verify = verify},
            &copy[i]);
}

static void kill_and_start(void)
{
    let(random_below(&scene->random, scene->flying + 1), false);
    scene->flying = 0;
    security_destroy(scene->security);
    scene->now += 1000000;
    start();
    say_state(STORE_UP);
    read_back(false);
}

/* ---- associations ---- */

static struct flow wire_of(uint8_t who)
{
    const struct endpoint peer = {address_from_v4((const uint8_t[]){10, 99, 0, 1}),
                                  (uint16_t)(40000 / 256 * 256 + who)};

    return flow_make(0, PORT, &peer, TRANSPORT_UDP);
}

static struct association *open_one(uint8_t who, bool cid)
{
    const uint8_t id[] = {1, 2, 3, 4, 5, 6, 7, who};
    const struct flow wire = wire_of(who);
    struct association *a = security_make(scene->security, &wire, id);

    assert_non_null(a);
    a->suite = a->read.suite = a->write.suite = SUITE_AES_128_CCM_8;
    memset(a->read.key, who, 16);
    memset(a->write.key, who + 1, 16);
    a->seen_us = a->opened_us = scene->now;
    a->sequence = 1;
    a->limit = security_last_sequence(a);
    a->own_cid = cid;
    a->window = (struct record_window){.top = 7, .mask = 1, .any = true};
    assert_int_equal(principal_set(&a->principal, PRINCIPAL_PSK, "device", 6), 0);
    wheel_arm(&scene->wheel, &a->idle, scene->now + scene->config.security.idle_us);
    security_keep_begin(scene->security, a);
    return a;
}

static struct association *one(uint8_t who)
{
    const uint8_t id[] = {1, 2, 3, 4, 5, 6, 7, who};
    const struct associations *all = &scene->security->associations;

    return association_of_id(all, id, places_hash_id(&all->key, id));
}

/* Whether it was sent. */
static bool send_one(uint8_t who)
{
    const struct worker_io io = security_io(scene->security);
    struct association *a = one(who);
    struct flow session = association_flow(a);
    uint64_t before = scene->sent;
    struct outgoing out;

    assert_true(io.alloc(io.context, &session, &out));
    memcpy(out.data, "hello", 5);
    io.send(io.context, &session, &out, 5);
    return scene->sent > before;
}

static void use_up(uint8_t who, uint64_t count)
{
    struct association *a = one(who);

    if (a->sequence + count > a->limit)
        count = a->limit > a->sequence ? a->limit - a->sequence : 0;
    if (count < 2)
        return;
    a->sequence += count - 1;
    scene->next[who] = a->sequence;
    (void)send_one(who);
}

/* ---- what has to hold ---- */

static void it_is_given_when_it_begins_moves_and_ends(void **state)
{
    struct association *a;
    struct flow wire = wire_of(99);

    (void)state;
    say_state(STORE_UP);
    a = open_one(1, true);
    settle();
    assert_int_equal(scene->records, 1);
    assert_int_equal(scene->redis[0].clear.peer.port % 256, 1);
    assert_int_equal(scene->redis[0].clear.listen.port, PORT);
    assert_int_equal(scene->redis[0].clear.cid, 1);
    association_move(&scene->security->associations, a, &wire);
    security_keep_changed(scene->security, a);
    settle();
    assert_int_equal(scene->records, 1);
    assert_int_equal(scene->redis[0].clear.peer.port % 256, 99);
    assert_int_equal(scene->counters.associations_kept, 2);
    security_end(scene->security, a, false, &scene->counters.associations_closed);
    settle();
    assert_int_equal(scene->records, 0);
}

/* Moved while a record is on its way: given again when that is confirmed, not before. */
static void one_record_is_on_its_way_at_a_time(void **state)
{
    struct association *a;
    struct flow wire = wire_of(99);

    (void)state;
    say_state(STORE_UP);
    a = open_one(1, true);
    turn(1);
    assert_int_equal(scene->flying, 1);
    association_move(&scene->security->associations, a, &wire);
    security_keep_changed(scene->security, a);
    turn(1);
    assert_int_equal(scene->flying, 1);
    let(1, true);
    turn(1);
    assert_int_equal(scene->flying, 1);
    let(1, true);
    assert_int_equal(scene->redis[0].clear.peer.port % 256, 99);
    assert_false(security_has_work(scene->security));
}

/* Those that wait when the store comes up are given once, though all are given then. */
static void all_are_given_once_when_it_is_up(void **state)
{
    (void)state;
    for (uint8_t who = 1; who <= 40; who++)
        (void)open_one(who, who % 2);
    turn(1);
    assert_int_equal(scene->flying, 0);
    say_state(STORE_UP);
    settle();
    assert_int_equal(scene->records, 40);
    assert_int_equal(scene->counters.associations_kept, 40);
    say_state(STORE_DOWN);
    say_state(STORE_UP);
    settle();
    assert_int_equal(scene->counters.associations_kept, 80);
}

static void it_comes_back_as_it_was(void **state)
{
    struct association *a;
    struct flow session;

    (void)state;
    say_state(STORE_UP);
    (void)open_one(1, false);
    (void)open_one(2, true);
    settle();
    for (unsigned i = 0; i < 10; i++)
        assert_true(send_one(1));
    kill_and_start();
    a = one(1);
    assert_non_null(a);
    assert_int_equal(a->sequence, 1 + KEEP_STEP);
    assert_int_equal(a->write.key[0], 2);
    assert_int_equal(a->place, 0);
    assert_int_equal(a->principal.length, 6);
    assert_true(a->unproven && !a->own_cid && one(2)->own_cid);
    assert_true(flow_equal(&a->wire, &(struct flow[]){wire_of(1)}[0]));
    assert_false(window_is_fresh(&a->window, 7) || window_is_fresh(&a->window, 6));
    assert_true(window_is_fresh(&a->window, 8));
    session = association_flow(a);
    assert_true(security_is_unproven(scene->security, &session));
    assert_false(send_one(1)); /* not before new numbers are confirmed */
    security_send_alert(scene->security, a, ALERT_WARNING, ALERT_CLOSE_NOTIFY); /* nor this */
    assert_int_equal(scene->next[1], 11);
    settle();
    assert_true(send_one(1) && send_one(2));
    assert_int_equal(scene->counters.associations_restored, 2);
    say_state(STORE_DOWN);
    say_state(STORE_UP);
    read_back(true); /* what is here is not asked for again */
    assert_non_null(one(1));
    settle();
    assert_int_equal(scene->records, 2);
}

/* What has ended while the store was away is deleted when it asks. */
static void what_has_ended_meanwhile_is_deleted(void **state)
{
    (void)state;
    say_state(STORE_UP);
    (void)open_one(1, false);
    (void)open_one(2, false);
    settle();
    say_state(STORE_DOWN);
    security_end(scene->security, one(1), false, &scene->counters.associations_closed);
    assert_int_equal(scene->flying, 0);
    say_state(STORE_UP);
    read_back(true);
    settle();
    assert_int_equal(scene->records, 1);
    scene->full = true; /* and when there is no room, later */
    security_end(scene->security, one(2), false, &scene->counters.associations_closed);
    turn(1);
    assert_int_equal(scene->flying, 0);
    scene->full = false;
    settle();
    assert_int_equal(scene->records, 0);
}

static void what_cannot_be_opened_is_rejected(void **state)
{
    (void)state;
    say_state(STORE_UP);
    (void)open_one(1, false);
    settle();
    scene->redis[0].sealed[20] ^= 1;
    kill_and_start();
    assert_null(one(1));
    settle();
    assert_int_equal(scene->rejected, 1);
    assert_int_equal(scene->counters.associations_unusable, 1);
}

/* Two without a CID from one address: the newer one. With CIDs there may be both. */
static void the_newest_at_an_address_counts(void **state)
{
    struct association *a;
    struct flow wire;

    (void)state;
    say_state(STORE_UP);
    for (uint8_t who = 1; who <= 4; who++) {
        scene->now += 1000000;
        a = open_one(who, who > 2);
        wire = wire_of(who > 2 ? 3 : 1);
        association_move(&scene->security->associations, a, &wire);
    }
    settle();
    kill_and_start();
    assert_true(!one(1) && one(2) && one(3) && one(4));
    settle();
    assert_int_equal(scene->records, 3);
}

static void without_a_key_nothing_is_kept(void **state)
{
    struct kept kept;

    (void)state;
    say_state(STORE_UP);
    (void)open_one(1, false);
    settle();
    kept = scene->redis[0];
    scene->config.security.persist = false;
    kill_and_start();
    assert_null(one(1));
    settle();
    assert_int_equal(scene->records, 0); /* nobody can use it any more */
    (void)open_one(2, false);
    say_state(STORE_UP);
    turn(1000);
    assert_int_equal(scene->flying, 0);
    assert_true(kept.clear.sealed_length > 0);
}

/* The other gateway has them: not one more record is sent under their keys. */
static void they_are_left_when_another_one_takes_over(void **state)
{
    (void)state;
    say_state(STORE_UP);
    for (uint8_t who = 1; who <= 20; who++)
        (void)open_one(who, who % 2);
    settle();
    say_state(STORE_DOWN);
    say_state(STORE_OVER);
    turn(1);
    for (uint8_t who = 1; who <= 20; who++)
        assert_null(one(who));
    assert_int_equal(scene->counters.associations_left, 20);
    assert_int_equal(scene->ended, 20);
    assert_int_equal(scene->sent, 0);
    (void)open_one(30, false); /* new ones are its own */
    turn(1000);
    assert_non_null(one(30));
    assert_int_equal(scene->flying, 0);
}

/* A store that fails: what is left is used, then it waits, and in the end the association ends. */
static void without_numbers_it_ends_in_time(void **state)
{
    (void)state;
    say_state(STORE_UP);
    (void)open_one(1, false);
    settle();
    use_up(1, KEEP_STEP);
    turn(1);
    assert_int_equal(scene->flying, 1);
    say_done(scene->flight[0].cookie, -EIO);
    scene->flying = 0;
    turn(1);
    assert_int_equal(scene->flying, 0); /* not at once */
    assert_false(send_one(1));
    assert_int_equal(scene->counters.drop_dtls_limit, 1);
    turn(1100000);
    turn(1);
    assert_int_equal(scene->flying, 1);
    let(1, true);
    assert_true(send_one(1));
    use_up(1, KEEP_STEP);
    turn(1);
    assert_false(send_one(1));
    turn(10100000);
    assert_non_null(one(1));
    assert_false(send_one(1));
    turn(2000);
    turn(2000);
    assert_null(one(1));
    assert_int_equal(scene->counters.associations_exhausted, 1);
}

/* Kills, lost connections, late answers and much traffic, at random: on_send() judges. */
static void no_sequence_is_used_twice_over_kills(void **state)
{
    enum { PEERS = 3, KILLS = 1500 };
    unsigned kills = 0, restored = 0;

    (void)state;
    say_state(STORE_UP);
    for (uint8_t who = 1; who <= PEERS; who++)
        (void)open_one(who, who % 2);
    while (kills < KILLS) {
        uint8_t who = (uint8_t)(1 + random_below(&scene->random, PEERS));

        if (!one(who)) { /* it was never kept: another key */
            scene->next[who] = 0;
            (void)open_one(who, who % 2);
        }
        switch (random_below(&scene->random, 10)) {
        case 0:
        case 1:
            (void)send_one(who);
            break;
        case 2:
        case 3:
            use_up(who, random_below(&scene->random, KEEP_STEP));
            break;
        case 4:
        case 5:
            turn(random_below(&scene->random, 1000));
            break;
        case 6:
        case 7:
            let(random_below(&scene->random, scene->flying + 1), true);
            break;
        case 8:
            if (random_below(&scene->random, 4))
                break;
            lose_connection(random_below(&scene->random, scene->flying + 1));
            turn(random_below(&scene->random, 2000000));
            say_state(STORE_UP);
            read_back(true);
            break;
        default:
            if (random_below(&scene->random, 3))
                break;
            kills++;
            restored += (unsigned)scene->counters.associations_restored;
            kill_and_start();
            break;
        }
    }
    assert_true(restored > KILLS * PEERS / 2);
    assert_true(scene->sent > KILLS * 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_given_when_it_begins_moves_and_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_record_is_on_its_way_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_are_given_once_when_it_is_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_comes_back_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_has_ended_meanwhile_is_deleted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_opened_is_rejected, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_at_an_address_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_key_nothing_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(they_are_left_when_another_one_takes_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_numbers_it_ends_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_sequence_is_used_twice_over_kills, set_up, tear_down),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
