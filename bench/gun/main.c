/* coapgun: loads a CoAP server with requests of many simulated devices, over any DPDK device or
 * over the kernel's sockets.
 *
 * Exit codes: 0 all answers were right; 1 some were wrong, none came, or it could not run; 2 a bad
 * command line. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "bench/gun/options.h"
#include "bench/gun/progress.h"
#include "bench/gun/report.h"
#include "bench/gun/run.h"

/* For the origin's state: a cache may know that of the run before. */
static void seed(void)
{
    unsigned value;

    if (getrandom(&value, sizeof(value), 0) == sizeof(value))
        srandom(value);
}

static int judge(const struct gun_options *o, const struct gun_result *r)
{
    const struct gun_security *security = r->security;
    bool nothing = r->sent || r->unsent || !o->observers ? !r->answered : !r->notifications;

    if (security && security->failed) {
        fprintf(stderr, "coapgun: %llu handshakes failed: %s\n",
                (unsigned long long)security->failed, security->fault);
        return 1;
    }
    if (security && o->duration_s == 0)
        return 0;
    if (!r->wrong && !r->resets && !r->refused && !nothing)
        return 0;
    fputs("coapgun: answers were wrong, or there were none\n", stderr);
    return 1;
}

static int run_with(struct gun *g, struct gun_options *o, struct carrier *carrier, cpu_set_t *cpus)
{
    static struct gun_ramp ramp;
    struct progress *progress = NULL;
    struct sigaction action = {.sa_handler = run_interrupt, .sa_flags = SA_RESETHAND};
    int status = 1;

    if (engine_start(g, o, carrier) == 0) {
        if (o->core >= 0 && CPU_COUNT(cpus) > 1)
            CPU_CLR((unsigned)o->core, cpus); /* that one is busy */
        if (o->progress)
            progress = progress_start(cpus);
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        run_all(g, &ramp, progress);
        progress_stop(progress);
        report_table(o, g->r, &ramp);
        status = judge(o, g->r);
        if (o->json && report_json(o, g->r, &ramp) != 0)
            status = 1;
    }
    engine_stop(g);
    return status;
}

/* DTLS around the carrier, which is then what is to be used and closed. */
static int put_secure(struct gun *g, const struct gun_options *o, struct carrier **carrier)
{
    int err = secure_open(o, *carrier, &g->secure);

    if (err)
        return err;
    *carrier = secure_carrier(g->secure);
    g->r->security = secure_result(g->secure);
    return 0;
}

int main(int argc, char **argv)
{
    static struct gun gun;
    static struct gun_result result;
    struct gun_options o;
    struct carrier *carrier;
    cpu_set_t cpus;
    int status = 1;

    options_parse(&o, argc, argv);
    sched_getaffinity(0, sizeof(cpus), &cpus); /* before DPDK takes this thread to its core */
    seed();
    gun.r = &result;
    if ((o.device ? carrier_dpdk_open : carrier_kernel_open)(&o, &carrier) == 0) {
        if (!o.identity || put_secure(&gun, &o, &carrier) == 0)
            status = run_with(&gun, &o, carrier, &cpus);
        carrier->close(carrier);
    }
    options_free(&o);
    return status;
}
