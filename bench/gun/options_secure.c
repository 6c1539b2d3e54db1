/* The options of DTLS. */
#include <stdlib.h>
#include <string.h>

#include "bench/gun/options_parts.h"
#include "tests/dtls/peer.h"

#define IDENTITY_MAX 200
#define HANDSHAKES   64

static int digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | 0x20) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* Bytes as hexadecimal digits: how many, or -1. */
static int parse_hex(const char *text, uint8_t *out, size_t room)
{
    size_t length = strlen(text);

    if (length == 0 || length % 2 || length / 2 > room)
        return -1;
    for (size_t i = 0; i < length; i++) {
        int value = digit(text[i]);

        if (value < 0)
            return -1;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | value : value << 4);
    }
    return (int)(length / 2);
}

/* The identity may have colons; the key has none. The argument is not shown when it is wrong: it
 * has a key. */
void options_psk(struct gun_options *o, const char *text)
{
    const char *colon = strrchr(text, ':'), *number = strstr(text, "%u");
    int length = colon ? parse_hex(colon + 1, o->key, sizeof(o->key)) : -1;

    if (length < 0 || colon == text || colon - text > IDENTITY_MAX ||
        (number && strstr(number + 2, "%u")))
        options_bad("--psk", "...",
                    "IDENTITY:KEY, the identity of at most 200 bytes with one %u at most, the key "
                    "of 1 to 64 bytes as hexadecimal digits");
    free(o->identity);
    o->key_length = (uint8_t)length;
    o->identity = strndup(text, (size_t)(colon - text));
}

void options_suite(struct gun_options *o, const char *text)
{
    static const uint16_t suites[] = {PEER_SUITE_CCM8, PEER_SUITE_GCM, PEER_SUITE_CHACHA};

    o->suite = 0;
    for (unsigned i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
        if (strcmp(text, peer_suite_name(suites[i])) == 0)
            o->suite = suites[i];
    if (!o->suite)
        options_bad("--suite", text, "ccm8, gcm or chacha");
}

void options_secure_defaults(struct gun_options *o)
{
    o->suite = PEER_SUITE_CCM8;
    o->handshakes = HANDSHAKES;
}

void options_secure_free(struct gun_options *o)
{
    explicit_bzero(o->key, sizeof(o->key));
    free(o->identity);
}
