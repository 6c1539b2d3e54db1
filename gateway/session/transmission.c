#include "gateway/session/transmission.h"

#include "gateway/random.h"

#define MILLI 1000u

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
