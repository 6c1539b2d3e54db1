/* Metrics in the text format of Prometheus, version 0.0.4: all samples of a metric stand together,
 * behind its HELP and TYPE. Names of the configuration need no escapes as labels. Counters and load
 * are read as they stand; what is in use, and how servers are, workers are asked for, and those
 * that do not answer in time are left out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_version.h>

#include "gateway/control/admin_http.h"
#include "gateway/control/resolver.h"

#define TYPE_TEXT "text/plain; version=0.0.4; charset=utf-8"

/* All that one scrape has found out. */
struct scrape {
    FILE *out;
    const struct admin *admin;
    unsigned workers;
    struct {
        struct counters counters;
        struct worker_load load;
        struct worker_usage usage;
        bool answered;
    } by_worker[];
};

static void describe(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s.\n# TYPE %s %s\n", name, help, name, type);
}

/* ---- counters ---- */

static const struct {
    const char *name, *help;
    size_t offset;
} rows[] = {
#define X(name, meaning) {"coapgw_" #name "_total", meaning, offsetof(struct counters, name)},
    COUNTERS_DEVICE(X) COUNTERS_CORE(X)
#undef X
};

static void put_rows(const struct scrape *s)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        describe(s->out, rows[i].name, "counter", rows[i].help);
        for (unsigned w = 0; w < s->workers; w++) {
            uint64_t value;

            memcpy(&value, (const char *)&s->by_worker[w].counters + rows[i].offset, sizeof(value));
            fprintf(s->out, "%s{worker=\"%u\"} %llu\n", rows[i].name, w, (unsigned long long)value);
        }
    }
}

static void put_types(const struct scrape *s)
{
    static const char *const types[] = {"con", "non", "ack", "rst"};
    static const char received[] = "coapgw_rx_messages_total", sent[] = "coapgw_tx_messages_total";

    describe(s->out, received, "counter", "messages received, by type");
    for (unsigned w = 0; w < s->workers; w++)
        for (unsigned i = 0; i < 4; i++)
            fprintf(s->out, "%s{worker=\"%u\",type=\"%s\"} %llu\n", received, w, types[i],
                    (unsigned long long)s->by_worker[w].counters.rx_type[i]);
    describe(s->out, sent, "counter", "messages sent, by type");
    for (unsigned w = 0; w < s->workers; w++)
        for (unsigned i = 0; i < 4; i++)
            fprintf(s->out, "%s{worker=\"%u\",type=\"%s\"} %llu\n", sent, w, types[i],
                    (unsigned long long)s->by_worker[w].counters.tx_type[i]);
}

static void put_verdicts(const struct scrape *s)
{
    static const char name[] = "coapgw_rx_verdicts_total";

    describe(s->out, name, "counter", "datagrams, by what the parser found them to be");
    for (unsigned w = 0; w < s->workers; w++)
        for (unsigned v = 0; v < VERDICT_COUNT; v++)
            fprintf(s->out, "%s{worker=\"%u\",verdict=\"%s\"} %llu\n", name, w,
                    message_verdict_name(v),
                    (unsigned long long)s->by_worker[w].counters.rx_verdict[v]);
}

/* Of 256 codes those that have occurred. */
static void put_codes(const struct scrape *s, bool received)
{
    const char *name = received ? "coapgw_rx_codes_total" : "coapgw_tx_codes_total";

    describe(s->out, name, "counter",
             received ? "messages received, by code, of codes that have occurred"
                      : "messages sent, by code, of codes that have occurred");
    for (unsigned w = 0; w < s->workers; w++) {
        const struct counters *c = &s->by_worker[w].counters;
        const uint64_t *codes = received ? c->rx_code : c->tx_code;

        for (unsigned code = 0; code < 256; code++)
            if (codes[code])
                fprintf(s->out, "%s{worker=\"%u\",code=\"%u.%02u\"} %llu\n", name, w,
                        code_class((uint8_t)code), code_detail((uint8_t)code),
                        (unsigned long long)codes[code]);
    }
}

/* ---- load ---- */

static void put_count(const struct scrape *s, const char *name, const char *help, size_t offset)
{
    describe(s->out, name, "counter", help);
    for (unsigned w = 0; w < s->workers; w++) {
        uint64_t value;

        memcpy(&value, (const char *)&s->by_worker[w].load + offset, sizeof(value));
        fprintf(s->out, "%s{worker=\"%u\"} %llu\n", name, w, (unsigned long long)value);
    }
}

static void put_time(const struct scrape *s, const char *name, const char *type, const char *help,
                     size_t offset)
{
    describe(s->out, name, type, help);
    for (unsigned w = 0; w < s->workers; w++) {
        uint64_t us;

        memcpy(&us, (const char *)&s->by_worker[w].load + offset, sizeof(us));
        fprintf(s->out, "%s{worker=\"%u\"} %.6f\n", name, w, (double)us / 1e6);
    }
}

static void put_load(const struct scrape *s)
{
    put_count(s, "coapgw_loop_turns_total", "turns of the worker's loop",
              offsetof(struct worker_load, turns));
    put_count(s, "coapgw_loop_busy_turns_total", "turns that did something",
              offsetof(struct worker_load, busy_turns));
    put_count(s, "coapgw_loop_sleeps_total", "times that the loop slept",
              offsetof(struct worker_load, sleeps));
    put_time(s, "coapgw_loop_busy_seconds_total", "counter", "time in turns that did something",
             offsetof(struct worker_load, busy_us));
    put_time(s, "coapgw_loop_idle_seconds_total", "counter",
             "time in turns that did nothing, sleep included",
             offsetof(struct worker_load, idle_us));
    put_time(s, "coapgw_loop_longest_turn_seconds", "gauge",
             "the longest turn that did something, since the start",
             offsetof(struct worker_load, longest_us));
    put_time(s, "coapgw_loop_turn_age_seconds", "gauge",
             "how long the turn under way has lasted: more than a second and the loop stands still",
             offsetof(struct worker_load, turn_age_us));
}

/* ---- usage ---- */

/* Members of struct worker_usage: what is in use, and its limit; 4 or 8 bytes. */
static const struct {
    const char *name;
    size_t used, most, bytes;
} uses[] = {
#define USE(name)                                                                              \
    {                                                                                          \
#name, offsetof(struct worker_usage, name), offsetof(struct worker_usage, name##_max), \
            sizeof(((struct worker_usage *)NULL)->name)                                        \
    }
    USE(sessions),   USE(exchanges),   USE(forwards),       USE(outbound),
    USE(remembered), USE(chunks),      USE(observations),   USE(relations),
    USE(transfers),  USE(cache_bytes), USE(assembly_bytes), USE(destinations),
    USE(resources),  USE(async),       USE(associations),   USE(handshakes),
#undef USE
};

static uint64_t use_at(const struct worker_usage *usage, size_t offset, size_t bytes)
{
    uint64_t wide;
    uint32_t narrow;

    if (bytes == sizeof(narrow)) {
        memcpy(&narrow, (const char *)usage + offset, sizeof(narrow));
        return narrow;
    }
    memcpy(&wide, (const char *)usage + offset, sizeof(wide));
    return wide;
}

static void put_uses(const struct scrape *s, const char *name, const char *help, bool limits)
{
    describe(s->out, name, "gauge", help);
    for (unsigned w = 0; w < s->workers; w++)
        for (size_t i = 0; s->by_worker[w].answered && i < sizeof(uses) / sizeof(uses[0]); i++)
            fprintf(s->out, "%s{worker=\"%u\",resource=\"%s\"} %llu\n", name, w, uses[i].name,
                    (unsigned long long)use_at(&s->by_worker[w].usage,
                                               limits ? uses[i].most : uses[i].used,
                                               uses[i].bytes));
}

static void put_usage(const struct scrape *s)
{
    put_uses(s, "coapgw_in_use", "how much of each limit is in use", false);
    put_uses(s, "coapgw_limit", "the limits of what is in use", true);
    describe(s->out, "coapgw_timers", "gauge", "timers that are armed");
    for (unsigned w = 0; w < s->workers; w++)
        if (s->by_worker[w].answered)
            fprintf(s->out, "coapgw_timers{worker=\"%u\"} %llu\n", w,
                    (unsigned long long)s->by_worker[w].usage.timers);
    describe(s->out, "coapgw_worker_answers", "gauge",
             "1: the worker has answered within a second what is in use; 0: it has not");
    for (unsigned w = 0; w < s->workers; w++)
        fprintf(s->out, "coapgw_worker_answers{worker=\"%u\"} %d\n", w, s->by_worker[w].answered);
}

static void ask_usage(struct scrape *s, struct ask *ask)
{
    struct mail *mail = &ask->admin->mail;
    uint64_t serials[CONFIG_WORKERS_MAX];
    struct inspect_question q = {0};

    for (unsigned w = 0; w < s->workers; w++)
        serials[w] = mail_post(mail, w, INSPECT_USAGE, &q, NULL, 0);
    for (unsigned w = 0; w < s->workers; w++) {
        struct parcel *answer = mail_await(mail, w, serials[w], ask->deadline_us);

        if (!answer)
            continue;
        s->by_worker[w].answered =
            parcel_read(answer, sizeof(struct inspect_head), &s->by_worker[w].usage,
                        sizeof(s->by_worker[w].usage));
        mail_free(mail, answer);
    }
}

/* ---- servers of upstreams ---- */

static void put_server(const struct scrape *s, unsigned worker, const struct inspect_server *row)
{
    char text[ENDPOINT_TEXT_BYTES];

    if (row->upstream >= s->admin->config->upstream_count)
        return;
    fprintf(s->out, "coapgw_server_up{worker=\"%u\",upstream=\"%s\",server=\"%s\"} %d\n", worker,
            s->admin->config->upstreams[row->upstream].name,
            endpoint_format(&row->endpoint.address, row->endpoint.port, text), !row->down);
}

/* The last error is a label, as it is a text: there is one series for each server and worker. */
static void put_association(const struct scrape *s, unsigned worker,
                            const struct inspect_server *row)
{
    static const char *const states[] = {[SERVER_APART] = "none",
                                         [SERVER_SHAKING_HANDS] = "handshake",
                                         [SERVER_ASSOCIATED] = "established"};
    char text[ENDPOINT_TEXT_BYTES];

    if (row->upstream >= s->admin->config->upstream_count || row->transport != TRANSPORT_DTLS)
        return;
    fprintf(s->out,
            "coapgw_server_associations{worker=\"%u\",upstream=\"%s\",server=\"%s\",state=\"%s\","
            "last_error=\"%s\"} %u\n",
            worker, s->admin->config->upstreams[row->upstream].name,
            endpoint_format(&row->endpoint.address, row->endpoint.port, text),
            states[row->association], row->why, row->associations);
}

typedef void put_row(const struct scrape *s, unsigned worker, const struct inspect_server *row);

static void put_servers_of(const struct scrape *s, struct ask *ask, unsigned worker, put_row *put)
{
    struct mail *mail = &ask->admin->mail;
    struct inspect_question q = {0};
    struct inspect_head head;
    struct parcel *answer;

    do {
        if (mail_ask(mail, worker, INSPECT_SERVERS, &q, NULL, 0, ask->deadline_us, &head, &answer))
            return;
        for (uint32_t i = 0; i < head.count; i++) {
            struct inspect_server row;

            if (parcel_read(answer, (uint32_t)(sizeof(head) + i * sizeof(row)), &row, sizeof(row)))
                put(s, worker, &row);
        }
        mail_free(mail, answer);
        q.from = head.next;
    } while (head.next != INSPECT_END);
}

static bool has_dtls(const struct config *config)
{
    for (unsigned i = 0; i < config->upstream_count; i++)
        if (config->upstreams[i].dtls)
            return true;
    return false;
}

static void put_servers(const struct scrape *s, struct ask *ask)
{
    describe(s->out, "coapgw_server_up", "gauge", "1: the server is up, as the worker sees it");
    for (unsigned w = 0; w < s->workers; w++)
        if (s->by_worker[w].answered)
            put_servers_of(s, ask, w, put_server);
    if (!has_dtls(s->admin->config))
        return;
    describe(s->out, "coapgw_server_associations", "gauge", "DTLS associations with the server");
    for (unsigned w = 0; w < s->workers; w++)
        if (s->by_worker[w].answered)
            put_servers_of(s, ask, w, put_association);
}

/* ---- devices ---- */

static const struct {
    const char *name, *help;
    size_t offset;
} figures[] = {
#define FIGURE(name, help)                                                            \
    {                                                                                 \
        "coapgw_interface_" #name "_total", help, offsetof(struct port_figures, name) \
    }
    FIGURE(rx_packets, "packets that the device has received"),
    FIGURE(rx_bytes, "bytes of these packets"),
    FIGURE(tx_packets, "packets that the device has sent"),
    FIGURE(tx_bytes, "bytes of these packets"),
    FIGURE(rx_missed, "packets that the device had no room for"),
    FIGURE(rx_errors, "packets that came in damaged"),
    FIGURE(tx_errors, "packets that could not be sent"),
    FIGURE(rx_no_buffer, "times that no buffer was free for a packet"),
#undef FIGURE
};

static void put_ports(const struct scrape *s)
{
    const struct vitals *vitals = &s->admin->setup.vitals;
    const struct config *config = s->admin->config;

    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        describe(s->out, figures[i].name, "counter", figures[i].help);
        for (unsigned n = 0; n < config->interface_count; n++) {
            struct port_figures f;
            uint64_t value;

            if (!vitals->port(vitals->context, n, &f))
                continue;
            memcpy(&value, (const char *)&f + figures[i].offset, sizeof(value));
            fprintf(s->out, "%s{interface=\"%s\"} %llu\n", figures[i].name,
                    config->interfaces[n].name, (unsigned long long)value);
        }
    }
}

/* ---- the control side ---- */

static void put_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    describe(out, name, type, help);
    fprintf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void put_store(const struct scrape *s)
{
    struct store_status st;
    FILE *out = s->out;

    if (!s->admin->setup.store)
        return;
    s->admin->setup.store_status(s->admin->setup.store, &st);
    if (!st.enabled)
        return;
    put_one(out, "coapgw_store_connected", "gauge", "1: the store is there", st.connected);
    put_one(out, "coapgw_store_owner", "gauge",
            "0: another gateway has taken the service address over", st.owner);
    put_one(out, "coapgw_store_resumed", "gauge", "1: all records have been read back", st.resumed);
    put_one(out, "coapgw_store_puts_total", "counter", "records written", st.puts);
    put_one(out, "coapgw_store_deletes_total", "counter", "records deleted", st.deletes);
    put_one(out, "coapgw_store_confirmed_total", "counter", "writes that were confirmed",
            st.confirmed);
    put_one(out, "coapgw_store_failed_total", "counter", "writes that failed", st.failed);
    put_one(out, "coapgw_store_timeouts_total", "counter", "writes that took too long",
            st.timeouts);
    put_one(out, "coapgw_store_read_total", "counter", "records read back", st.read);
    put_one(out, "coapgw_store_rejected_total", "counter",
            "records that were not understood and set aside", st.rejected);
    put_one(out, "coapgw_store_foreign_total", "counter", "records of other listeners", st.foreign);
    put_one(out, "coapgw_store_connects_total", "counter", "connections made to the store",
            st.connects);
    put_one(out, "coapgw_store_keys_found_total", "counter", "pre-shared keys that were found",
            st.keys_found);
    put_one(out, "coapgw_store_keys_unknown_total", "counter",
            "identities without a pre-shared key", st.keys_unknown);
    put_one(out, "coapgw_store_keys_bad_total", "counter", "values that are no pre-shared key",
            st.keys_bad);
    put_one(out, "coapgw_store_keys_failed_total", "counter",
            "pre-shared keys that were not answered, or too late", st.keys_failed);
    put_one(out, "coapgw_store_under_way", "gauge", "commands without a reply yet", st.under_way);
}

static void put_resolver(const struct scrape *s)
{
    struct resolver_status st;
    FILE *out = s->out;

    if (!s->admin->setup.resolver)
        return;
    resolver_status(s->admin->setup.resolver, &st);
    put_one(out, "coapgw_resolver_asked_total", "counter", "host names asked for", st.asked);
    put_one(out, "coapgw_resolver_joined_total", "counter",
            "host names asked for while they were being asked for", st.joined);
    put_one(out, "coapgw_resolver_found_total", "counter", "host names with an address", st.found);
    put_one(out, "coapgw_resolver_absent_total", "counter", "host names that do not exist",
            st.absent);
    put_one(out, "coapgw_resolver_failed_total", "counter",
            "host names that could not be asked for", st.failed);
}

static void put_process(const struct scrape *s)
{
    describe(s->out, "coapgw_build_info", "gauge", "1, with the version");
    fprintf(s->out, "coapgw_build_info{version=\"%s\",dpdk=\"%s\"} 1\n", COAPGW_VERSION,
            rte_version());
    describe(s->out, "coapgw_workers", "gauge", "how many workers there are");
    fprintf(s->out, "coapgw_workers %u\n", s->workers);
    put_one(s->out, "process_start_time_seconds", "gauge", "when the gateway was started",
            s->admin->started_s);
}

/* ---- all of it ---- */

static void observe(struct scrape *s, struct ask *ask)
{
    const struct vitals *vitals = &s->admin->setup.vitals;

    for (unsigned w = 0; w < s->workers; w++) {
        vitals->counters(vitals->context, w, &s->by_worker[w].counters);
        vitals->load(vitals->context, w, &s->by_worker[w].load);
    }
    ask_usage(s, ask);
}

static void put_all(const struct scrape *s, struct ask *ask)
{
    put_process(s);
    put_rows(s);
    put_types(s);
    put_verdicts(s);
    put_codes(s, true);
    put_codes(s, false);
    put_load(s);
    put_usage(s);
    put_servers(s, ask);
    put_ports(s);
    put_store(s);
    put_resolver(s);
}

/* struct counters is aligned to a cache line. */
static struct scrape *new_scrape(const struct admin *admin)
{
    const unsigned workers = admin->config->workers;
    struct scrape *s = NULL;
    const size_t bytes = sizeof(*s) + workers * sizeof(s->by_worker[0]);

    if (posix_memalign((void **)&s, _Alignof(struct scrape), bytes) != 0)
        return NULL;
    memset(s, 0, bytes);
    s->admin = admin;
    s->workers = workers;
    return s;
}

void admin_get_metrics(struct ask *ask)
{
    static const char *const names[] = {NULL};
    struct scrape *s;
    char *text = NULL;
    size_t length = 0;

    if (!ask_knows(ask, names))
        return;
    s = new_scrape(ask->admin);
    if (s)
        s->out = open_memstream(&text, &length);
    if (s && s->out) {
        observe(s, ask);
        put_all(s, ask);
        if (fclose(s->out) != 0) {
            free(text);
            text = NULL;
        }
    }
    free(s);
    ask_reply(ask, MHD_HTTP_OK, TYPE_TEXT, text, length);
}
