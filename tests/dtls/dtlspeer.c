/* dtlspeer: a DTLS client with a script, for the end-to-end tests. See usage(). */
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "tests/dtls/dtlspeer.h"

#define KEY_MAX    256
#define LINE_BYTES 4096

static uint8_t key[KEY_MAX];

static int usage(int status)
{
    fputs("dtlspeer --psk IDENTITY:HEXKEY [OPTION...] HOST:PORT [STEP...]\n"
          "Options:\n"
          "  --suite ccm8|gcm|chacha   offers this one only; again: one more, in this order\n"
          "  --cid HEX                 offers Connection IDs; the server is to write this one\n"
          "  --cid-length N            the same with N random bytes, 0: it shall write none\n"
          "  --padding N               zeros in each record in CID form\n"
          "  --fragment N              handshake messages in pieces of N bytes\n"
          "  --separate                each record in its own datagram\n"
          "  --ticket                  offers session tickets\n"
          "  --plain-master            does not offer the extended master secret\n"
          "  --scsv                    signals renegotiation by the SCSV\n"
          "  --bind ADDRESS            the first source address\n"
          "  --timeout SECONDS         of each step; 10 when it is not given\n"
          "  --raw                     application data is text, not CoAP\n"
          "Each argument is a step; without one, each line of standard input is:\n"
          "  connect | resume          a handshake; on a live association a new one\n"
          "  refused ALERT|timeout     a handshake that has to end so\n"
          "  get PATH | observe PATH | post PATH TEXT | put PATH TEXT\n"
          "                            with the Echo option of the 4.01 before it\n"
          "  wait COUNT | wait SECONDSs    for notifications\n"
          "  rebind [ADDRESS]          another socket, and so another source port\n"
          "  back                      to the socket before; again: to and fro\n"
          "  replay | forge            the last datagram again; a record with a broken tag\n"
          "  silent SECONDS            in which nothing may come\n"
          "  sleep SECONDS | close | closed    closed: waits for the server's close_notify\n"
          "  export                    keys, the next sequence number, how many records were "
          "refused\n"
          "  send TEXT | expect TEXT   with --raw\n"
          "The status is 0 when each step did what it says; the first one that did not is the "
          "last.\n",
          status ? stderr : stdout);
    return status;
}

static int read_hex(const char *text, uint8_t *out, size_t room)
{
    size_t length = strlen(text);
    unsigned byte;

    if (length % 2 || length / 2 > room)
        return -EINVAL;
    for (size_t i = 0; i < length / 2; i++) {
        if (strspn(text + 2 * i, "0123456789abcdefABCDEF") < 2)
            return -EINVAL;
        sscanf(text + 2 * i, "%2x", &byte);
        out[i] = (uint8_t)byte;
    }
    return (int)(length / 2);
}

static int read_psk(struct peer_setup *setup, const char *text)
{
    const char *colon = strrchr(text, ':');
    int length = colon ? read_hex(colon + 1, key, sizeof(key)) : -EINVAL;

    if (length <= 0)
        return -EINVAL;
    setup->identity = (const uint8_t *)text;
    setup->identity_length = (uint16_t)(colon - text);
    setup->key = key;
    setup->key_length = (uint16_t)length;
    return 0;
}

static int read_suite(struct peer_setup *setup, const char *name)
{
    static const uint16_t all[PEER_SUITES] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};
    unsigned place = 0;

    while (place < PEER_SUITES && setup->suites[place])
        place++;
    for (unsigned i = 0; place < PEER_SUITES && i < PEER_SUITES; i++)
        if (strcmp(name, peer_suite_name(all[i])) == 0) {
            setup->suites[place] = all[i];
            return 0;
        }
    return -EINVAL;
}

static int read_cid(struct peer_setup *setup, const char *text)
{
    int length = read_hex(text, setup->cid, sizeof(setup->cid));

    setup->offer_cid = true;
    setup->cid_length = (uint8_t)length;
    return length < 0 ? length : 0;
}

static int read_number(const char *text, unsigned long max, unsigned long *value)
{
    char *end;

    *value = strtoul(text, &end, 10);
    return end == text || *end || *value > max ? -EINVAL : 0;
}

static int make_cid(struct peer_setup *setup, const char *text)
{
    unsigned long length;

    if (read_number(text, PEER_OWN_CID_MAX, &length) < 0)
        return -EINVAL;
    setup->offer_cid = true;
    setup->cid_length = (uint8_t)length;
    return RAND_bytes(setup->cid, (int)length) == 1 ? 0 : -EIO;
}

enum option_kind {
    OPT_PSK = 256,
    OPT_SUITE,
    OPT_CID,
    OPT_CID_LENGTH,
    OPT_PADDING,
    OPT_FRAGMENT,
    OPT_SEPARATE,
    OPT_TICKET,
    OPT_PLAIN,
    OPT_SCSV,
    OPT_BIND,
    OPT_TIMEOUT,
    OPT_RAW,
    OPT_HELP,
};

static const struct option options[] = {
    {"psk", required_argument, NULL, OPT_PSK},
    {"suite", required_argument, NULL, OPT_SUITE},
    {"cid", required_argument, NULL, OPT_CID},
    {"cid-length", required_argument, NULL, OPT_CID_LENGTH},
    {"padding", required_argument, NULL, OPT_PADDING},
    {"fragment", required_argument, NULL, OPT_FRAGMENT},
    {"separate", no_argument, NULL, OPT_SEPARATE},
    {"ticket", no_argument, NULL, OPT_TICKET},
    {"plain-master", no_argument, NULL, OPT_PLAIN},
    {"scsv", no_argument, NULL, OPT_SCSV},
    {"bind", required_argument, NULL, OPT_BIND},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"raw", no_argument, NULL, OPT_RAW},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* What has a number. */
static int take_number(struct tool *t, int kind, const char *text)
{
    unsigned long value;

    if (read_number(text, kind == OPT_PADDING ? UINT8_MAX : 3600, &value) < 0)
        return -EINVAL;
    if (kind == OPT_PADDING)
        t->setup.padding = (uint8_t)value;
    else if (kind == OPT_FRAGMENT)
        t->setup.fragment_bytes = (uint16_t)value;
    else
        t->timeout_us = (uint64_t)value * SECOND_US;
    return 0;
}

static int take_option(struct tool *t, int kind, const char *text, const char **bound)
{
    switch (kind) {
    case OPT_PSK:
        return read_psk(&t->setup, text);
    case OPT_SUITE:
        return read_suite(&t->setup, text);
    case OPT_CID:
        return read_cid(&t->setup, text);
    case OPT_CID_LENGTH:
        return make_cid(&t->setup, text);
    case OPT_PADDING:
    case OPT_FRAGMENT:
    case OPT_TIMEOUT:
        return take_number(t, kind, text);
    case OPT_BIND:
        *bound = text;
        return 0;
    default:
        t->setup.separate |= kind == OPT_SEPARATE;
        t->setup.offer_ticket |= kind == OPT_TICKET;
        t->setup.plain_master |= kind == OPT_PLAIN;
        t->setup.scsv |= kind == OPT_SCSV;
        t->raw |= kind == OPT_RAW;
        return kind == '?' ? -EINVAL : 0;
    }
}

/* "10.0.0.1:5684", "[fd00::1]:5684" */
static int read_server(struct tool *t, const char *text)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST}, *found;
    const char *colon = strrchr(text, ':');
    char host[64];
    size_t length = colon ? (size_t)(colon - text) : 0;

    if (length > 1 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, length);
    host[length] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return -EINVAL;
    memcpy(&t->server, found->ai_addr, found->ai_addrlen);
    t->server_length = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* The next line of standard input; meanwhile the association lives on. Its length, 0 at the end. */
static int next_line(struct tool *t, char *line, size_t room)
{
    size_t length = 0;
    char c;

    for (;;) {
        if (!link_turn(t, FOREVER, STDIN_FILENO))
            continue;
        while (read(STDIN_FILENO, &c, 1) == 1) {
            if (c == '\n') {
                line[length] = '\0';
                return (int)length + 1;
            }
            if (length + 1 < room)
                line[length++] = c;
        }
        line[length] = '\0';
        return length ? (int)length + 1 : 0;
    }
}

static int run_script(struct tool *t, char **arguments)
{
    char line[LINE_BYTES];

    if (*arguments) {
        for (; *arguments; arguments++)
            if (step_run(t, *arguments) < 0)
                return 1;
        return 0;
    }
    while (next_line(t, line, sizeof(line)) > 0)
        if (line[0] && step_run(t, line) < 0)
            return 1;
    return 0;
}

static int run(struct tool *t, const char *bound, char **arguments)
{
    uint8_t seed[6];
    int status = 1, error;

    t->crypto = t->setup.crypto = peer_crypto_create();
    if (!t->crypto || RAND_bytes(seed, sizeof(seed)) != 1)
        return 1;
    memcpy(&t->next_mid, seed, 2);
    memcpy(&t->next_token, seed + 2, 4);
    error = link_open(t, bound);
    if (error < 0) {
        fprintf(stderr, "dtlspeer: %s\n", strerror(-error));
    } else {
        status = run_script(t, arguments);
        fflush(stdout);
        close(t->fd);
        if (t->other_fd >= 0)
            close(t->other_fd);
    }
    peer_free(&t->peer);
    peer_crypto_destroy(t->crypto);
    return status;
}

int main(int argc, char **argv)
{
    static struct tool tool = {.fd = -1, .other_fd = -1, .timeout_us = 10 * SECOND_US, .alert = -1};
    const char *bound = NULL;
    int kind;

    tool.setup.events = &link_events;
    tool.setup.context = &tool;
    while ((kind = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (kind == OPT_HELP)
            return usage(0);
        if (take_option(&tool, kind, optarg, &bound) < 0)
            return usage(2);
    }
    if (!tool.setup.key || optind == argc || read_server(&tool, argv[optind]) < 0)
        return usage(2);
    return run(&tool, bound, argv + optind + 1);
}
