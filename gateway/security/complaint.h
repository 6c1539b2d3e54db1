/* What is wrong with the files of credentials, said as the configuration's errors are: the file and
 * line of the configuration that names it, its key, the file, and what to do. One thread. */
#ifndef COAPGW_GATEWAY_SECURITY_COMPLAINT_H
#define COAPGW_GATEWAY_SECURITY_COMPLAINT_H

#include <stdio.h>

#include "config/config.h"

struct complaints {
    FILE *out;
    const struct config *config;
    const char *list; /* "listeners" or "upstreams": whose dtls is being read */
    unsigned index;
    unsigned wrong; /* errors so far; warnings do not count */
};

/* `line` is one of the file itself; 0: of none. */
void complain(struct complaints *c, const struct config_file *file, const char *key, unsigned line,
              const char *format, ...) __attribute__((format(printf, 5, 6)));
void complain_softly(struct complaints *c, const struct config_file *file, const char *key,
                     unsigned line, const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
