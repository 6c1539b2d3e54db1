/* A place in the configuration file, and the one way to say that something is wrong there.
 *
 * A place is a key path such as upstreams[0].servers[1] with the line that it is on. Places live on
 * the stack of whoever reads that part of the file and point to the place that they are inside of.
 * One thread; nothing is owned. */
#ifndef COAPGW_CONFIG_PLACE_H
#define COAPGW_CONFIG_PLACE_H

#include <stdio.h>

#include "config/document.h"

#define REPORT_MAX 100 /* errors that are written; a file with more is not a configuration */

struct report {
    FILE *out;
    const char *file; /* as it stands in messages */
    unsigned errors;
};

struct place {
    struct report *report;
    const struct place *parent; /* NULL: the whole file */
    const char *key;            /* NULL: the entry `index` of a list */
    unsigned index;
    const struct node *node; /* NULL: not in the file */
    unsigned line;           /* of the node, or of the nearest one around it */
};

struct place place_root(struct report *report, const struct node *node);
struct place place_key(const struct place *parent, const char *key);
struct place place_entry(const struct place *parent, unsigned index);

/* How messages show a URL of Redis. */
#define REDIS_URL_SHOWN "redis://[USER:PASSWORD@]HOST[:PORT][/DB]"

/* Writes "FILE:LINE: KEY: " and the message as one line: what is wrong; what to write instead.
 * Control characters of values are escaped. Any other URL of Redis, which may hold a password and
 * may stand in the wrong place of a file, is masked. */
void place_error(const struct place *at, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a key of the mapping at `parent`. */
void key_error(const struct place *parent, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For what has no key path: `what` stands in its place. Line 0: there is none. */
void report_error(struct report *report, unsigned line, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
