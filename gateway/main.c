/* Start and stop of the process. What is brought up in order goes down in the reverse order, and
 * one path leads there from every failure.
 *
 * Exit codes: 0 stopped in order; 1 it could not start or had to stop, with the reason on stderr; 2
 * a bad command line. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "dpdk/plant.h"
#include "gateway/control/control.h"
#include "gateway/control/resolver.h"

struct command {
    const char *file;
    bool check;
};

static void usage(FILE *out)
{
    fputs("usage: coapgw -c FILE [--check]\n"
          "\n"
          "  -c, --config FILE  the configuration (see /etc/coapgw/coapgw.yaml)\n"
          "      --check        check the configuration and exit\n"
          "  -h, --help         this text\n"
          "  -V, --version      the version\n"
          "\n"
          "SIGTERM and SIGINT stop it in order, SIGUSR1 prints its counters on stderr.\n",
          out);
}

/* 0: go on; otherwise the process ends with `*status`. */
static int parse(int argc, char **argv, struct command *command, int *status)
{
    enum { CHECK = 256 };
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check", no_argument, NULL, CHECK},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    int option;

    *status = 2;
    while ((option = getopt_long(argc, argv, "c:hV", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            command->file = optarg;
            break;
        case CHECK:
            command->check = true;
            break;
        case 'h':
            usage(stdout);
            *status = 0;
            return -1;
        case 'V':
            puts("coapgw " COAPGW_VERSION);
            *status = 0;
            return -1;
        default: /* getopt has said what is wrong */
            fputs("coapgw: try coapgw --help\n", stderr);
            return -1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "coapgw: \"%s\" is not an option; try coapgw --help\n", argv[optind]);
        return -1;
    }
    if (!command->file) {
        fputs("coapgw: no configuration: coapgw -c FILE; try coapgw --help\n", stderr);
        return -1;
    }
    return 0;
}

struct service {
    struct plant plant;
    struct resolver *resolver; /* NULL without a forward proxy */
};

static void print_service(void *context, FILE *out)
{
    const struct service *s = context;

    plant_print(&s->plant, out);
    if (s->resolver)
        resolver_print(s->resolver, out);
}

static int make_resolver(struct service *s, const struct config *config)
{
    struct resolver_setup setup = {.workers = config->workers,
                                   .servers = config->forward.dns_servers};
    int err;

    s->resolver = NULL;
    if (!config->forward.enabled)
        return 0;
    s->resolver = resolver_create(&setup);
    if (s->resolver)
        return 0;
    err = -errno;
    fprintf(stderr, "coapgw: forward_proxy: no resolver: %s\n", strerror(-err));
    return err;
}

/* The plant, and the resolver's thread after it: it inherits from the main thread what has been
 * given up by then. */
static int start(struct service *s, const struct config *config)
{
    struct plant_links links = {.mid_key = 0};
    int err;

    if (s->resolver)
        links.resolver = (struct lcore_resolver){s->resolver, resolver_ask, resolver_take};
    err = plant_start(&s->plant, config, &links);
    if (err || !s->resolver)
        return err;
    err = resolver_start(s->resolver);
    if (err) {
        fprintf(stderr, "coapgw: forward_proxy: the resolver's thread: %s\n", strerror(-err));
        plant_stop(&s->plant);
    }
    return err;
}

static int serve(const struct config *config)
{
    struct service service;
    int err = control_block_signals();

    if (!err)
        err = make_resolver(&service, config);
    if (err)
        return 1;
    err = start(&service, config);
    if (!err) {
        control_ready(config);
        control_run(print_service, &service);
        plant_stop(&service.plant);
        if (service.resolver)
            resolver_print(service.resolver, stderr);
    }
    /* After the workers, which ask it to their end. */
    resolver_destroy(service.resolver);
    return err ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct command command = {0};
    struct config *config;
    int status;

    if (parse(argc, argv, &command, &status) != 0)
        return status;
    config = config_load(command.file, stderr);
    if (!config)
        return 1;
    if (command.check) {
        printf("%s: OK\n", command.file);
        status = 0;
    } else {
        status = serve(config);
    }
    config_free(config);
    return status;
}
