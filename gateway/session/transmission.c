#include "gateway/session/transmission.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/random.h"

#define MILLI 1000u

const struct transmission_range transmission_ranges[TRANSMISSION_PARAMETERS] = {
    [TRANSMISSION_ACK_TIMEOUT] = {"ack_timeout", 1, 3600 * MILLI, false},
    [TRANSMISSION_ACK_RANDOM_FACTOR] = {"ack_random_factor", MILLI, 10 * MILLI, false},
    [TRANSMISSION_MAX_RETRANSMIT] = {"max_retransmit", 0, 20 * MILLI, true},
    [TRANSMISSION_NSTART] = {"nstart", MILLI, 65535 * MILLI, true},
    [TRANSMISSION_DEFAULT_LEISURE] = {"default_leisure", 0, 3600 * MILLI, false},
    [TRANSMISSION_PROBING_RATE] = {"probing_rate", 1, 4000000 * UINT64_C(1000), false},
};

uint64_t transmission_get(const struct transmission *t, enum transmission_parameter which)
{
    switch (which) {
    case TRANSMISSION_ACK_TIMEOUT:
        return t->ack_timeout_ms;
    case TRANSMISSION_ACK_RANDOM_FACTOR:
        return t->ack_random_factor_milli;
    case TRANSMISSION_MAX_RETRANSMIT:
        return (uint64_t)t->max_retransmit * MILLI;
    case TRANSMISSION_NSTART:
        return (uint64_t)t->nstart * MILLI;
    case TRANSMISSION_DEFAULT_LEISURE:
        return t->default_leisure_ms;
    case TRANSMISSION_PROBING_RATE:
        return t->probing_rate_milli;
    case TRANSMISSION_PARAMETERS:
        break;
    }
    return 0;
}

static bool in_range(const struct transmission_range *range, uint64_t value_milli)
{
    return value_milli >= range->lowest_milli && value_milli <= range->highest_milli &&
           (!range->whole || value_milli % MILLI == 0);
}

int transmission_set(struct transmission *t, enum transmission_parameter which,
                     uint64_t value_milli)
{
    if ((unsigned)which >= TRANSMISSION_PARAMETERS)
        return -EINVAL;
    if (!in_range(&transmission_ranges[which], value_milli))
        return -ERANGE;
    switch (which) {
    case TRANSMISSION_ACK_TIMEOUT:
        t->ack_timeout_ms = (uint32_t)value_milli;
        break;
    case TRANSMISSION_ACK_RANDOM_FACTOR:
        t->ack_random_factor_milli = (uint32_t)value_milli;
        break;
    case TRANSMISSION_MAX_RETRANSMIT:
        t->max_retransmit = (uint8_t)(value_milli / MILLI);
        break;
    case TRANSMISSION_NSTART:
        t->nstart = (uint16_t)(value_milli / MILLI);
        break;
    case TRANSMISSION_DEFAULT_LEISURE:
        t->default_leisure_ms = (uint32_t)value_milli;
        break;
    case TRANSMISSION_PROBING_RATE:
        t->probing_rate_milli = (uint32_t)value_milli;
        break;
    case TRANSMISSION_PARAMETERS:
        break;
    }
    return 0;
}

const struct transmission_range *transmission_check(const struct transmission *t)
{
    for (unsigned i = 0; i < TRANSMISSION_PARAMETERS; i++)
        if (!in_range(&transmission_ranges[i], transmission_get(t, (enum transmission_parameter)i)))
            return &transmission_ranges[i];
    return NULL;
}

/* ack_timeout * (2^doublings - 1) * ack_random_factor: at most 3.6e6 * 2^21 * 1e4 < 2^57. */
static uint64_t longest_wait_ms(const struct transmission *t, unsigned doublings)
{
    uint64_t timeouts = (UINT64_C(1) << doublings) - 1;

    return (t->ack_timeout_ms * timeouts * t->ack_random_factor_milli + MILLI - 1) / MILLI;
}

uint32_t transmission_initial_timeout_ms(const struct transmission *t, struct random *random)
{
    uint64_t spread_ms = (uint64_t)t->ack_timeout_ms * (t->ack_random_factor_milli - MILLI) / MILLI;

    return t->ack_timeout_ms + random_below(random, (uint32_t)spread_ms + 1);
}

uint64_t transmission_max_span_ms(const struct transmission *t)
{
    return longest_wait_ms(t, t->max_retransmit);
}

uint64_t transmission_max_wait_ms(const struct transmission *t)
{
    return longest_wait_ms(t, t->max_retransmit + 1u);
}

uint64_t transmission_exchange_lifetime_ms(const struct transmission *t)
{
    return transmission_max_span_ms(t) + UINT64_C(2) * MAX_LATENCY_MS + t->ack_timeout_ms;
}

uint64_t transmission_non_lifetime_ms(const struct transmission *t)
{
    return transmission_max_span_ms(t) + MAX_LATENCY_MS;
}
