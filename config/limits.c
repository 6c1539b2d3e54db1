/* What the gateway holds at the most: limits, the cache, and how observations are kept alive. */
#include <stddef.h>

#include "config/loader.h"
#include "config/quantity.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define SECOND_US UINT64_C(1000000)
#define HOUR_US   (3600 * SECOND_US)
#define HOUR_S    UINT64_C(3600)

#define MANY 16777216

/* ---- limits ---- */

/* One key of `limits`: where its text stands, and where its number goes. */
struct limit {
    struct quantity quantity;
    size_t raw, out, bytes;
};

#define LIMIT(key, kind, min, max, fallback, member)                                               \
    {                                                                                              \
        {#key, QUANTITY_##kind, min, max, fallback}, offsetof(struct raw_limits, key),             \
            offsetof(struct config_limits, member), sizeof(((struct config_limits *)NULL)->member) \
    }

static const struct limit limits[] = {
    LIMIT(sessions, COUNT, 1, 100000000, 1000000, sessions),
    LIMIT(session_idle, TIME_US, SECOND_US, 168 * HOUR_US, 300 * SECOND_US, session_idle_us),
    LIMIT(exchanges, COUNT, 16, MANY, 65536, exchanges),
    LIMIT(outbound, COUNT, 16, MANY, 65536, outbound),
    LIMIT(queue, COUNT, 0, UINT16_MAX, 256, queue),
    LIMIT(remembered, COUNT, 16, 268435456, 1048576, remembered),
    LIMIT(message_memory, SIZE, 64 * KIB, 256 * GIB, 64 * MIB, message_bytes),
    LIMIT(token, COUNT, 8, 1024, 64, token),
    LIMIT(body, SIZE, KIB, 16 * MIB, 64 * KIB, body),
    LIMIT(assembly_memory, SIZE, 64 * KIB, 256 * GIB, 64 * MIB, assembly_bytes),
    LIMIT(transfers, COUNT, 16, MANY, 16384, transfers),
    LIMIT(transfer_idle, TIME_US, SECOND_US, HOUR_US, 247 * SECOND_US, transfer_idle_us),
    LIMIT(observations, COUNT, 0, MANY, 65536, observations),
    LIMIT(relations, COUNT, 0, MANY, 1000000, relations),
    LIMIT(client_requests, COUNT, 1, UINT16_MAX, 64, client_requests),
    LIMIT(client_relations, COUNT, 1, UINT16_MAX, 1024, client_relations),
    LIMIT(destinations, COUNT, 1, UINT16_MAX, 1024, destinations),
    LIMIT(amplification, COUNT, 0, 1000, 3, amplification),
    LIMIT(parameter_sets, COUNT, 0, 65536, 1024, parameter_sets),
    LIMIT(async, COUNT, 1, MANY, 16384, async),
    LIMIT(module_slow, TIME_US, 1, 10 * SECOND_US, 1000, module_slow_us),
    LIMIT(associations, COUNT, 1, 100000000, 100000, associations),
    LIMIT(handshakes, COUNT, 1, 65536, 1024, handshakes),
};

static void read_limit(const struct place *at, const struct limit *limit,
                       const struct raw_limits *raw, struct config_limits *out)
{
    const char *text;
    uint64_t value;
    uint32_t narrow;

    memcpy(&text, (const char *)raw + limit->raw, sizeof(text));
    value = quantity_read(at, &limit->quantity, text);
    narrow = (uint32_t)value;
    if (limit->bytes == sizeof(value))
        memcpy((char *)out + limit->out, &value, sizeof(value));
    else
        memcpy((char *)out + limit->out, &narrow, sizeof(narrow));
}

void load_limits(struct loader *l)
{
    struct config_limits *out = &l->config->limits;
    struct place at = place_key(&l->root, "limits");
    char body[QUANTITY_TEXT_BYTES], assembly[QUANTITY_TEXT_BYTES];

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        read_limit(&at, &limits[i], &l->raw->limits, out);
    if (out->sessions < l->config->workers)
        key_error(&at, "sessions", "%u sessions are fewer than the %u workers; write at least %u",
                  out->sessions, l->config->workers, l->config->workers);
    if (out->associations < l->config->workers)
        key_error(&at, "associations",
                  "%u associations are fewer than the %u workers; write at least %u",
                  out->associations, l->config->workers, l->config->workers);
    if (out->assembly_bytes < out->body)
        key_error(&at, "assembly_memory",
                  "%s do not hold one body of limits.body (%s); write at least that",
                  quantity_format(QUANTITY_SIZE, out->assembly_bytes, assembly),
                  quantity_format(QUANTITY_SIZE, out->body, body));
}

/* ---- how long peers are remembered ---- */

static uint64_t longer_lifetime_ms(uint64_t longest, const struct transmission *transmission)
{
    uint64_t ms = transmission_exchange_lifetime_ms(transmission);

    return ms > longest ? ms : longest;
}

static uint64_t longest_lifetime_ms(const struct config *config)
{
    uint64_t longest = EXCHANGE_LIFETIME_MS;

    for (unsigned i = 0; i < config->listener_count; i++)
        longest = longer_lifetime_ms(longest, &config->listeners[i].transmission);
    for (unsigned i = 0; i < config->upstream_count; i++)
        longest = longer_lifetime_ms(longest, &config->upstreams[i].transmission);
    if (config->forward.enabled)
        longest = longer_lifetime_ms(longest, &config->forward.upstream.transmission);
    return longest;
}

/* A session that is forgotten earlier would take a repeated request for a new one (RFC 7252 4.5).
 */
void load_lifetimes(struct loader *l)
{
    uint64_t least_us = longest_lifetime_ms(l->config) * 1000;
    uint64_t *idle_us = &l->config->limits.session_idle_us;
    char idle[QUANTITY_TEXT_BYTES], least[QUANTITY_TEXT_BYTES];
    struct place at = place_key(&l->root, "limits");

    if (*idle_us >= least_us)
        return;
    if (!l->raw->limits.session_idle)
        *idle_us = least_us;
    else
        key_error(&at, "session_idle",
                  "%s is shorter than EXCHANGE_LIFETIME, which is %s with the transmission "
                  "parameters here; write at least that",
                  quantity_format(QUANTITY_TIME_US, *idle_us, idle),
                  quantity_format(QUANTITY_TIME_US, least_us, least));
}

/* ---- cache and observe ---- */

void load_cache(struct loader *l)
{
    static const struct quantity size = {"size", QUANTITY_SIZE, 64 * KIB, 256 * GIB, 64 * MIB};
    static const struct quantity stale = {"stale_if_error", QUANTITY_TIME_S, 0, 168 * HOUR_S, 0};
    const struct raw_cache *raw = &l->raw->cache;
    struct place at = place_key(&l->root, "cache");

    l->config->cache.bytes = quantity_read_or_zero(&at, &size, raw->size);
    l->config->cache.stale_if_error_s = (uint32_t)quantity_read(&at, &stale, raw->stale_if_error);
}

void load_observe(struct loader *l)
{
    static const struct quantity every = {"confirm_every", QUANTITY_COUNT, 1, UINT16_MAX, 5};
    /* RFC 7641 4.5: at least one in 24 hours. */
    static const struct quantity after = {"confirm_after", QUANTITY_TIME_US, SECOND_US,
                                          24 * HOUR_US, 60 * SECOND_US};
    const struct raw_observe *raw = &l->raw->observe;
    struct place at = place_key(&l->root, "observe");

    l->config->observe.confirm_every = (uint32_t)quantity_read(&at, &every, raw->confirm_every);
    l->config->observe.confirm_after_us = quantity_read(&at, &after, raw->confirm_after);
}
