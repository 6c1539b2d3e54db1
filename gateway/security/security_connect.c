/* Associations of ours with origins: how their handshakes begin, and what ends them early. */
#include <errno.h>
#include <stdio.h>

#include "gateway/security/security_parts.h"

/* The handshake towards an origin in this flow. NULL: there is none. */
static struct contact *connecting(const struct security *s, const struct flow *flow)
{
    struct flow wire = *flow;
    struct contact *c;

    wire.transport = TRANSPORT_UDP;
    c = security_contact_of(s, &wire, places_hash_flow(&s->associations.key, &wire));
    return c && c->role == ASSOCIATION_CLIENT && c->association == POOL_NONE ? c : NULL;
}

int security_connect(struct security *s, unsigned upstream, const struct flow *session,
                     const char *name, uint64_t patience_us)
{
    struct flow wire = *session;
    struct contact *c;
    int err;

    wire.transport = TRANSPORT_UDP;
    if (security_contact_of(s, &wire, places_hash_flow(&s->associations.key, &wire)))
        return -EALREADY;
    c = s->draining ? NULL
                    : security_contact_make(s, &wire, (uint16_t)upstream, ASSOCIATION_CLIENT);
    if (!c)
        return -EBUSY;
    c->until_us = s->now + patience_us;
    c->server_name = name;
    err = security_begin(s, c);
    c->server_name = NULL;
    if (err) {
        security_contact_end(s, c);
        return err;
    }
    security_settle(s, c, handshake_state(c->handshake));
    return 0;
}

bool security_is_connecting(const struct security *s, const struct flow *session)
{
    return connecting(s, session) != NULL;
}

void security_disconnect(struct security *s, const struct flow *session)
{
    struct contact *c = connecting(s, session);

    if (c)
        security_contact_end(s, c);
}

/* What is quoted has to be a message of the handshake in clear (RFC 6347 4.1): type 22, epoch 0. */
bool security_connect_unreachable(struct security *s, const struct flow *wire,
                                  const uint8_t *quoted, size_t length)
{
    struct contact *c = connecting(s, wire);

    if (!c || length < 5 || quoted[0] != RECORD_HANDSHAKE || quoted[3] || quoted[4])
        return false;
    security_fail(s, c, -EHOSTUNREACH, "its port or host is unreachable");
    return true;
}

void security_tell_failure(struct security *s, const struct flow *wire, int error, const char *why)
{
    struct flow flow = *wire;

    flow.transport = TRANSPORT_DTLS;
    s->setup.ops.connected(s->setup.ops.context, &flow, error, why);
}
