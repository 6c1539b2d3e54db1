/* The command line of coapgun. */
#ifndef COAPGW_BENCH_GUN_OPTIONS_H
#define COAPGW_BENCH_GUN_OPTIONS_H

#include "bench/gun/gun.h"

/* Reads the command line; whatever is wrong with it ends the process with status 2, --help and
 * --version with 0. options_free() frees what it took. */
void options_parse(struct gun_options *o, int argc, char **argv);
void options_free(struct gun_options *o);

#endif
