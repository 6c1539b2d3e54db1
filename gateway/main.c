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
#include <time.h>

#include "config/config.h"
#include "dpdk/plant.h"
#include "gateway/control/admin.h"
#include "gateway/control/control.h"
#include "gateway/control/journal_file.h"
#include "gateway/control/loader.h"
#include "gateway/control/renewal.h"
#include "gateway/control/resolver.h"
#include "gateway/store/store.h"

struct command {
    const char *file;
    bool check;
};

static void usage(FILE *out)
{
    fputs(
        "usage: coapgw -c FILE [--check]\n"
        "\n"
        "  -c, --config FILE  the configuration (see /etc/coapgw/coapgw.yaml)\n"
        "      --check        check the configuration and exit\n"
        "  -h, --help         this text\n"
        "  -V, --version      the version\n"
        "\n"
        "SIGTERM and SIGINT stop it in order, SIGUSR1 prints its counters on stderr, SIGHUP reads\n"
        "the keys and certificates of coaps again.\n",
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
    struct modules *modules;       /* NULL when no route is a module's */
    struct loader_thread *watcher; /* prints what they have to say; NULL: the same */
    struct resolver *resolver;     /* NULL without a forward proxy */
    struct admin *admin;           /* NULL with "admin: none" */
    struct store *store;
    struct journal_file *journal; /* NULL: there is none */
    struct renewal *renewal;      /* of credentials; NULL: there is no DTLS */
    bool up;                      /* the plant */
};

static void print_service(void *context, FILE *out)
{
    const struct service *s = context;

    plant_print(&s->plant, out);
    if (s->resolver)
        resolver_print(s->resolver, out);
    if (s->modules)
        loader_print(s->modules, out);
    store_print(s->store, out);
}

static void tick_service(void *context)
{
    const struct service *s = context;

    journal_file_tick(s->journal, lcore_now_us(&s->plant.shared));
    renewal_tick(s->renewal, (uint64_t)time(NULL));
}

static void reload_service(void *context)
{
    const struct service *s = context;

    renewal_run(s->renewal, stderr);
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

static bool tell_store(void *store, unsigned worker, struct parcel *parcel)
{
    return store_tell(store, worker, parcel);
}

static struct parcel *take_from_store(void *store, unsigned worker)
{
    return store_take(store, worker);
}

/* What workers take from the control side: new credentials, and questions of the administration. */
static struct parcel *take_from_control(void *context, unsigned worker)
{
    struct service *s = context;
    struct parcel *parcel = renewal_take(s->renewal, worker);

    return parcel || !s->admin ? parcel : admin_take(s->admin, worker);
}

static bool tell_control(void *context, unsigned worker, struct parcel *parcel)
{
    const struct service *s = context;

    return s->admin && admin_tell(s->admin, worker, parcel);
}

/* Tickets that were given before a restart are good after it. */
static int make_renewal(struct service *s, const struct config *config, const uint8_t *secret,
                        struct plant_links *links)
{
    s->renewal = renewal_create(config, secret, stderr);
    if (!s->renewal)
        return -errno;
    links->credentials = renewal_credentials(s->renewal);
    links->control = (struct lcore_office){s, tell_control, take_from_control};
    return 0;
}

/* The store says what message IDs follow from: the same as before the restart. */
static int make_store(struct service *s, const struct config *config, struct plant_links *links)
{
    struct store_past past;
    uint8_t secret[CREDENTIALS_SECRET_BYTES];
    int err;

    s->store = store_create(config);
    err = s->store ? store_secret(s->store, secret) : -errno;
    if (err) {
        fprintf(stderr, "coapgw: store: %s\n", strerror(-err));
        return err;
    }
    memcpy(&links->mid_key, secret, sizeof(links->mid_key));
    past = store_past(s->store);
    links->life = past.life;
    links->clock_us = past.clock_us;
    links->number_floor = past.floor;
    links->store = (struct lcore_office){s->store, tell_store, take_from_store};
    return make_renewal(s, config, secret, links);
}

static unsigned worker_of(void *context, const struct flow *flow)
{
    return plant_worker_of(context, flow);
}

static uint64_t now_us(void *context)
{
    const struct plant *plant = context;

    return lcore_now_us(&plant->shared);
}

static int start_store(struct service *s, const struct config *config)
{
    const struct store_setup setup = {.config = config,
                                      .parcels = plant_parcels(&s->plant),
                                      .worker_of = worker_of,
                                      .context = &s->plant,
                                      .now_us = now_us};
    int err = store_start(s->store, &setup);

    if (err)
        fprintf(stderr, "coapgw: store: its thread: %s\n", strerror(-err));
    return err;
}

static int make_admin(struct service *s, const struct config *config)
{
    s->admin = NULL;
    if (!config->admin.enabled)
        return 0;
    s->admin = admin_create(config); /* says what is wrong */
    return s->admin ? 0 : -errno;
}

static int start_admin(struct service *s)
{
    const struct admin_setup setup = {.parcels = plant_parcels(&s->plant),
                                      .vitals = plant_vitals(&s->plant),
                                      .resolver = s->resolver,
                                      .store = s->store,
                                      .store_status = store_status};

    return s->admin ? admin_start(s->admin, &setup) : 0;
}

static int start_watcher(struct service *s)
{
    int err;

    s->watcher = s->modules ? loader_watch(s->modules, stderr) : NULL;
    if (!s->modules || s->watcher)
        return 0;
    err = -errno;
    fprintf(stderr, "coapgw: the modules' thread: %s\n", strerror(-err));
    return err;
}

/* What workers work with; nothing of it runs yet. */
static int make(struct service *s, const struct config *config, struct plant_links *links)
{
    int err = make_admin(s, config);

    if (!err)
        err = make_resolver(s, config);
    if (!err)
        err = make_store(s, config, links);
    if (err)
        return err;
    s->journal = journal_file_open(config, lcore_start_us(links->clock_us));
    links->journal = journal_file_get(s->journal);
    if (s->resolver)
        links->resolver = (struct lcore_resolver){s->resolver, resolver_ask, resolver_take};
    if (s->admin && !s->renewal)
        links->control = (struct lcore_office){s->admin, admin_tell, admin_take};
    return 0;
}

/* The plant, and the threads of the control side after it: they inherit from the main thread what
 * has been given up by then. */
static int start(struct service *s, const struct config *config)
{
    struct plant_links links = {.modules = s->modules};
    int err = make(s, config, &links);

    if (!err)
        err = plant_start(&s->plant, config, &links);
    if (err)
        return err;
    s->up = true;
    if (s->renewal)
        renewal_start(s->renewal, plant_parcels(&s->plant));
    tick_service(s);
    if (s->resolver && (err = resolver_start(s->resolver)))
        fprintf(stderr, "coapgw: forward_proxy: the resolver's thread: %s\n", strerror(-err));
    if (!err)
        err = start_watcher(s);
    if (!err)
        err = start_store(s, config);
    if (!err)
        err = start_admin(s);
    return err;
}

/* The administration first: it looks at the workers. They ask the other threads to their end, and
 * those hold parcels of the plant's, which goes last. */
static void stop(struct service *s)
{
    admin_stop(s->admin);
    if (s->up)
        plant_halt(&s->plant);
    if (s->up && s->resolver)
        resolver_print(s->resolver, stderr);
    loader_unwatch(s->watcher);
    resolver_destroy(s->resolver);
    store_destroy(s->store);
    admin_destroy(s->admin);
    renewal_destroy(s->renewal);
    if (s->up)
        plant_stop(&s->plant);
    journal_file_close(s->journal);
}

static int serve(const struct config *config, struct modules *modules)
{
    struct service service = {.modules = modules};
    int err = control_block_signals();

    if (err)
        return 1;
    err = start(&service, config);
    if (!err) {
        const struct control_ops ops = {.context = &service,
                                        .print = print_service,
                                        .reload = service.renewal ? reload_service : NULL,
                                        .tick = tick_service};

        control_ready(config);
        control_run(&ops);
    }
    stop(&service);
    return err ? 1 : 0;
}

/* What --check reads beside the configuration. 0, or what is wrong has been said. */
static int check_files(const struct config *config)
{
    struct credentials *credentials = credentials_load(config, NULL, stderr);

    credentials_drop(credentials);
    return credentials ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
    struct command command = {0};
    struct modules *modules = NULL;
    struct config *config;
    int status;

    if (parse(argc, argv, &command, &status) != 0)
        return status;
    config = config_load(command.file, stderr);
    if (!config)
        return 1;
    if (loader_open(config, stderr, &modules) < 0) {
        status = 1;
    } else if (command.check) {
        status = check_files(config) < 0;
        if (status == 0)
            printf("%s: OK\n", command.file);
    } else {
        status = serve(config, modules);
    }
    loader_close(modules);
    config_free(config);
    return status;
}
