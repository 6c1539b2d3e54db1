/* From which of the gateway's own addresses a destination is reached. Pure; any thread. */
#ifndef COAPGW_GATEWAY_LOCAL_H
#define COAPGW_GATEWAY_LOCAL_H

#include "config/config.h"

/* An index into config.locals: the one in whose subnet the destination is, or one of an interface
 * with a gateway of its family. Negative: there is none. */
int local_for(const struct config *config, const struct address *destination);

#endif
