/* The admin endpoint over HTTP on 127.0.0.1, with one worker that a thread of the test drives, and
 * with what the machinery says of itself made up. */
#include "tests/unit/worker_harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <netinet/in.h>
#include <time.h>

#include <jansson.h>

#include "gateway/control/admin.h"
#include "gateway/control/admin_http.h"
#include "gateway/control/admin_relation.h"

static const char yaml[] =
    "instance: unit\n"
    "interfaces:\n"
    "  - name: south\n"
    "    device: tap:unit0\n"
    "    addresses: [10.99.0.2/24]\n"
    "listeners: [{uri: coap://10.99.0.2}]\n"
    "upstreams:\n"
    "  - name: pair\n"
    "    servers: [coap://10.99.0.4, coap://10.99.0.5]\n"
    "routes:\n"
    "  - {path: /, to: pair}\n"
    "limits: {sessions: 64, exchanges: 32, outbound: 32, queue: 8, remembered: 64, "
    "message_memory: 64KiB, amplification: 0}\n";

static struct rte_mempool *parcels;

struct bench {
    struct harness h;
    struct admin *admin;
    uint16_t port;
    pthread_t pump;
    atomic_bool stop, idle; /* `idle`: the worker takes nothing */
    struct worker_load load;
    struct store_status store;
};

/* ---- what the machinery says ---- */

static void vitals_counters(const void *context, unsigned worker, struct counters *sum)
{
    (void)context;
    assert_int_equal(worker, 0);
    sum->requests += 7;
    sum->rx_code[CODE_GET] += 5;
}

static void vitals_load(const void *context, unsigned worker, struct worker_load *load)
{
    const struct bench *b = context;

    assert_int_equal(worker, 0);
    *load = b->load;
}

static bool vitals_port(const void *context, unsigned interface, struct port_figures *figures)
{
    (void)context;
    (void)interface;
    (void)figures;
    return false;
}

static void fake_store(const struct store *store, struct store_status *status)
{
    *status = ((const struct bench *)(const void *)store)->store;
}

/* ---- start and end ---- */

/* The worker's loop. */
static void *pump(void *context)
{
    struct bench *b = context;
    const struct timespec step = {.tv_nsec = 200000};

    while (!atomic_load(&b->stop)) {
        struct parcel *parcel = atomic_load(&b->idle) ? NULL : admin_take(b->admin, 0);

        if (!parcel) {
            nanosleep(&step, NULL);
            continue;
        }
        worker_told(b->h.worker, parcel, b->h.now);
        while (b->h.told_taken < b->h.told_count) {
            struct parcel *told = b->h.told[--b->h.told_count];

            if (!admin_tell(b->admin, 0, told))
                parcel_free(b->h.parcels, told);
        }
    }
    return NULL;
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct sockaddr_in address;
    socklen_t length = sizeof(address);

    harness_start_full(&b->h, yaml, NULL, parcels);
    b->h.config->admin.listen.port = 0; /* any that is free */
    b->admin = admin_create(b->h.config);
    assert_non_null(b->admin);
    assert_int_equal(getsockname(b->admin->listener, (struct sockaddr *)&address, &length), 0);
    b->port = ntohs(address.sin_port);
    b->store =
        (struct store_status){.enabled = true, .connected = true, .owner = true, .resumed = true};
    assert_int_equal(admin_start(b->admin,
                                 &(struct admin_setup){
                                     .parcels = b->h.parcels,
                                     .vitals = {b, vitals_counters, vitals_load, vitals_port},
                                     .store = (const struct store *)(const void *)b,
                                     .store_status = fake_store,
                                 }),
                     0);
    assert_int_equal(pthread_create(&b->pump, NULL, pump, b), 0);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;

    admin_stop(b->admin);
    atomic_store(&b->stop, true);
    pthread_join(b->pump, NULL);
    admin_destroy(b->admin);
    harness_nothing_left(&b->h);
    harness_stop(&b->h);
    free(b);
    return 0;
}

/* ---- asking ---- */

struct answer {
    unsigned status;
    char *text; /* all of it */
    const char *body;
};

static struct answer ask(const struct bench *b, const char *request)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(b->port)};
    struct timeval patience = {.tv_sec = 20};
    struct answer a = {.text = calloc(1, 1 << 20)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t length = 0;
    ssize_t got;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    while ((got = recv(fd, a.text + length, (1 << 20) - 1 - length, 0)) > 0)
        length += (size_t)got;
    assert_int_equal(got, 0);
    close(fd);
    assert_int_equal(sscanf(a.text, "HTTP/1.%*d %u", &a.status), 1);
    a.body = strstr(a.text, "\r\n\r\n");
    assert_non_null(a.body);
    a.body += 4;
    return a;
}

/* The answer to a GET has this status, and the text is in it. */
static void expect(const struct bench *b, const char *path, unsigned status, const char *text)
{
    char request[256];
    struct answer a;

    snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
    a = ask(b, request);
    if (a.status != status || !strstr(a.body, text))
        fail_msg("GET %s: %s", path, a.text);
    free(a.text);
}

/* ---- health ---- */

static void health_follows_the_store_and_the_loops(void **state)
{
    struct bench *b = *state;

    expect(b, "/healthz", 200, "{\"status\":\"ok\",\"reasons\":[]}");
    b->store.connected = false;
    expect(b, "/healthz", 200, "{\"status\":\"degraded\",\"reasons\":[\"the store is away\"]}");
    strcpy(b->store.error, "Connection \"refused\"");
    expect(b, "/healthz", 200, "[\"the store is away: Connection \\\"refused\\\"\"]");
    strcpy(b->store.error, "ERR \xff\n");
    expect(b, "/healthz", 200, "[\"the store is away: ERR ??\"]");
    expect(b, "/store", 200, "\"error\":\"ERR ??\"");
    b->load.turn_age_us = 3400000;
    expect(b, "/healthz", 503,
           "\"failing\",\"reasons\":[\"worker 0 has stood still for 3.4 s\",\"the");
    b->load.turn_age_us = ADMIN_STILL_US - 1;
    b->store.connected = true;
    b->store.owner = false;
    expect(b, "/healthz", 200, "\"degraded\",\"reasons\":[\"another gateway has taken");
    b->store.connected = false; /* as it is then */
    expect(b, "/healthz", 200, "\"degraded\",\"reasons\":[\"another gateway has taken");
    b->store.enabled = false;
    expect(b, "/healthz", 200, "\"ok\"");
}

static void readiness_waits_for_what_was_before(void **state)
{
    struct bench *b = *state;

    expect(b, "/readyz", 200, "{\"ready\":true}");
    b->store.owner = false;
    expect(b, "/readyz", 503, "another gateway has taken");
    b->store.owner = true;
    b->store.resumed = false;
    expect(b, "/readyz", 503, "records are being read back");
    b->store.connected = false;
    expect(b, "/readyz", 503, "has not been reached yet");
    strcpy(b->store.error, "Connection refused"); /* it has been tried */
    expect(b, "/readyz", 200, "{\"ready\":true}");
    b->store.enabled = false;
    b->store.error[0] = 0;
    expect(b, "/readyz", 200, "{\"ready\":true}");
}

static void the_store_is_described(void **state)
{
    struct bench *b = *state;

    b->store.puts = 5;
    b->store.under_way = 3;
    expect(b, "/store", 200,
           "\"connected\":true,\"owner\":true,\"resumed\":true,\"error\":\"\",\"puts\":5,");
    expect(b, "/store", 200, "\"under_way\":3,");
    expect(b, "/metrics", 200, "\ncoapgw_store_puts_total 5\n");
    expect(b, "/metrics", 200, "\ncoapgw_store_owner 1\n");
    b->store.enabled = false;
    expect(b, "/store", 200, "{\"enabled\":false}\n");
}

/* ---- metrics ---- */

static void metrics_are_what_is_counted(void **state)
{
    struct bench *b = *state;

    b->load = (struct worker_load){.turns = 11,
                                   .busy_turns = 2,
                                   .sleeps = 1,
                                   .busy_us = 1500000,
                                   .idle_us = 2250000,
                                   .longest_us = 123,
                                   .turn_age_us = 45};
    expect(b, "/metrics", 200,
           "\n# TYPE coapgw_requests_total counter\n"
           "coapgw_requests_total{worker=\"0\"} 7\n");
    expect(b, "/metrics", 200, "\ncoapgw_rx_codes_total{worker=\"0\",code=\"0.01\"} 5\n# ");
    expect(b, "/metrics", 200, "\ncoapgw_loop_turns_total{worker=\"0\"} 11\n");
    expect(b, "/metrics", 200, "\ncoapgw_loop_busy_seconds_total{worker=\"0\"} 1.500000\n");
    expect(b, "/metrics", 200, "\ncoapgw_loop_longest_turn_seconds{worker=\"0\"} 0.000123\n");
    expect(b, "/metrics", 200, "\ncoapgw_in_use{worker=\"0\",resource=\"sessions\"} 0\n");
    expect(b, "/metrics", 200, "\ncoapgw_limit{worker=\"0\",resource=\"sessions\"} 64\n");
    expect(b, "/metrics", 200, "\ncoapgw_in_use{worker=\"0\",resource=\"async\"} 0\n");
    expect(b, "/metrics", 200, "\ncoapgw_worker_answers{worker=\"0\"} 1\n");
    expect(b, "/metrics", 200,
           "\ncoapgw_server_up{worker=\"0\",upstream=\"pair\","
           "server=\"10.99.0.5:5683\"} 1\n");
}

/* ---- a worker that does not answer ---- */

static void late_answers_are_thrown_away(void **state)
{
    struct bench *b = *state;

    atomic_store(&b->idle, true);
    expect(b, "/sessions", 504, "{\"error\":\"worker 0 does not answer\"}");
    expect(b, "/upstreams", 504, "worker 0 does not answer");
    expect(b, "/metrics", 200, "\ncoapgw_worker_answers{worker=\"0\"} 0\n");
    expect(b, "/healthz", 200, "ok"); /* says what the loop's clock says */
    atomic_store(&b->idle, false);
    expect(b, "/debug/packet-loss", 200,
           "{\"workers\":[{\"worker\":0,\"packet_loss\":\"0%\",\"sent\":0}]}");
    expect(b, "/sessions", 200, "{\"sessions\":[],\"next\":null}");
    expect(b, "/relations", 200, "{\"relations\":[],\"next\":null}");
}

/* More questions than a ring holds. */
static void a_worker_that_never_answers(void **state)
{
    struct bench *b = *state;
    struct inspect_question q = {0};
    uint64_t serial = 0;
    unsigned n = 0;

    atomic_store(&b->idle, true);
    while (n < 1000 && (serial = mail_post(&b->admin->mail, 0, INSPECT_USAGE, &q, NULL, 0)))
        n++;
    assert_int_equal(serial, 0);
    assert_in_range(n, 10, 100);
    expect(b, "/sessions", 504, "does not answer");
    atomic_store(&b->idle, false);
    expect(b, "/sessions", 200, "\"sessions\"");
}

/* ---- pure functions ---- */

static void resources_are_written_as_uris(void **state)
{
    static const struct {
        const char *options, *text;
        uint16_t length;
    } rows[] = {
        {"", "/", 0},
        {"\xb1"
         "a\x01"
         "b",
         "/a/b", 4},
        {"\xb0", "/", 1},
        {"\xb1"
         "a\x00",
         "/a/", 3},
        {"\xb3"
         "a/b",
         "/a%2Fb", 4},
        {"\xb5"
         "a b%?",
         "/a%20b%25%3F", 6},
        {"\xb2\xc3\xa4", "/%C3%A4", 3},
        {"\xb3&=+", "/&=+", 4},
        {"\xb1"
         "a\x43"
         "x=1\x03"
         "y=2",
         "/a?x=1&y=2", 10},
        {"\xd3\x02"
         "x&y",
         "/?x%26y", 5},
        {"\x34"
         "host\x81"
         "a",
         "//host/a", 7},
        {"\xb1"
         "a\x12"
         "\x27\x10",
         "/a", 5}, /* Content-Format is no part of it */
        {"\xb1"
         "a\x05"
         "b",
         "/a", 4}, /* cut within an option */
        {"\xb1"
         "a\x0d",
         "/a", 3}, /* and within its length */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t *options = malloc(rows[i].length + 1u); /* so that a byte too far is seen */
        char text[64];

        memcpy(options, rows[i].options, rows[i].length);
        options = realloc(options, rows[i].length ? rows[i].length : 1);
        relation_resource(options, rows[i].length, text);
        assert_string_equal(text, rows[i].text);
        free(options);
    }
}

static void hosts_are_local_or_not(void **state)
{
    static const char *const local[] = {"localhost",      "LocalHost:1", "127.0.0.1",
                                        "10.0.0.1:65535", "[::1]",       "[2001:db8::1]:80"};
    static const char *const others[] = {"",
                                         ":80",
                                         "[",
                                         "[]",
                                         "[]:80",
                                         "localhost.",
                                         "localhost:",
                                         "localhost:0",
                                         "localhost:65536",
                                         "localhost:80:80",
                                         "::1",
                                         "example.org",
                                         "127.0.0.1.example.org",
                                         "[localhost]",
                                         "[::1]x",
                                         "[::1]:",
                                         "127.0.0.1 ",
                                         "localhost@example.org"};
    char longest[300];

    (void)state;
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
        if (!admin_host_is_local(local[i]))
            fail_msg("%s", local[i]);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (admin_host_is_local(others[i]))
            fail_msg("%s", others[i]);
    memset(longest, '1', sizeof(longest));
    longest[299] = 0;
    assert_false(admin_host_is_local(longest));
}

static void a_port_that_is_taken_is_refused(void **state)
{
    struct bench *b = *state;

    b->h.config->admin.listen.port = b->port;
    fflush(stderr);
    assert_null(admin_create(b->h.config));
    assert_int_equal(errno, EADDRINUSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(health_follows_the_store_and_the_loops, setup, teardown),
        cmocka_unit_test_setup_teardown(readiness_waits_for_what_was_before, setup, teardown),
        cmocka_unit_test_setup_teardown(the_store_is_described, setup, teardown),
        cmocka_unit_test_setup_teardown(metrics_are_what_is_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(late_answers_are_thrown_away, setup, teardown),
        cmocka_unit_test_setup_teardown(a_worker_that_never_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_that_is_taken_is_refused, setup, teardown),
        cmocka_unit_test(resources_are_written_as_uris),
        cmocka_unit_test(hosts_are_local_or_not),
    };

    harness_eal();
    parcels = parcel_pool_create("unit", 511);
    assert_non_null(parcels);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
