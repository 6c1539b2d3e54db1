/* An observe relation as JSON. */
#ifndef COAPGW_GATEWAY_CONTROL_ADMIN_RELATION_H
#define COAPGW_GATEWAY_CONTROL_ADMIN_RELATION_H

#include <stdint.h>

#include <jansson.h>

#include "gateway/control/admin_http.h"

/* The row at `*at` of an answer; `*at` is moved on. NULL when the answer is shorter. */
json_t *relation_json(const struct admin *admin, unsigned worker, const struct parcel *answer,
                      uint32_t *at);

/* What a request asks for, from its encoded options: "//host/path?query", with what is not allowed
 * there escaped (RFC 7252 6.5). `text` has room for three times `length` and 8 more bytes, which
 * includes the final zero. */
void relation_resource(const uint8_t *options, uint16_t length, char *text);

#endif
