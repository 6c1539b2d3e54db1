/* What the files of the command line share. */
#ifndef COAPGW_BENCH_GUN_OPTIONS_PARTS_H
#define COAPGW_BENCH_GUN_OPTIONS_PARTS_H

#include "bench/gun/options.h"

extern const char options_help[];

/* Ends the process with status 2. */
_Noreturn void options_bad(const char *option, const char *value, const char *wanted);

/* A number of the command line. */
uint32_t options_number(const char *option, const char *text, uint32_t low, uint32_t high);

/* "IP:PORT", where a scheme may stand before it and tells the port when there is none. */
void options_endpoint(const char *option, const char *text, const char *scheme,
                      struct endpoint *out);

/* ---- options_secure.c ---- */

void options_psk(struct gun_options *o, const char *text);
void options_suite(struct gun_options *o, const char *text);
void options_secure_defaults(struct gun_options *o);
void options_secure_free(struct gun_options *o);

/* What only the whole command line shows: defaults that depend on others, and contradictions. */
void options_finish(struct gun_options *o);

#endif
