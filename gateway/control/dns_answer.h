/* From what c-ares has found to what a worker is told. Pure functions. */
#ifndef COAPGW_GATEWAY_CONTROL_DNS_ANSWER_H
#define COAPGW_GATEWAY_CONTROL_DNS_ANSWER_H

#include <stdbool.h>

#include <ares.h>

#include "gateway/datagram.h"

/* ARES_... as struct resolved tells it: 0 or a negative errno. */
int dns_answer_error(int status);

/* Fills in all but the id. `info` is for ARES_SUCCESS only. `at_once`: it was found without asking
 * a server, so in /etc/hosts. */
void dns_answer_read(struct resolved *answer, int status, const struct ares_addrinfo *info,
                     bool at_once);

/* The same for a question that c-ares was not asked, or has not answered. */
void dns_answer_fail(struct resolved *answer, int error);

#endif
