#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fleet/fleet.h"

static const char usage[] =
    "usage: coapgw-fleet [OPTION]...\n"
    "Plays many CoAP devices; is told on stdin what to do (see command.c).\n"
    "  --gateway ADDRESS[:PORT]  default 10.99.0.2:5683\n"
    "  --first ADDRESS           of the first device, default 10.100.0.1\n"
    "  --port NUMBER             the first device's port, default 20000\n"
    "  --sockets NUMBER          devices with the same address, default 16\n"
    "  --devices NUMBER          default 10000\n"
    "  --slots NUMBER            relations of one device, default 1\n"
    "  --paths NUMBER            resources that are watched, default 100\n"
    "  --prefix TEXT             the first segment of their paths, default s\n"
    "  --seed NUMBER             default 1\n"
    "  --mean-ms NUMBER          between two whims of a device, default 10000\n"
    "  --ack-timeout-ms NUMBER   default 2000\n"
    "  --max-retransmit NUMBER   default 4\n"
    "  --grace-ms NUMBER         for what was under way, default 1000\n"
    "  --patience-ms NUMBER      for a separate answer, default 10000\n"
    "  --psk HEX                 over DTLS with this key, as \"device-0\", \"device-1\", ...;\n"
    "                            every other one with a Connection ID (RFC 9146)\n"
    "  --trace FILE              gets all messages as text\n";

static const char hexadecimal[] = "0123456789abcdefABCDEF";

static unsigned long number(const char *name, const char *text, unsigned long least,
                            unsigned long most)
{
    char *end;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most) {
        fprintf(stderr, "coapgw-fleet: --%s: \"%s\"; write a number from %lu to %lu\n", name, text,
                least, most);
        exit(2);
    }
    return value;
}

static void parse_address(const char *name, const char *text, struct in_addr *address)
{
    if (inet_pton(AF_INET, text, address) != 1) {
        fprintf(stderr, "coapgw-fleet: --%s: \"%s\"; write an IPv4 address\n", name, text);
        exit(2);
    }
}

static void set_gateway(char *text)
{
    char *colon = strchr(text, ':');

    if (colon)
        *colon++ = 0;
    parse_address("gateway", text, &fleet.options.gateway.sin_addr);
    if (colon)
        fleet.options.gateway.sin_port = htons((uint16_t)number("gateway", colon, 1, UINT16_MAX));
}

static void set_key(const char *text)
{
    struct options *o = &fleet.options;
    size_t digits = strlen(text);

    if (digits == 0 || digits % 2 || digits / 2 > KEY_MAX || text[strspn(text, hexadecimal)]) {
        fprintf(stderr, "coapgw-fleet: --psk: write up to %d bytes in hexadecimal\n", KEY_MAX);
        exit(2);
    }
    for (o->key_length = 0; o->key_length < digits / 2; o->key_length++) {
        char byte[3] = {text[2 * o->key_length], text[2 * o->key_length + 1], 0};

        o->key[o->key_length] = (uint8_t)strtoul(byte, NULL, 16);
    }
}

static const struct option names[] = {
    {"gateway", 1, NULL, 'g'},  {"first", 1, NULL, 'f'},          {"port", 1, NULL, 'p'},
    {"sockets", 1, NULL, 'k'},  {"devices", 1, NULL, 'n'},        {"slots", 1, NULL, 'w'},
    {"paths", 1, NULL, 'r'},    {"prefix", 1, NULL, 'x'},         {"seed", 1, NULL, 's'},
    {"mean-ms", 1, NULL, 'm'},  {"ack-timeout-ms", 1, NULL, 'a'}, {"max-retransmit", 1, NULL, 'c'},
    {"grace-ms", 1, NULL, 'e'}, {"patience-ms", 1, NULL, 't'},    {"trace", 1, NULL, 'l'},
    {"psk", 1, NULL, 'd'},      {"help", 0, NULL, 'h'},           {NULL, 0, NULL, 0},
};

/* Of options whose value is a number. */
static void set_number(int option, const char *name, const char *text)
{
    struct options *o = &fleet.options;

    switch (option) {
    case 'p':
        o->port = (uint16_t)number(name, text, 1, UINT16_MAX - SOCKETS_MAX);
        break;
    case 'k':
        o->sockets = (unsigned)number(name, text, 1, SOCKETS_MAX);
        break;
    case 'n':
        o->devices = (unsigned)number(name, text, 1, DEVICES_MAX);
        break;
    case 'w':
        o->slots = (unsigned)number(name, text, 0, SLOTS_MAX);
        break;
    case 'r':
        o->paths = (unsigned)number(name, text, 1, 10000000);
        break;
    case 's':
        o->seed = number(name, text, 0, ULONG_MAX);
        break;
    case 'm':
        o->mean_us = number(name, text, 1, 1000000) * MS;
        break;
    case 'a':
        o->ack_timeout_us = number(name, text, 1, 60000) * MS;
        break;
    case 'c':
        o->max_retransmit = (unsigned)number(name, text, 0, 5);
        break;
    case 'e':
        o->grace_us = number(name, text, 1, 60000) * MS;
        break;
    case 't':
        o->patience_us = number(name, text, 1, 250000) * MS;
        break;
    default:
        break;
    }
}

static void parse_options(int argc, char **argv)
{
    struct in_addr first;
    int option, index = 0;

    while ((option = getopt_long(argc, argv, "", names, &index)) != -1) {
        if (option == 'h') {
            fputs(usage, stdout);
            exit(0);
        } else if (option == '?') {
            fputs(usage, stderr);
            exit(2);
        } else if (option == 'g') {
            set_gateway(optarg);
        } else if (option == 'f') {
            parse_address("first", optarg, &first);
            fleet.options.first = ntohl(first.s_addr);
        } else if (option == 'x') {
            fleet.options.prefix = optarg;
        } else if (option == 'd') {
            set_key(optarg);
        } else if (option == 'l') {
            trace_open(optarg);
        } else {
            set_number(option, names[index].name, optarg);
        }
    }
    if (fleet.options.key_length && fleet.options.sockets > SOCKETS_MAX / PLACES) {
        fprintf(stderr, "coapgw-fleet: --sockets: at most %d with --psk\n", SOCKETS_MAX / PLACES);
        exit(2);
    }
}

static void set_defaults(void)
{
    fleet.options = (struct options){
        .gateway = {.sin_family = AF_INET, .sin_port = htons(5683)},
        .first = 0x0a640001, /* 10.100.0.1 */
        .port = 20000,
        .sockets = 16,
        .devices = 10000,
        .slots = 1,
        .paths = 100,
        .prefix = "s",
        .seed = 1,
        .mean_us = 10 * SECOND,
        .ack_timeout_us = 2 * SECOND,
        .max_retransmit = 4,
        .grace_us = SECOND,
        .patience_us = 10 * SECOND,
    };
    parse_address("gateway", "10.99.0.2", &fleet.options.gateway.sin_addr);
}

int main(int argc, char **argv)
{
    struct timer *t;
    bool more = true;

    set_defaults();
    parse_options(argc, argv);
    clock_start();
    devices_create();
    secure_create();
    link_open();
    while (more) {
        if (!link_turn(4))
            more = command_read();
        while ((t = clock_expired()))
            devices_expire(t);
        command_poll();
        link_flush();
    }
    return 0;
}
