/* What serves operators and tests: the admin endpoint, and messages that are lost on purpose. */
#include "config/loader.h"
#include "config/value.h"

#define ADMIN_ADDRESS "127.0.0.1"
#define ADMIN_PORT    9683

/* It listens on the machine's own network, where the unspecified address is a good one. */
void load_admin(struct loader *l)
{
    struct place mapping = place_key(&l->root, "admin"), at = place_key(&mapping, "listen");
    bool is_none = mapping.node && mapping.node->kind == NODE_SCALAR;
    const struct raw_admin *raw = l->raw->admin;
    const char *text = raw && raw->listen ? raw->listen : ADMIN_ADDRESS;
    struct config_admin *out = &l->config->admin;

    out->enabled = !is_none;
    out->listen.port = ADMIN_PORT;
    if (value_endpoint(text, &out->listen) < 0)
        place_error(&at,
                    "\"%.80s\" is not an address and port; write ADDRESS:PORT, an IPv6 address in "
                    "brackets",
                    text);
    else if (address_is_multicast(&out->listen.address))
        place_error(&at, "\"%.80s\" is a multicast address; write one such as 127.0.0.1:9683",
                    text);
}

void load_debug(struct loader *l)
{
    struct place at = place_key(&l->root, "debug");
    const char *text = l->raw->debug.packet_loss, *why = "";

    if (text && loss_parse(&l->config->packet_loss, text, &why) < 0)
        key_error(&at, "packet_loss",
                  "\"%.80s\" is no specification of loss (%s); write a percentage such as 20%%, or "
                  "up to %d ranges of messages such as 1,5-9",
                  text, why, LOSS_RANGES);
}
