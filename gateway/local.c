#include "gateway/local.h"

#define NO_LOCAL (-1)

/* The own address whose subnet contains the server; the longest prefix wins. */
static int local_on_link(const struct config *config, const struct address *server)
{
    int best = NO_LOCAL;

    for (unsigned i = 0; i < config->local_count; i++) {
        const struct local_address *local = &config->locals[i];

        if (address_in_subnet(server, &local->address, local->prefix) &&
            (best == NO_LOCAL || local->prefix > config->locals[best].prefix))
            best = (int)i;
    }
    return best;
}

/* The first address, of the server's family, of an interface with a gateway of that family. An
 * address that is local to the link must not be the source of what leaves it (RFC 4291 2.5.6). */
static int local_by_gateway(const struct config *config, const struct address *server)
{
    bool v4 = address_is_v4(server);

    for (unsigned i = 0; i < config->local_count; i++) {
        const struct local_address *local = &config->locals[i];
        const struct config_interface *interface = &config->interfaces[local->interface];

        if (address_is_v4(&local->address) == v4 && !address_is_link_local(&local->address) &&
            (v4 ? interface->has_gateway : interface->has_gateway6))
            return (int)i;
    }
    return NO_LOCAL;
}

int local_for(const struct config *config, const struct address *destination)
{
    int local = local_on_link(config, destination);

    return local != NO_LOCAL || address_is_link_local(destination)
               ? local
               : local_by_gateway(config, destination);
}
