#include "bench/gun/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/gun/mix.h"
#include "bench/gun/options_parts.h"
#include "gateway/coap/uri.h"
#include "tests/dtls/peer.h"

enum option_id {
    DEVICE = 256,
    KERNEL,
    TARGET,
    VIA,
    SOURCE,
    ENDPOINTS,
    CORE,
    QUEUES,
    HUGE_PAGES,
    PSK,
    SUITE,
    CID,
    HANDSHAKES,
    HANDSHAKE_RATE,
    PATH,
    PATHS,
    SPREAD,
    MIX,
    CON,
    NON,
    PAYLOAD,
    BLOCK,
    OBSERVE,
    EXPECT,
    RAW,
    WINDOW,
    RATE,
    RAMP,
    LOSS,
    WARMUP,
    DURATION,
    TIMEOUT,
    RETRANSMIT,
    ORIGIN,
    ORIGIN_PAYLOAD,
    ORIGIN_MAX_AGE,
    NOTIFY_RATE,
    JSON,
    PROGRESS,
    NO_PROGRESS,
    HELP,
    VERSION,
};

static const struct option names[] = {{"device", 1, NULL, DEVICE},
                                      {"kernel", 0, NULL, KERNEL},
                                      {"target", 1, NULL, TARGET},
                                      {"via", 1, NULL, VIA},
                                      {"source", 1, NULL, SOURCE},
                                      {"endpoints", 1, NULL, ENDPOINTS},
                                      {"core", 1, NULL, CORE},
                                      {"queues", 1, NULL, QUEUES},
                                      {"huge", 0, NULL, HUGE_PAGES},
                                      {"psk", 1, NULL, PSK},
                                      {"suite", 1, NULL, SUITE},
                                      {"cid", 1, NULL, CID},
                                      {"handshakes", 1, NULL, HANDSHAKES},
                                      {"handshake-rate", 1, NULL, HANDSHAKE_RATE},
                                      {"path", 1, NULL, PATH},
                                      {"paths", 1, NULL, PATHS},
                                      {"spread", 1, NULL, SPREAD},
                                      {"mix", 1, NULL, MIX},
                                      {"con", 2, NULL, CON},
                                      {"non", 0, NULL, NON},
                                      {"payload", 1, NULL, PAYLOAD},
                                      {"block", 1, NULL, BLOCK},
                                      {"observe", 1, NULL, OBSERVE},
                                      {"expect", 1, NULL, EXPECT},
                                      {"raw", 0, NULL, RAW},
                                      {"window", 1, NULL, WINDOW},
                                      {"rate", 1, NULL, RATE},
                                      {"ramp", 1, NULL, RAMP},
                                      {"loss", 1, NULL, LOSS},
                                      {"warmup", 1, NULL, WARMUP},
                                      {"duration", 1, NULL, DURATION},
                                      {"timeout", 1, NULL, TIMEOUT},
                                      {"retransmit", 0, NULL, RETRANSMIT},
                                      {"origin", 1, NULL, ORIGIN},
                                      {"origin-payload", 1, NULL, ORIGIN_PAYLOAD},
                                      {"origin-max-age", 1, NULL, ORIGIN_MAX_AGE},
                                      {"notify-rate", 1, NULL, NOTIFY_RATE},
                                      {"json", 1, NULL, JSON},
                                      {"progress", 0, NULL, PROGRESS},
                                      {"no-progress", 0, NULL, NO_PROGRESS},
                                      {"help", 0, NULL, HELP},
                                      {"version", 0, NULL, VERSION},
                                      {NULL, 0, NULL, 0}};

void options_bad(const char *option, const char *value, const char *wanted)
{
    fprintf(stderr, "coapgun: %s %s: write %s; try coapgun --help\n", option, value, wanted);
    exit(2);
}

/* ---- values ---- */

uint32_t options_number(const char *option, const char *text, uint32_t low, uint32_t high)
{
    char *end, wanted[64];
    unsigned long long value = strtoull(text, &end, 10);

    snprintf(wanted, sizeof(wanted), "a number from %u to %u", low, high);
    if (*text < '0' || *text > '9' || *end || value < low || value > high)
        options_bad(option, text, wanted);
    return (uint32_t)value;
}

static double real(const char *option, const char *text, double low, double high)
{
    char *end, wanted[64];
    double value = strtod(text, &end);

    snprintf(wanted, sizeof(wanted), "a number from %g to %g", low, high);
    if (end == text || *end || !isfinite(value) || value < low || value > high)
        options_bad(option, text, wanted);
    return value;
}

void options_endpoint(const char *option, const char *text, const char *scheme,
                      struct endpoint *out)
{
    char uri_text[128];
    struct uri uri;
    bool whole = strncmp(text, scheme, strlen(scheme)) == 0;

    snprintf(uri_text, sizeof(uri_text), "%s%s", whole ? "" : scheme, text);
    if (uri_parse(uri_text, strlen(uri_text), &uri) != 0 || !uri.host_is_address ||
        uri.path_length || uri.query_length)
        options_bad(option, text, "an IP address with or without a port, IPv6 in brackets");
    out->address = uri.address;
    out->port = uri.port;
}

static void parse_source(const char *text, struct gun_options *o)
{
    char address[64];
    const char *slash = strchr(text, '/');

    snprintf(address, sizeof(address), "%.*s", slash ? (int)(slash - text) : 63, text);
    if (address_parse(address, &o->source) != 0)
        options_bad("--source", text, "an IP address with or without a prefix length");
    o->source_bits =
        slash ? options_number("--source", slash + 1, 1, address_is_v4(&o->source) ? 32 : 128) : 0;
    o->source_given = true;
}

/* "FROM:TO[:STEPS]" */
static void parse_ramp(const char *text, struct gun_options *o)
{
    static const char wanted[] =
        "FROM:TO[:STEPS], rates of at least 1 a second, FROM up to TO, and "
        "at most 32 steps";
    int used = 0;

    o->ramp_steps = 6;
    if (sscanf(text, "%lf:%lf%n", &o->ramp_from, &o->ramp_to, &used) != 2)
        options_bad("--ramp", text, wanted);
    if (text[used] == ':')
        o->ramp_steps = options_number("--ramp", text + used + 1, 1, 32);
    else if (text[used])
        options_bad("--ramp", text, wanted);
    if (!(o->ramp_from >= 1 && o->ramp_from <= o->ramp_to && o->ramp_to <= 1e8))
        options_bad("--ramp", text, wanted);
    o->mode = GUN_RAMP;
}

/* "30", "30%" or nothing. */
static unsigned parse_share(const char *text)
{
    char digits[8];
    size_t length = text ? strcspn(text, "%") : 0;

    if (!text)
        return 100;
    if (length >= sizeof(digits) || (text[length] && text[length + 1]))
        options_bad("--con", text, "a share from 0 to 100 %");
    snprintf(digits, sizeof(digits), "%.*s", (int)length, text);
    return options_number("--con", digits, 0, 100);
}

static void add_path(struct gun_options *o, const char *text)
{
    if (mix_add_path(o, text, 1, -1) != 0)
        options_bad(
            "--path", text,
            "a path that begins with / or a URI, of at most 300 bytes, with one %u at most, and "
            "no more than 1024 of them");
}

/* ---- one option ---- */

static void set_place(struct gun_options *o, int option, const char *value)
{
    if (option == DEVICE)
        o->device = value;
    else if (option == KERNEL)
        o->kernel = true;
    else if (option == TARGET)
        o->target_text = value;
    else if (option == SOURCE)
        parse_source(value, o);
    else if (option == ENDPOINTS)
        o->endpoints = options_number("--endpoints", value, 1, GUN_ENDPOINTS_MAX);
    else if (option == CORE)
        o->core = (int)options_number("--core", value, 0, 1023);
    else if (option == QUEUES)
        o->queues = options_number("--queues", value, 1, 64);
    else if (option == HUGE_PAGES)
        o->huge = true;
    else if (address_parse(value, &o->via) != 0)
        options_bad("--via", value, "an IP address");
}

static void set_secure(struct gun_options *o, int option, const char *value)
{
    if (option == PSK) {
        options_psk(o, value);
        return;
    }
    o->secure_given = true;
    if (option == SUITE) {
        options_suite(o, value);
    } else if (option == CID) {
        o->cid = true;
        o->cid_length = (uint8_t)options_number("--cid", value, 0, PEER_OWN_CID_MAX);
    } else if (option == HANDSHAKES) {
        o->handshakes = options_number("--handshakes", value, 1, GUN_HANDSHAKES_MAX);
    } else {
        o->handshake_rate = real("--handshake-rate", value, 0.1, 1e8);
    }
}

static void set_request(struct gun_options *o, int option, const char *value)
{
    if (option == PATH)
        add_path(o, value);
    else if (option == PATHS)
        o->paths_file = value;
    else if (option == SPREAD)
        o->spread = options_number("--spread", value, 1, UINT32_MAX);
    else if (option == CON || option == NON)
        o->con_percent = option == NON ? 0 : parse_share(value);
    else if (option == PAYLOAD)
        o->payload_bytes = options_number("--payload", value, 0, GUN_PAYLOAD_MAX);
    else if (option == BLOCK)
        o->block_szx = (int)options_number("--block", value, 0, 6);
    else if (option == OBSERVE)
        o->observers = options_number("--observe", value, 1, GUN_OBSERVERS_MAX);
    else if (option == EXPECT)
        o->expect = value;
    else if (option == RAW)
        o->raw = true;
    else if (mix_parse(value, o->mix) != 0)
        exit(2);
    o->mix_given |= option == MIX;
}

static void set_amount(struct gun_options *o, int option, const char *value)
{
    if (option == WINDOW) {
        o->window = options_number("--window", value, 0, GUN_WINDOW_MAX);
    } else if (option == RATE) {
        o->rate = real("--rate", value, 1, 1e8);
        o->mode = GUN_OPEN;
    } else if (option == RAMP) {
        parse_ramp(value, o);
    } else if (option == LOSS) {
        o->loss_percent = real("--loss", value, 0, 100);
    } else if (option == WARMUP) {
        o->warmup_s = real("--warmup", value, 0, 3600);
    } else if (option == DURATION) {
        o->duration_s = real("--duration", value, 0, 86400);
    } else if (option == TIMEOUT) {
        o->timeout_ms = options_number("--timeout", value, 1, 300000);
    } else {
        o->retransmit = true;
    }
}

static void set_rest(struct gun_options *o, int option, const char *value)
{
    if (option == ORIGIN) {
        options_endpoint("--origin", value, "coap://", &o->origin);
        o->origin_given = true;
    } else if (option == ORIGIN_PAYLOAD) {
        o->origin_payload_bytes = options_number("--origin-payload", value, 0, GUN_PAYLOAD_MAX);
    } else if (option == ORIGIN_MAX_AGE) {
        o->origin_max_age_s = options_number("--origin-max-age", value, 0, UINT32_MAX);
    } else if (option == NOTIFY_RATE) {
        o->notify_rate = real("--notify-rate", value, 0, 1e6);
    } else if (option == JSON) {
        o->json = value;
    } else if (option == HELP) {
        fputs(options_help, stdout);
        exit(0);
    } else if (option == VERSION) {
        puts("coapgun " COAPGW_VERSION);
        exit(0);
    } else {
        o->progress = option == PROGRESS;
    }
}

/* ---- the whole ---- */

static char *join(int argc, char **argv)
{
    size_t length = 1;
    char *text;

    for (int i = 0; i < argc; i++)
        length += strlen(argv[i]) + 1;
    text = calloc(1, length);
    for (int i = 0; text && i < argc; i++)
        sprintf(text + strlen(text), "%s%s", i ? " " : "", argv[i]);
    return text;
}

static void set_defaults(struct gun_options *o, int argc, char **argv)
{
    memset(o, 0, sizeof(*o));
    o->core = -1;
    o->queues = 1;
    o->spread = 1000000;
    o->con_percent = 100;
    o->block_szx = -1;
    o->endpoints = 1000;
    o->window = 256;
    o->loss_percent = 0.1;
    o->warmup_s = 1;
    o->duration_s = 5;
    o->origin_payload_bytes = 64;
    o->progress = isatty(STDERR_FILENO);
    o->command = join(argc, argv);
    options_secure_defaults(o);
}

void options_parse(struct gun_options *o, int argc, char **argv)
{
    int option;

    set_defaults(o, argc, argv);
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (option == '?') {
            fputs("coapgun: try coapgun --help\n", stderr);
            exit(2);
        }
        /* "--con 50": getopt finds only "--con=50". */
        if (option == CON && !optarg && optind < argc && argv[optind][0] >= '0' &&
            argv[optind][0] <= '9')
            optarg = argv[optind++];
        if (option <= HUGE_PAGES)
            set_place(o, option, optarg);
        else if (option <= HANDSHAKE_RATE)
            set_secure(o, option, optarg);
        else if (option <= RAW)
            set_request(o, option, optarg);
        else if (option <= RETRANSMIT)
            set_amount(o, option, optarg);
        else
            set_rest(o, option, optarg);
    }
    if (optind < argc)
        options_bad("argument", argv[optind], "options only");
    options_finish(o);
}

void options_free(struct gun_options *o)
{
    mix_free_paths(o);
    options_secure_free(o);
    free(o->command);
}
