/* coapgwctl: looks into a running gateway, and changes what may be changed while it runs.
 *
 * Exit codes: 0 done; 1 the gateway refused or cannot be reached, or is not well (health); 2 a bad
 * command line. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ctl_http.h"
#include "tools/ctl_table.h"

#define SERVER_DEFAULT "127.0.0.1:9683"
#define PATH_BYTES     512
#define PAGE_ROWS      1000

enum { DONE, FAILED, WRONG_USAGE };

struct ctl {
    struct http http;
    bool json;
    const char *peer, *worker; /* NULL: all */
    int argc;                  /* what stands behind the command */
    char **argv;
};

static const char help[] =
    "usage: coapgwctl [-s HOST:PORT] [--json] COMMAND\n"
    "\n"
    "  health                    is the gateway well? status 1 when it is not\n"
    "  metrics                   all metrics, as Prometheus reads them\n"
    "  sessions [--peer P] [--worker N]\n"
    "  session ID                one session, and what it observes\n"
    "  set ID KEY=VALUE...       transmission parameters of one session: ack_timeout,\n"
    "                            ack_random_factor, max_retransmit, nstart, default_leisure,\n"
    "                            probing_rate; seconds and bytes per second; VALUE \"default\"\n"
    "                            gives back what the listener has\n"
    "  relations [--peer P] [--worker N]\n"
    "  upstreams                 the servers, as each worker sees them\n"
    "  store                     the connection to the store\n"
    "  packet-loss [SPEC]        what is lost on purpose, or what is to be: 20%, or ranges of\n"
    "                            messages as 1,5-9; 0% loses nothing\n"
    "\n"
    "  -s, --server HOST:PORT    admin.listen of the gateway; default " SERVER_DEFAULT "\n"
    "      --peer P              ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT\n"
    "      --worker N            of this worker only\n"
    "      --json                print what the gateway says\n"
    "  -h, --help                this text\n"
    "  -V, --version             the version\n";

static int wrong(const char *what, const char *why)
{
    fprintf(stderr, "coapgwctl: %s: %s; try coapgwctl --help\n", what, why);
    return WRONG_USAGE;
}

static void print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    putchar('\n');
}

/* Prints a reply and releases it. */
static int show(const struct ctl *ctl, json_t *value)
{
    if (!value)
        return FAILED;
    if (ctl->json)
        print_json(value);
    else
        table_print_members(value);
    json_decref(value);
    return DONE;
}

/* ---- lists ---- */

static void list_path(struct ctl *ctl, const char *what, const char *from, char path[PATH_BYTES])
{
    char peer[PATH_BYTES / 2];
    int length = snprintf(path, PATH_BYTES, "/%s?limit=%d", what, PAGE_ROWS);

    if (ctl->peer) {
        http_escape(&ctl->http, ctl->peer, peer, sizeof(peer));
        length += snprintf(path + length, PATH_BYTES - (size_t)length, "&peer=%s", peer);
    }
    if (ctl->worker) {
        http_escape(&ctl->http, ctl->worker, peer, 32);
        length += snprintf(path + length, PATH_BYTES - (size_t)length, "&worker=%s", peer);
    }
    if (from)
        snprintf(path + length, PATH_BYTES - (size_t)length, "&from=%.32s", from);
}

/* All pages of a list in one; NULL when one fails. */
static json_t *all_pages(struct ctl *ctl, const char *what)
{
    json_t *rows = json_array(), *page = NULL;
    const char *next = NULL;

    do {
        char path[PATH_BYTES];

        list_path(ctl, what, next, path);
        json_decref(page);
        page = http_ask_json(&ctl->http, "GET", path, NULL, NULL, false);
        if (!page) {
            json_decref(rows);
            return NULL;
        }
        json_array_extend(rows, json_object_get(page, what));
        next = json_string_value(json_object_get(page, "next"));
    } while (next);
    json_decref(page);
    return rows;
}

static int list(struct ctl *ctl, const char *what, const struct column *columns)
{
    json_t *rows = all_pages(ctl, what);

    if (!rows)
        return FAILED;
    if (ctl->json)
        print_json(rows);
    else
        table_print(rows, columns);
    json_decref(rows);
    return DONE;
}

static int sessions(struct ctl *ctl)
{
    static const struct column columns[] = {{"ID", "id"},
                                            {"ROLE", "role"},
                                            {"PEER", "peer"},
                                            {"LOCAL", "local"},
                                            {"TRANSPORT", "transport"},
                                            {"PRINCIPAL", "principal"},
                                            {"SILENT", "silent"},
                                            {"EXCHANGES", "exchanges"},
                                            {"UNACKED", "outstanding"},
                                            {"WAITING", "waiting"},
                                            {"RELATIONS", "relations"},
                                            {"OWN PARAMETERS", "own_parameters"},
                                            {NULL, NULL}};

    return list(ctl, "sessions", columns);
}

static const struct column relation_columns[] = {{"SESSION", "session"},
                                                 {"PEER", "peer"},
                                                 {"TOKEN", "token"},
                                                 {"UPSTREAM", "upstream"},
                                                 {"OBSERVATION", "observation"},
                                                 {"STATE", "state"},
                                                 {"UNCONFIRMED", "unconfirmed"},
                                                 {"CON OUT", "outstanding"},
                                                 {"STORED", "kept"},
                                                 {"METHOD", "method"},
                                                 {"RESOURCE", "resource"},
                                                 {NULL, NULL}};

static int relations(struct ctl *ctl)
{
    return list(ctl, "relations", relation_columns);
}

/* ---- one session ---- */

static int session(struct ctl *ctl)
{
    char path[PATH_BYTES], id[64];
    json_t *value, *observes;

    http_escape(&ctl->http, ctl->argv[0], id, sizeof(id));
    snprintf(path, sizeof(path), "/sessions/%s", id);
    value = http_ask_json(&ctl->http, "GET", path, NULL, NULL, false);
    observes = json_object_get(value, "observes");
    if (!value || ctl->json)
        return show(ctl, value);
    table_print_members(value);
    if (json_array_size(observes)) {
        putchar('\n');
        table_print(observes, relation_columns);
    }
    json_decref(value);
    return DONE;
}

/* KEY=VALUE to a member of `body`. False when it is not that. */
static bool add_setting(json_t *body, const char *text)
{
    const char *equals = strchr(text, '=');
    char key[64];
    json_t *value;

    if (!equals || equals == text || equals - text >= (int)sizeof(key))
        return false;
    memcpy(key, text, (size_t)(equals - text));
    key[equals - text] = 0;
    value = strcmp(equals + 1, "default") == 0 ? json_null()
                                               : json_loads(equals + 1, JSON_DECODE_ANY, NULL);
    if (!json_is_number(value) && !json_is_null(value)) {
        json_decref(value);
        return false;
    }
    return json_object_set_new(body, key, value) == 0;
}

static int set(struct ctl *ctl)
{
    json_t *body = json_object(), *value;
    char path[PATH_BYTES], id[64], *text;

    for (int i = 1; i < ctl->argc; i++)
        if (!add_setting(body, ctl->argv[i])) {
            json_decref(body);
            return wrong(ctl->argv[i], "not KEY=NUMBER or KEY=default");
        }
    text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(body);
    http_escape(&ctl->http, ctl->argv[0], id, sizeof(id));
    snprintf(path, sizeof(path), "/sessions/%s", id);
    value = http_ask_json(&ctl->http, "PATCH", path, "application/json", text, false);
    free(text);
    return show(ctl, value);
}

/* ---- the rest ---- */

static int health(struct ctl *ctl)
{
    json_t *value = http_ask_json(&ctl->http, "GET", "/healthz", NULL, NULL, true), *reasons;
    const char *status = json_string_value(json_object_get(value, "status"));
    const bool well = status && strcmp(status, "ok") == 0;

    if (!value || ctl->json)
        return show(ctl, value) == DONE && well ? DONE : FAILED;
    puts(status ? status : "unknown");
    reasons = json_object_get(value, "reasons");
    for (size_t i = 0; i < json_array_size(reasons); i++)
        puts(json_string_value(json_array_get(reasons, i)));
    json_decref(value);
    return well ? DONE : FAILED;
}

static int metrics(struct ctl *ctl)
{
    struct http_reply reply;

    if (!http_ask(&ctl->http, "GET", "/metrics", NULL, NULL, &reply))
        return FAILED;
    fwrite(reply.text, 1, reply.length, reply.status == 200 ? stdout : stderr);
    free(reply.text);
    return reply.status == 200 ? DONE : FAILED;
}

static void flatten(json_t *rows, const json_t *upstream)
{
    const json_t *servers = json_object_get(upstream, "servers");

    for (size_t i = 0; i < json_array_size(servers); i++) {
        const json_t *server = json_array_get(servers, i);
        const json_t *workers = json_object_get(server, "workers");

        for (size_t k = 0; k < json_array_size(workers); k++) {
            json_t *row = json_array_get(workers, k);

            json_object_set(row, "name", json_object_get(upstream, "name"));
            json_object_set(row, "address", json_object_get(server, "address"));
            json_array_append(rows, row);
        }
    }
}

static int upstreams(struct ctl *ctl)
{
    static const struct column columns[] = {
        {"UPSTREAM", "name"},         {"SERVER", "address"},
        {"WORKER", "worker"},         {"STATE", "state"},
        {"REQUESTS", "requests"},     {"OBSERVATIONS", "observations"},
        {"UNACKED", "outstanding"},   {"WAITING", "waiting"},
        {"HEARD", "heard"},           {"DOWN", "down"},
        {"TRANSPORT", "transport"},   {"ASSOCIATION", "association"},
        {"LAST ERROR", "last_error"}, {NULL, NULL}};
    json_t *value = http_ask_json(&ctl->http, "GET", "/upstreams", NULL, NULL, false);
    const json_t *list_of = json_object_get(value, "upstreams");
    json_t *rows;

    if (!value || ctl->json)
        return show(ctl, value);
    rows = json_array();
    for (size_t i = 0; i < json_array_size(list_of); i++)
        flatten(rows, json_array_get(list_of, i));
    json_array_extend(rows, json_object_get(value, "destinations"));
    table_print(rows, columns);
    json_decref(rows);
    json_decref(value);
    return DONE;
}

static int store(struct ctl *ctl)
{
    return show(ctl, http_ask_json(&ctl->http, "GET", "/store", NULL, NULL, false));
}

static int packet_loss(struct ctl *ctl)
{
    static const struct column columns[] = {
        {"WORKER", "worker"}, {"PACKET LOSS", "packet_loss"}, {"SENT SINCE", "sent"}, {NULL, NULL}};
    const char *spec = ctl->argc ? ctl->argv[0] : NULL;
    json_t *value = http_ask_json(&ctl->http, spec ? "PUT" : "GET", "/debug/packet-loss",
                                  spec ? "text/plain" : NULL, spec, false);

    if (!value || ctl->json)
        return show(ctl, value);
    table_print(json_object_get(value, "workers"), columns);
    json_decref(value);
    return DONE;
}

/* ---- the command line ---- */

static const struct command {
    const char *name;
    int (*run)(struct ctl *ctl);
    int least, most; /* arguments */
    bool filters;    /* --peer and --worker */
} commands[] = {
    {"health", health, 0, 0, false},
    {"metrics", metrics, 0, 0, false},
    {"sessions", sessions, 0, 0, true},
    {"session", session, 1, 1, false},
    {"set", set, 2, 64, false},
    {"relations", relations, 0, 0, true},
    {"upstreams", upstreams, 0, 0, false},
    {"store", store, 0, 0, false},
    {"packet-loss", packet_loss, 0, 1, false},
};

static int run(struct ctl *ctl, const char *server)
{
    const char *name = ctl->argv[0];
    const struct command *command = NULL;
    int status;

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (name && strcmp(commands[i].name, name) == 0)
            command = &commands[i];
    if (!name)
        return wrong("COMMAND", "is missing");
    if (!command)
        return wrong(name, "there is no such command");
    ctl->argc--;
    ctl->argv++;
    if (ctl->argc < command->least || ctl->argc > command->most)
        return wrong(name,
                     ctl->argc < command->least ? "an argument is missing" : "too many arguments");
    if ((ctl->peer || ctl->worker) && !command->filters)
        return wrong(name, "takes neither --peer nor --worker");
    if (!http_open(&ctl->http, server))
        return WRONG_USAGE;
    status = command->run(ctl);
    http_close(&ctl->http);
    return status;
}

int main(int argc, char **argv)
{
    enum { PEER = 256, WORKER, JSON };
    static const struct option options[] = {{"server", required_argument, NULL, 's'},
                                            {"peer", required_argument, NULL, PEER},
                                            {"worker", required_argument, NULL, WORKER},
                                            {"json", no_argument, NULL, JSON},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    const char *server = SERVER_DEFAULT;
    struct ctl ctl = {0};
    int option, status;

    while ((option = getopt_long(argc, argv, "s:hV", options, NULL)) != -1) {
        switch (option) {
        case 's':
            server = optarg;
            break;
        case PEER:
            ctl.peer = optarg;
            break;
        case WORKER:
            ctl.worker = optarg;
            break;
        case JSON:
            ctl.json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return DONE;
        case 'V':
            puts("coapgwctl " COAPGW_VERSION);
            return DONE;
        default: /* getopt has said what is wrong */
            fputs("coapgwctl: try coapgwctl --help\n", stderr);
            return WRONG_USAGE;
        }
    }
    ctl.argc = argc - optind;
    ctl.argv = argv + optind;
    status = run(&ctl, server);
    if (fflush(stdout) != 0) {
        perror("coapgwctl: stdout");
        return FAILED;
    }
    return status;
}
