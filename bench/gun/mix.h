/* Which requests there are, in which shares: --mix, --path and --paths.
 *
 * Called at start only. What is wrong is said on stderr, with the option or the file and the line;
 * -EINVAL or another negative errno is returned. */
#ifndef COAPGW_BENCH_GUN_MIX_H
#define COAPGW_BENCH_GUN_MIX_H

#include "bench/gun/gun.h"

/* "get=80,post=20": shares of any sum but 0, each at most 1,000,000. */
int mix_parse(const char *text, uint32_t shares[GUN_KINDS]);

/* Appends one path for each kind of the mix, or for one. Copies `text`. */
int mix_add_path(struct gun_options *o, const char *text, uint32_t weight, int kind);

/* A line each "[WEIGHT] [METHOD] PATH"; # begins a comment. */
int mix_read_paths(struct gun_options *o, const char *file);

/* One entry of a plan: a request of this kind with this path. */
struct mix_entry {
    uint16_t path; /* index */
    uint8_t kind;
    uint8_t type;    /* TYPE_CON or TYPE_NON */
    uint16_t form;   /* the engine's: what is sent, where that is always the same ... */
    uint16_t simple; /* ... and all: one message */
};

#define MIX_PLAN_ENTRIES 4096

/* The requests of one round in the order in which they go: shares are right within one entry, and
 * the order is the same in each run. Fills the mix in where none was given. */
int mix_plan(struct gun_options *o, struct mix_entry plan[MIX_PLAN_ENTRIES]);

/* Whether a path is used for a kind of request. One without a method serves all kinds of --mix, and
 * without --mix GET and --observe. After mix_plan(). */
bool mix_path_is_for(const struct gun_options *o, unsigned path, unsigned kind);

void mix_free_paths(struct gun_options *o);

#endif
