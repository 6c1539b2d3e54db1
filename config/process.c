/* What concerns the process as a whole: workers and cores, memory, upstream ports, transmission
 * parameters and the journal. */
#include <errno.h>
#include <inttypes.h>

#include "config/loader.h"
#include "config/quantity.h"
#include "config/value.h"

#define CORE_MAX 1023

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define JOURNAL_DIRECTORY "/run/coapgw"
#define DIRECTORY_MAX     1024

#define PORT_BASE_DEFAULT 32768
#define PORTS_DEFAULT     4096
#define PORTS_MIN         64
#define PORTS_MAX         32768
#define PORT_END          65536

#define HOUR_MS     3600000
#define WAIT_MAX_MS (24 * (uint64_t)HOUR_MS)

#define PROBING_RATE_MAX UINT64_C(4000000000) /* in thousandths, as it is kept */

/* ---- transmission ---- */

static void check_wait(const struct place *at, const struct transmission *t)
{
    char text[QUANTITY_TEXT_BYTES];
    uint64_t wait_ms = transmission_max_wait_ms(t);

    if (wait_ms > WAIT_MAX_MS)
        place_error(at,
                    "MAX_TRANSMIT_WAIT would be %s; write a smaller ack_timeout, "
                    "ack_random_factor or max_retransmit, so that it is at most 24h",
                    quantity_format(QUANTITY_TIME_MS, wait_ms, text));
}

struct transmission transmission_read(const struct place *parent,
                                      const struct raw_transmission *raw,
                                      const struct transmission *base)
{
    struct place at = place_key(parent, "transmission");
    const struct quantity timeout = {"ack_timeout", QUANTITY_TIME_MS, 1, HOUR_MS,
                                     base->ack_timeout_ms};
    const struct quantity factor = {"ack_random_factor", QUANTITY_MILLI, 1000, 10000,
                                    base->ack_random_factor_milli};
    const struct quantity retransmit = {"max_retransmit", QUANTITY_COUNT, 0, 20,
                                        base->max_retransmit};
    const struct quantity nstart = {"nstart", QUANTITY_COUNT, 1, UINT16_MAX, base->nstart};
    const struct quantity leisure = {"default_leisure", QUANTITY_TIME_MS, 0, HOUR_MS,
                                     base->default_leisure_ms};
    const struct quantity probing = {"probing_rate", QUANTITY_MILLI, 1, PROBING_RATE_MAX,
                                     base->probing_rate_milli};
    struct transmission t = *base;

    if (!raw)
        return t;
    t.ack_timeout_ms = (uint32_t)quantity_read(&at, &timeout, raw->ack_timeout);
    t.ack_random_factor_milli = (uint32_t)quantity_read(&at, &factor, raw->ack_random_factor);
    t.max_retransmit = (uint8_t)quantity_read(&at, &retransmit, raw->max_retransmit);
    t.nstart = (uint16_t)quantity_read(&at, &nstart, raw->nstart);
    t.default_leisure_ms = (uint32_t)quantity_read(&at, &leisure, raw->default_leisure);
    t.probing_rate_milli = (uint32_t)quantity_read(&at, &probing, raw->probing_rate);
    check_wait(&at, &t);
    return t;
}

uint64_t keepalive_read(const struct place *parent, const char *text, uint64_t fallback_us)
{
    const struct quantity keepalive = {"keepalive", QUANTITY_TIME_US, 1000000,
                                       UINT64_C(86400000000), fallback_us};

    return quantity_read_or_zero(parent, &keepalive, text);
}

void load_transmission(struct loader *l)
{
    static const struct quantity separate = {"separate_after", QUANTITY_TIME_US, 0, 10000000,
                                             500000};
    const struct transmission defaults = TRANSMISSION_DEFAULTS;

    l->config->transmission = transmission_read(&l->root, &l->raw->transmission, &defaults);
    l->config->separate_after_us = quantity_read(&l->root, &separate, l->raw->separate_after);
    l->config->keepalive_us = keepalive_read(&l->root, l->raw->keepalive, 0);
}

/* ---- workers ---- */

static void load_instance(struct loader *l)
{
    const char *text = l->raw->instance ? l->raw->instance : "coapgw";

    if (!value_is_word(text, "", 32))
        key_error(&l->root, "instance",
                  "\"%.80s\" is not a name; write 1 to 32 letters, digits, _ or -", text);
    l->config->instance = loader_text(l, text);
}

static void report_cores(const struct loader *l, int err)
{
    const char *text = l->raw->cores;

    if (err == -EEXIST)
        key_error(&l->root, "cores", "\"%.80s\" names a core twice; write each one once", text);
    else if (err == -ERANGE)
        key_error(&l->root, "cores", "\"%.80s\" is out of range; write cores from 0 to %d", text,
                  CORE_MAX);
    else if (err == -E2BIG)
        key_error(&l->root, "cores",
                  "\"%.80s\" names more than %d cores; write one for each worker", text,
                  CONFIG_WORKERS_MAX);
    else
        key_error(&l->root, "cores",
                  "\"%.80s\" is not a list of cores; write auto, or a list such as \"2-5,7\"",
                  text);
}

static void load_cores(struct loader *l)
{
    struct config *config = l->config;
    unsigned count = 0;
    int err;

    config->cores_auto = !l->raw->cores || strcmp(l->raw->cores, "auto") == 0;
    if (config->cores_auto)
        return;
    err = value_cores(l->raw->cores, CORE_MAX, config->cores, CONFIG_WORKERS_MAX, &count);
    if (err)
        report_cores(l, err);
    else if (count != config->workers)
        key_error(&l->root, "cores",
                  "\"%.80s\" names %u core%s for %u worker%s; write one core for each worker",
                  l->raw->cores, count, count == 1 ? "" : "s", config->workers,
                  config->workers == 1 ? "" : "s");
}

static void load_memory(struct loader *l)
{
    static const struct quantity size = {"size", QUANTITY_SIZE, 64 * MIB, 1024 * GIB, 512 * MIB};
    struct place at = place_key(&l->root, "memory");

    l->config->huge_pages = l->raw->memory.huge_pages;
    l->config->memory_bytes = quantity_read(&at, &size, l->raw->memory.size);
}

/* The largest power of two up to the usual one with which all workers fit between base and the last
 * port. */
static uint64_t fitting_block(uint64_t base, unsigned workers)
{
    uint64_t block = PORTS_DEFAULT;

    while (block > PORTS_MIN && (base + workers * block > PORT_END || base % block != 0))
        block /= 2;
    return block;
}

static void load_ports(struct loader *l)
{
    static const struct quantity first = {"base", QUANTITY_COUNT, 1024, PORT_END - PORTS_MIN,
                                          PORT_BASE_DEFAULT};
    struct place at = place_key(&l->root, "upstream_ports");
    struct config *config = l->config;
    uint64_t base = quantity_read(&at, &first, l->raw->upstream_ports.base);
    const struct quantity block = {"per_worker", QUANTITY_POWER_OF_TWO, PORTS_MIN, PORTS_MAX,
                                   fitting_block(base, config->workers)};
    uint64_t ports = quantity_read(&at, &block, l->raw->upstream_ports.per_worker);

    if (base % ports != 0)
        key_error(&at, "base",
                  "%" PRIu64 " is not a multiple of per_worker (%" PRIu64 "); write %" PRIu64, base,
                  ports, base > ports ? base - base % ports : ports);
    else if (base + config->workers * ports > PORT_END)
        key_error(&at, l->raw->upstream_ports.per_worker ? "per_worker" : "base",
                  "%u times %" PRIu64 " ports from %" PRIu64
                  " on pass 65535; write a smaller base, per_worker or workers",
                  config->workers, ports, base);
    config->upstream_port_base = (uint16_t)base;
    config->upstream_port_shift = (uint8_t)__builtin_ctzll(ports);
}

/* ---- the journal ---- */

void load_journal(struct loader *l)
{
    struct place mapping = place_key(&l->root, "journal");
    bool is_none = mapping.node && mapping.node->kind == NODE_SCALAR;
    const struct raw_journal *raw = l->raw->journal;
    const char *directory = raw && raw->directory ? raw->directory : JOURNAL_DIRECTORY;

    if (is_none)
        return;
    if (directory[0] != '/' || strlen(directory) > DIRECTORY_MAX)
        key_error(&mapping, "directory",
                  "\"%.80s\" is not an absolute path of at most %d bytes; write one such as %s",
                  directory, DIRECTORY_MAX, JOURNAL_DIRECTORY);
    l->config->journal.directory = loader_text(l, directory);
}

/* ---- all of it ---- */

void load_process(struct loader *l)
{
    static const struct quantity workers = {"workers", QUANTITY_COUNT, 1, CONFIG_WORKERS_MAX, 1};

    load_instance(l);
    l->config->workers = (unsigned)quantity_read(&l->root, &workers, l->raw->workers);
    l->config->idle = l->raw->idle;
    load_cores(l);
    load_memory(l);
    load_ports(l);
}
