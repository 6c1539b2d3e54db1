/* What came of a run, as a table and as JSON. coapgun(1) documents the JSON. */
#ifndef COAPGW_BENCH_GUN_REPORT_H
#define COAPGW_BENCH_GUN_REPORT_H

#include "bench/gun/gun.h"

void report_table(const struct gun_options *o, const struct gun_result *r,
                  const struct gun_ramp *ramp);

/* One line. 0, or a negative errno that has been said. */
int report_json(const struct gun_options *o, const struct gun_result *r,
                const struct gun_ramp *ramp);

#endif
