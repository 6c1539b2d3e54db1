/* The addresses of a host name, from the system's resolver, which blocks: so it is asked by a
 * thread of its own. That may outlive who asked, by as long as the resolver is patient. */
#ifndef COAPGW_GATEWAY_STORE_LOOKUP_H
#define COAPGW_GATEWAY_STORE_LOOKUP_H

#include <stdbool.h>

#define LOOKUP_MAX        8
#define LOOKUP_TEXT_BYTES 48

struct lookup_result {
    unsigned count;
    char addresses[LOOKUP_MAX][LOOKUP_TEXT_BYTES];
    char error[96]; /* when there are none */
};

struct lookup;

/* NULL with errno set. */
struct lookup *lookup_start(const char *host);

/* False: there is no answer yet. */
bool lookup_take(const struct lookup *lookup, struct lookup_result *result);

/* Whether there has been an answer or not. NULL is nothing. */
void lookup_drop(struct lookup *lookup);

#endif
