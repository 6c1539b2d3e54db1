/* coapgun: loads a CoAP server with requests of many simulated devices, over any DPDK device.
 *
 * Exit codes: 0 all answers were right; 1 some were wrong, none came, or it could not run; 2 a bad
 * command line. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>

#include "bench/gun.h"
#include "gateway/coap/code.h"
#include "gateway/coap/uri.h"

static const char help[] =
    "usage: coapgun --device DEVICE --target ADDRESS[:PORT] [OPTION...]\n"
    "\n"
    "  --device DEVICE     memif:SOCKET (the other end is the server), tap:NAME, af_packet:IF,\n"
    "                      or vdev:ARGS as DPDK's --vdev takes them\n"
    "  --target ADDR:PORT  where requests go (IPv4); the port is 5683 when absent\n"
    "  --source ADDR[/LEN] of the first simulated device (default 10.99.1.1); each address has\n"
    "                      60,000 devices, one for each port; with a prefix length, all addresses\n"
    "                      must lie in that subnet\n"
    "  --endpoints N       simulated devices, 1 to 4000000 (default 1000)\n"
    "  --window N          requests outstanding at a time, 1 to 65536 (default 256)\n"
    "  --path PATH         what is asked for, with GET (default /hello)\n"
    "  --con, --non        confirmable or non-confirmable requests (default --con)\n"
    "  --expect TEXT       the payload that every answer must have\n"
    "  --raw               whatever comes back with our token counts: for reflectors\n"
    "  --duration S        seconds that are measured (default 5, at most 3600)\n"
    "  --warmup S          seconds before that (default 1)\n"
    "  --core N            the CPU to run on (default 0)\n"
    "  --huge              memory from huge pages\n"
    "  --json FILE         the result as JSON, too\n"
    "  --help              this text\n";

static void *bad(const char *option, const char *value, const char *wanted)
{
    fprintf(stderr, "coapgun: %s %s: write %s; try coapgun --help\n", option, value, wanted);
    exit(2);
}

static uint32_t number(const char *option, const char *text, uint32_t low, uint32_t high)
{
    char *end, wanted[64];
    unsigned long long value = strtoull(text, &end, 10);

    snprintf(wanted, sizeof(wanted), "a number from %u to %u", low, high);
    if (*text < '0' || *text > '9' || *end || value < low || value > high)
        bad(option, text, wanted);
    return (uint32_t)value;
}

static void parse_target(const char *text, struct endpoint *target)
{
    char uri_text[128];
    struct uri uri;

    snprintf(uri_text, sizeof(uri_text), "coap://%s", text);
    if (uri_parse(uri_text, strlen(uri_text), &uri) != 0 || !uri.host_is_address ||
        !address_is_v4(&uri.address))
        bad("--target", text, "an IPv4 address with or without a port");
    target->address = uri.address;
    target->port = uri.port;
}

static uint32_t word_of(const struct address *address)
{
    const uint8_t *b = address->bytes + 12;

    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void parse_source(const char *text, struct gun_options *o)
{
    char address[64];
    const char *slash = strchr(text, '/');

    snprintf(address, sizeof(address), "%.*s", slash ? (int)(slash - text) : 63, text);
    if (address_parse(address, &o->source) != 0 || !address_is_v4(&o->source))
        bad("--source", text, "an IPv4 address with or without a prefix length");
    o->source_bits = slash ? number("--source", slash + 1, 1, 32) : 0;
}

/* The last device's address is in the subnet that the sources were given with. */
static void check_sources(const struct gun_options *o)
{
    uint32_t first = word_of(&o->source);
    uint64_t last = (uint64_t)first + (o->endpoints - 1) / GUN_PORTS;

    if (last > UINT32_MAX || (o->source_bits && (first ^ last) >> (32 - o->source_bits)) ||
        (word_of(&o->target.address) >= first && word_of(&o->target.address) <= last)) {
        fputs("coapgun: --source: the addresses of all endpoints leave the subnet or reach the "
              "target; choose another address\n",
              stderr);
        exit(2);
    }
}

enum option_id {
    DEVICE = 256,
    TARGET,
    SOURCE,
    ENDPOINTS,
    WINDOW,
    PATH,
    CON,
    NON,
    EXPECT,
    RAW,
    DURATION,
    WARMUP,
    CORE,
    HUGE_PAGES,
    JSON,
    HELP,
};

static void set_option(struct gun_options *o, int option, const char *value)
{
    switch ((enum option_id)option) {
    case DEVICE:
        o->device = value;
        break;
    case TARGET:
        parse_target(value, &o->target);
        break;
    case SOURCE:
        parse_source(value, o);
        break;
    case ENDPOINTS:
        o->endpoints = number("--endpoints", value, 1, GUN_ENDPOINTS_MAX);
        break;
    case WINDOW:
        o->window = number("--window", value, 1, GUN_WINDOW_MAX);
        break;
    case PATH:
        if (value[0] != '/')
            bad("--path", value, "a path that begins with /");
        o->path = value;
        break;
    case CON:
    case NON:
        o->confirmable = option == CON;
        break;
    case EXPECT:
        o->expect = value;
        break;
    case RAW:
        o->raw = true;
        break;
    case DURATION:
        o->duration_s = number("--duration", value, 1, 3600);
        break;
    case WARMUP:
        o->warmup_s = number("--warmup", value, 0, 3600);
        break;
    case CORE:
        o->core = number("--core", value, 0, 1023);
        break;
    case HUGE_PAGES:
        o->huge = true;
        break;
    case JSON:
        o->json = value;
        break;
    case HELP:
        fputs(help, stdout);
        exit(0);
    }
}

static void parse(int argc, char **argv, struct gun_options *o)
{
    static const struct option options[] = {
        {"device", 1, NULL, DEVICE},   {"target", 1, NULL, TARGET},
        {"source", 1, NULL, SOURCE},   {"endpoints", 1, NULL, ENDPOINTS},
        {"window", 1, NULL, WINDOW},   {"path", 1, NULL, PATH},
        {"non", 0, NULL, NON},         {"expect", 1, NULL, EXPECT},
        {"raw", 0, NULL, RAW},         {"duration", 1, NULL, DURATION},
        {"warmup", 1, NULL, WARMUP},   {"core", 1, NULL, CORE},
        {"huge", 0, NULL, HUGE_PAGES}, {"json", 1, NULL, JSON},
        {"help", 0, NULL, HELP},       {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?') {
            fputs("coapgun: try coapgun --help\n", stderr);
            exit(2);
        }
        set_option(o, option, optarg);
    }
    if (optind < argc)
        bad("argument", argv[optind], "options only");
    if (!o->device || !o->target.port) {
        fputs("coapgun: --device and --target are needed; try coapgun --help\n", stderr);
        exit(2);
    }
    check_sources(o);
}

/* "memif:/run/x" to what --vdev takes. */
static void device_argument(const char *device, char *out, size_t room)
{
    const char *value = strchr(device, ':');
    size_t kind = value ? (size_t)(value - device) : 0;

    if (kind == 5 && strncmp(device, "memif", kind) == 0)
        snprintf(out, room, "--vdev=net_memif0,role=client,socket=%s,socket-abstract=no,rsize=11",
                 value + 1);
    else if (kind == 3 && strncmp(device, "tap", kind) == 0)
        snprintf(out, room, "--vdev=net_tap0,iface=%s", value + 1);
    else if (kind == 9 && strncmp(device, "af_packet", kind) == 0)
        snprintf(out, room, "--vdev=net_af_packet0,iface=%s", value + 1);
    else if (kind == 4 && strncmp(device, "vdev", kind) == 0)
        snprintf(out, room, "--vdev=%s", value + 1);
    else
        bad("--device", device, "memif:SOCKET, tap:NAME, af_packet:IF or vdev:ARGS");
}

static int start_eal(const struct gun_options *o)
{
    char device[256], cores[32], prefix[32];
    char *list[16];
    int n = 0;

    device_argument(o->device, device, sizeof(device));
    snprintf(cores, sizeof(cores), "--lcores=0@%u", o->core);
    snprintf(prefix, sizeof(prefix), "--file-prefix=gun-%d", (int)getpid());
#define ADD(text) list[n++] = (char *)(uintptr_t)(text)
    ADD("coapgun");
    ADD(cores);
    ADD(prefix);
    ADD(device);
    ADD("--no-pci");
    ADD("--no-telemetry");
    ADD("--log-level=error");
    ADD("-m");
    ADD("256");
    if (o->huge) {
        ADD("--in-memory");
        ADD("--single-file-segments");
    } else {
        ADD("--no-huge");
        ADD("--no-shconf");
    }
#undef ADD
    list[n] = NULL;
    if (rte_eal_init(n, list) < 0)
        return -EIO;
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
    return 0;
}

static double rate(const struct gun_result *r)
{
    return r->seconds > 0 ? (double)r->answered / r->seconds : 0;
}

static double cycles_each(const struct gun_result *r)
{
    return r->answered ? (double)r->cycles / (double)r->answered : 0;
}

static void print_table(const struct gun_result *r)
{
    printf("%12.0f answers/s in %.2f s\n", rate(r), r->seconds);
    printf("%12llu sent, %llu answered, %llu without an answer in 1 s\n",
           (unsigned long long)r->sent, (unsigned long long)r->answered,
           (unsigned long long)r->timeouts);
    printf("%12llu wrong, %llu late, %llu duplicates\n", (unsigned long long)r->wrong,
           (unsigned long long)r->late, (unsigned long long)r->duplicates);
    for (unsigned code = 0; code < 256; code++)
        if (r->by_code[code])
            printf("%12llu with code %u.%02u\n", (unsigned long long)r->by_code[code],
                   code_class((uint8_t)code), code_detail((uint8_t)code));
    printf("%12.1f us latency at the median, %.1f at 99 %%, %.1f at 99.9 %%, %.1f at most\n",
           (double)gun_histogram_at(&r->latency_ns, 0.5) / 1000,
           (double)gun_histogram_at(&r->latency_ns, 0.99) / 1000,
           (double)gun_histogram_at(&r->latency_ns, 0.999) / 1000,
           (double)r->latency_ns.largest / 1000);
    printf("%12.0f TSC cycles for each answer\n", cycles_each(r));
}

static void print_doubt(const struct gun_options *o, const struct gun_result *r)
{
    if (r->mids_repeated && !o->raw)
        puts(
            "             message IDs came again: the server may have taken requests for repeated\n"
            "             ones; use more endpoints or less time");
}

static int write_json(const struct gun_options *o, const struct gun_result *r)
{
    FILE *out = fopen(o->json, "w");

    if (!out) {
        fprintf(stderr, "coapgun: --json %s: %s\n", o->json, strerror(errno));
        return 1;
    }
    fprintf(out,
            "{\"version\": \"%s\", \"endpoints\": %u, \"window\": %u, \"seconds\": %.6f, "
            "\"sent\": %llu, \"answered\": %llu, \"timeouts\": %llu, \"late\": %llu, "
            "\"duplicates\": %llu, \"wrong\": %llu, \"mids_repeated\": %s, \"rate\": %.1f, "
            "\"cycles_each\": %.1f, \"p50_ns\": %llu, \"p99_ns\": %llu, "
            "\"p999_ns\": %llu, \"max_ns\": %llu, \"codes\": {",
            COAPGW_VERSION, o->endpoints, o->window, r->seconds, (unsigned long long)r->sent,
            (unsigned long long)r->answered, (unsigned long long)r->timeouts,
            (unsigned long long)r->late, (unsigned long long)r->duplicates,
            (unsigned long long)r->wrong, r->mids_repeated ? "true" : "false", rate(r),
            cycles_each(r), (unsigned long long)gun_histogram_at(&r->latency_ns, 0.5),
            (unsigned long long)gun_histogram_at(&r->latency_ns, 0.99),
            (unsigned long long)gun_histogram_at(&r->latency_ns, 0.999),
            (unsigned long long)r->latency_ns.largest);
    for (unsigned code = 0, n = 0; code < 256; code++)
        if (r->by_code[code])
            fprintf(out, "%s\"%u.%02u\": %llu", n++ ? ", " : "", code_class((uint8_t)code),
                    code_detail((uint8_t)code), (unsigned long long)r->by_code[code]);
    fputs("}}\n", out);
    return fclose(out) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct gun_result result;
    struct gun_options o = {.path = "/hello",
                            .confirmable = true,
                            .endpoints = 1000,
                            .window = 256,
                            .warmup_s = 1,
                            .duration_s = 5};
    int status = 0;

    address_parse("10.99.1.1", &o.source);
    parse(argc, argv, &o);
    if (start_eal(&o) != 0 || rte_eth_dev_count_avail() == 0) {
        fputs("coapgun: the device cannot be opened\n", stderr);
        return 1;
    }
    if (gun_run(&o, 0, &result) != 0) {
        status = 1;
    } else {
        print_table(&result);
        print_doubt(&o, &result);
        if (o.json)
            status = write_json(&o, &result);
        if (result.wrong || !result.answered) {
            fputs("coapgun: answers were wrong, or there were none\n", stderr);
            status = 1;
        }
    }
    rte_eal_cleanup();
    return status;
}
