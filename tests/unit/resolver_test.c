#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "gateway/control/resolver.h"
#include "tests/unit/dns_server.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define WORKERS 2

/* Where a test waits for timeouts, they are short; elsewhere no slow machine must run into them. */
#define SHORT_MS   100
#define LONGER_MS  1000
#define AMPLE_MS   5000
#define GIVE_UP_MS 60000

struct bench {
    struct dns_server server;
    struct resolver *resolver;
    char servers[64];
};

static void sleep_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static struct bench *bench_make(unsigned timeout_ms)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct resolver_setup setup = {.workers = WORKERS, .timeout_ms = timeout_ms};

    assert_non_null(b);
    assert_true(dns_start(&b->server));
    snprintf(b->servers, sizeof(b->servers), "127.0.0.1:%u", b->server.port);
    setup.servers = b->servers;
    b->resolver = resolver_create(&setup);
    assert_non_null(b->resolver);
    return b;
}

static struct bench *bench_start(unsigned timeout_ms)
{
    struct bench *b = bench_make(timeout_ms);

    assert_int_equal(resolver_start(b->resolver), 0);
    return b;
}

static void bench_end(struct bench *b)
{
    resolver_destroy(b->resolver);
    dns_stop(&b->server);
    free(b);
}

static bool ask(struct bench *b, unsigned worker, const char *name, uint32_t id)
{
    return resolver_ask(b->resolver, worker, name, strlen(name), id);
}

static struct resolved wait_for_answer(struct bench *b, unsigned worker)
{
    struct resolved answer;

    memset(&answer, 0xa5, sizeof(answer));
    for (unsigned ms = 0; !resolver_take(b->resolver, worker, &answer); ms++) {
        assert_true(ms < GIVE_UP_MS);
        sleep_a_little();
    }
    return answer;
}

static struct resolved resolve(struct bench *b, const char *name)
{
    static uint32_t id = 77;
    struct resolved answer;

    assert_true(ask(b, 0, name, ++id));
    answer = wait_for_answer(b, 0);
    assert_int_equal(answer.id, id);
    return answer;
}

/* The addresses in order, with a space between. */
static const char *addresses_of(const struct resolved *answer)
{
    static char text[RESOLVED_MAX * ENDPOINT_TEXT_BYTES];
    size_t at = 0;

    text[0] = 0;
    for (unsigned i = 0; i < answer->count; i++) {
        char one[ENDPOINT_TEXT_BYTES];

        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", i ? " " : "",
                               address_format(&answer->addresses[i], one));
    }
    return text;
}

static void wait_for_questions(struct bench *b, unsigned n)
{
    for (unsigned ms = 0; atomic_load(&b->server.questions) < n; ms++) {
        assert_true(ms < GIVE_UP_MS);
        sleep_a_little();
    }
    assert_int_equal(atomic_load(&b->server.questions), n);
}

static void answers(void **state)
{
    static const struct {
        const char *name;
        int error;
        uint32_t ttl_s;
        const char *addresses;
    } rows[] = {
        {"v4.test", 0, 300, "192.0.2.1"},
        {"v6.test", 0, 120, "2001:db8::1"},
        {"both.test", 0, 50, "2001:db8::1 192.0.2.1 192.0.2.2"},
        {"v4.test.", 0, 300, "192.0.2.1"},
        {"alias.test", 0, 30, "192.0.2.1"},
        {"many.test", 0, 7,
         "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 2001:db8::3 192.0.2.3 2001:db8::4 192.0.2.4"},
        {"many4.test", 0, 7,
         "2001:db8::1 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7"},
        {"zero.test", 0, 0, "192.0.2.1"},
        {"long.test", 0, RESOLVER_TTL_MAX_S, "192.0.2.1"},
        {"negative.test", 0, 0, "192.0.2.1"},
        {"truncated.test", 0, 60, "192.0.2.1 192.0.2.2 192.0.2.3"},
        {"noisy.test", 0, 60, "192.0.2.1"},
        {"absent.test", -ENOENT, RESOLVER_TTL_NEGATIVE_S, ""},
        {"empty.test", -ENOENT, RESOLVER_TTL_NEGATIVE_S, ""},
        {"dangling.test", -ENOENT, RESOLVER_TTL_NEGATIVE_S, ""},
        {"failed.test", -EIO, RESOLVER_TTL_NEGATIVE_S, ""},
        {"cut.test", -EIO, RESOLVER_TTL_NEGATIVE_S, ""},
        {"secret.onion", -ENOENT, RESOLVER_TTL_NEGATIVE_S, ""},
    };
    struct bench *b = bench_start(AMPLE_MS);

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct resolved answer = resolve(b, rows[i].name);

        print_message("%s\n", rows[i].name);
        assert_int_equal(answer.error, rows[i].error);
        assert_int_equal(answer.ttl_s, rows[i].ttl_s);
        assert_string_equal(addresses_of(&answer), rows[i].addresses);
    }
    bench_end(b);
}

static void silence_is_a_timeout(void **state)
{
    struct bench *b = bench_start(SHORT_MS);
    struct resolved answer = resolve(b, "a.silent.test");

    (void)state;
    assert_int_equal(answer.error, -ETIMEDOUT);
    assert_int_equal(answer.ttl_s, RESOLVER_TTL_NEGATIVE_S);
    assert_int_equal(answer.count, 0);
    wait_for_questions(b, 4); /* A and AAAA, and each twice */
    bench_end(b);
}

/* A server that is silent about AAAA is common enough. */
static void one_family_is_enough(void **state)
{
    struct bench *b = bench_start(LONGER_MS);
    struct resolved answer = resolve(b, "half.test");

    (void)state;
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.ttl_s, 9);
    assert_string_equal(addresses_of(&answer), "192.0.2.1");
    bench_end(b);
}

/* The port of a server that has been there. */
static unsigned closed_port(void)
{
    struct dns_server server;

    assert_true(dns_start(&server));
    dns_stop(&server);
    return server.port;
}

static void no_server_is_a_failure(void **state)
{
    struct bench b = {.resolver = NULL};
    struct resolver_setup setup = {.workers = 1, .timeout_ms = AMPLE_MS, .servers = b.servers};
    struct resolved answer;

    (void)state;
    snprintf(b.servers, sizeof(b.servers), "127.0.0.1:%u", closed_port());
    b.resolver = resolver_create(&setup);
    assert_non_null(b.resolver);
    assert_int_equal(resolver_start(b.resolver), 0);
    answer = resolve(&b, "v4.test");
    assert_int_equal(answer.error, -EIO);
    resolver_destroy(b.resolver);
}

static void the_next_server_is_asked(void **state)
{
    struct bench *b = bench_make(AMPLE_MS);
    struct resolver_setup setup = {.workers = 1, .timeout_ms = AMPLE_MS, .servers = b->servers};
    struct resolved answer;

    (void)state;
    resolver_destroy(b->resolver);
    snprintf(b->servers, sizeof(b->servers), "127.0.0.1:%u,127.0.0.1:%u", closed_port(),
             b->server.port);
    b->resolver = resolver_create(&setup);
    assert_non_null(b->resolver);
    assert_int_equal(resolver_start(b->resolver), 0);
    answer = resolve(b, "v4.test");
    assert_int_equal(answer.error, 0);
    assert_string_equal(addresses_of(&answer), "192.0.2.1");
    bench_end(b);
}

static void identical_names_are_joined(void **state)
{
    struct bench *b = bench_make(AMPLE_MS);
    bool seen[WORKERS][3] = {{false}};

    (void)state;
    for (uint32_t i = 0; i < WORKERS * 3; i++)
        assert_true(ask(b, i % WORKERS, "kept.test", i / WORKERS));
    assert_int_equal(resolver_start(b->resolver), 0);
    wait_for_questions(b, 2);
    dns_release(&b->server);
    for (unsigned i = 0; i < WORKERS * 3; i++) {
        struct resolved answer = wait_for_answer(b, i % WORKERS);

        assert_int_equal(answer.error, 0);
        assert_string_equal(addresses_of(&answer), "192.0.2.1");
        assert_in_range(answer.id, 0, 2);
        assert_false(seen[i % WORKERS][answer.id]);
        seen[i % WORKERS][answer.id] = true;
    }
    assert_int_equal(atomic_load(&b->server.questions), 2);
    bench_end(b);
}

static void what_is_open_is_bounded(void **state)
{
    struct bench *b = bench_make(AMPLE_MS);
    bool seen[RESOLVER_OPEN_MAX + 1] = {false};
    struct resolved answer;
    char name[32];

    (void)state;
    for (uint32_t i = 0; i < RESOLVER_OPEN_MAX; i++) {
        snprintf(name, sizeof(name), "%u.any.test", i);
        assert_true(ask(b, 0, name, i));
    }
    assert_false(ask(b, 0, "one.any.test", RESOLVER_OPEN_MAX));
    assert_true(ask(b, 1, "v4.test", 5)); /* another worker's are its own */
    assert_int_equal(resolver_start(b->resolver), 0);
    assert_int_equal(wait_for_answer(b, 1).id, 5);
    answer = wait_for_answer(b, 0);
    assert_int_equal(answer.error, 0);
    seen[answer.id] = true;
    assert_true(ask(b, 0, "v4.test", RESOLVER_OPEN_MAX)); /* one taken, one asked */
    assert_false(ask(b, 0, "v4.test", RESOLVER_OPEN_MAX));
    for (uint32_t i = 0; i < RESOLVER_OPEN_MAX; i++) {
        answer = wait_for_answer(b, 0);
        assert_int_equal(answer.error, 0);
        assert_in_range(answer.id, 0, RESOLVER_OPEN_MAX);
        assert_false(seen[answer.id]);
        seen[answer.id] = true;
    }
    assert_false(resolver_take(b->resolver, 0, &answer));
    bench_end(b);
}

static void silent_names_pass_in_turn(void **state)
{
    struct bench *b = bench_start(SHORT_MS);
    uint64_t sum = 0;
    char name[32];

    (void)state;
    for (uint32_t i = 0; i < 2 * RESOLVER_UNDER_WAY_MAX; i++) {
        snprintf(name, sizeof(name), "%u.silent.test", i);
        assert_true(ask(b, i % WORKERS, name, i));
    }
    for (uint32_t i = 0; i < 2 * RESOLVER_UNDER_WAY_MAX; i++) {
        struct resolved answer = wait_for_answer(b, i % WORKERS);

        assert_int_equal(answer.error, -ETIMEDOUT);
        sum += answer.id;
    }
    assert_int_equal(sum, (uint64_t)RESOLVER_UNDER_WAY_MAX * (2 * RESOLVER_UNDER_WAY_MAX - 1));
    bench_end(b);
}

static void it_stops_with_questions_open(void **state)
{
    struct bench *b = bench_start(AMPLE_MS);
    char name[32];

    (void)state;
    for (uint32_t i = 0; i < RESOLVER_OPEN_MAX; i++) {
        snprintf(name, sizeof(name), "%u.silent.test", i);
        assert_true(ask(b, 0, name, i));
        assert_true(ask(b, 1, "v4.test", i));
    }
    (void)wait_for_answer(b, 1);
    bench_end(b);
}

static void bad_names_are_not_asked_for(void **state)
{
    static const struct {
        const char *name;
        size_t length;
    } rows[] = {
        {"v4\0.test", 8}, {"v4.test\0", 8}, {"v4\\.test", 8},     {"v4 test", 7},  {"v4..test", 8},
        {".v4.test", 8},  {"V4.test", 7},   {"\xc3\xa4.test", 7}, {"v4.test/", 8}, {"fd00::1", 7},
    };
    struct bench *b = bench_start(AMPLE_MS);
    char longest[RESOLVER_NAME_MAX + 1];

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_true(
            resolver_ask(b->resolver, 0, rows[i].name, rows[i].length, (uint32_t)(1000 + i)));
        assert_int_equal(wait_for_answer(b, 0).error, -ENOENT);
    }
    memset(longest, 'a', sizeof(longest));
    for (size_t i = 50; i < sizeof(longest); i += 50)
        longest[i] = '.';
    assert_true(resolver_ask(b->resolver, 0, longest, RESOLVER_NAME_MAX, 1));
    assert_int_equal(wait_for_answer(b, 0).error, -ENOENT);
    assert_true(resolver_ask(b->resolver, 0, longest, 200, 2)); /* a name, but an absent one */
    assert_int_equal(wait_for_answer(b, 0).error, -ENOENT);
    assert_false(resolver_ask(b->resolver, 0, longest, RESOLVER_NAME_MAX + 1, 3));
    assert_false(resolver_ask(b->resolver, 0, longest, 0, 4));
    assert_int_equal(atomic_load(&b->server.questions), 2);
    bench_end(b);
}

static void damaged_answers_are_answered(void **state)
{
    struct bench *b = bench_start(SHORT_MS);
    char name[32];

    (void)state;
    for (uint32_t i = 0; i < 2 * RESOLVER_OPEN_MAX; i++) {
        snprintf(name, sizeof(name), "%u.damaged.test", i);
        assert_true(ask(b, i % WORKERS, name, i));
    }
    for (uint32_t i = 0; i < 2 * RESOLVER_OPEN_MAX; i++) {
        struct resolved answer = wait_for_answer(b, i % WORKERS);

        assert_true(answer.count <= RESOLVED_MAX);
        assert_true(answer.ttl_s <= RESOLVER_TTL_MAX_S);
        if (answer.error) {
            assert_true(answer.error == -ENOENT || answer.error == -EIO ||
                        answer.error == -ETIMEDOUT);
            assert_int_equal(answer.count, 0);
        } else {
            assert_true(answer.count > 0);
        }
    }
    bench_end(b);
}

static void the_hosts_file_has_no_ttl(void **state)
{
    struct bench *b = bench_start(AMPLE_MS);
    struct resolved answer;

    (void)state;
    if (access("/etc/hosts", R_OK) != 0) {
        bench_end(b);
        skip();
    }
    answer = resolve(b, "localhost");
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.ttl_s, RESOLVER_TTL_HOSTS_S);
    assert_true(answer.count > 0);
    assert_int_equal(atomic_load(&b->server.questions), 0);
    bench_end(b);
}

static void servers_are_checked_at_start(void **state)
{
    static const char *const good[] = {NULL, "127.0.0.1", "127.0.0.1:53",
                                       "[::1]:5353,127.0.0.1,[fd00::53]:53"};
    static const char *const bad[] = {"localhost", "127.0.0.1,x", ":53"};

    (void)state;
    for (size_t i = 0; i < COUNT(good) + COUNT(bad); i++) {
        bool is_good = i < COUNT(good);
        struct resolver_setup setup = {.workers = 1,
                                       .servers = is_good ? good[i] : bad[i - COUNT(good)]};
        struct resolver *r = resolver_create(&setup);

        if (is_good) {
            assert_non_null(r);
        } else {
            assert_null(r);
            assert_int_equal(errno, EINVAL);
        }
        resolver_destroy(r);
    }
    assert_null(resolver_create(&(struct resolver_setup){.workers = 0}));
}

static void what_it_did_is_printed(void **state)
{
    struct bench *b = bench_start(AMPLE_MS);
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    (void)state;
    (void)resolve(b, "v4.test");
    (void)resolve(b, "v6.test");
    (void)resolve(b, "absent.test");
    (void)resolve(b, "failed.test");
    resolver_print(b->resolver, out);
    fclose(out);
    assert_string_equal(
        text, "resolver: 4 names asked for, 0 more joined; 2 found, 1 absent, 1 failed\n");
    free(text);
    bench_end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(silence_is_a_timeout),
        cmocka_unit_test(one_family_is_enough),
        cmocka_unit_test(no_server_is_a_failure),
        cmocka_unit_test(the_next_server_is_asked),
        cmocka_unit_test(identical_names_are_joined),
        cmocka_unit_test(what_is_open_is_bounded),
        cmocka_unit_test(silent_names_pass_in_turn),
        cmocka_unit_test(it_stops_with_questions_open),
        cmocka_unit_test(bad_names_are_not_asked_for),
        cmocka_unit_test(damaged_answers_are_answered),
        cmocka_unit_test(the_hosts_file_has_no_ttl),
        cmocka_unit_test(servers_are_checked_at_start),
        cmocka_unit_test(what_it_did_is_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
