/* A session goes: what the proxy has that hangs on it goes first. See
 * messaging_ops.session_closed(). Worker's thread. */
#ifndef COAPGW_GATEWAY_PROXY_PART_H
#define COAPGW_GATEWAY_PROXY_PART_H

#include "gateway/proxy/proxy.h"

/* Of a client's: its relations and transfers. Requests that it waits for at origins go on, as
 * others may wait for the same, but nobody is answered. Of one of ours: its port is free. May be
 * called again for the same session. */
void part_session(struct proxy *p, struct session *s);

#endif
