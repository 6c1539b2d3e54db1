/* What serves operators and tests: the admin endpoint, and packets that are lost on purpose. */
#include "config/loader.h"
#include "config/value.h"

#define LISTEN_DEFAULT "127.0.0.1:9683"

void load_admin(struct loader *l)
{
    struct config_admin *out = &l->config->admin;

    out->enabled = true;
    value_endpoint(LISTEN_DEFAULT, &out->listen);
}

void load_debug(struct loader *l)
{
    (void)l;
}
