/* What the files of the command line share. */
#ifndef COAPGW_BENCH_GUN_OPTIONS_PARTS_H
#define COAPGW_BENCH_GUN_OPTIONS_PARTS_H

#include "bench/gun/options.h"

extern const char options_help[];

/* Ends the process with status 2. */
_Noreturn void options_bad(const char *option, const char *value, const char *wanted);

/* What only the whole command line shows: defaults that depend on others, and contradictions. */
void options_finish(struct gun_options *o);

#endif
