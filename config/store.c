/* The store: where Redis is, and how much the gateway waits for it. */
#include "config/loader.h"
#include "config/quantity.h"
#include "config/value.h"

#define PREFIX_DEFAULT "coapgw"

#define SECOND_US UINT64_C(1000000)

/* ---- the service ---- */

/* The first listener is what stays when others come and go. */
static void default_service(struct loader *l, struct config_store *out)
{
    const struct config *config = l->config;
    const struct config_listener *first = &config->listeners[0];
    char text[ENDPOINT_TEXT_BYTES] = "";

    if (config->listener_count && first->local < config->local_count)
        endpoint_format(&config->locals[first->local].address, first->port, text);
    out->service = loader_text(l, text);
}

void load_store(struct loader *l)
{
    struct config_store *out = &l->config->store;

    out->prefix = loader_text(l, PREFIX_DEFAULT);
    default_service(l, out);
    out->timeout_ms = 500;
    out->save_freq = 10;
    out->resume_spread_us = 10 * SECOND_US;
}
