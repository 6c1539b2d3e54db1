#include "gateway/security/cipher_suite.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct cipher_suite {
    const char *name;
    uint16_t number;
    bool is_psk;
};

static const struct cipher_suite suites[] = {
    {"TLS_PSK_WITH_AES_128_CCM_8", 0xc0a8, true},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", 0xc0ae, false},
    {"TLS_PSK_WITH_AES_128_GCM_SHA256", 0x00a8, true},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b, false},
    {"TLS_PSK_WITH_AES_128_CCM", 0xc0a4, true},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CCM", 0xc0ac, false},
    {"TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", 0xccab, true},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9, false},
    {"TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", 0xccac, true},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f, false},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8, false},
};

#define SUITES (sizeof(suites) / sizeof(suites[0]))
_Static_assert(SUITES <= CIPHER_SUITES_MAX, "callers have room");

static const struct cipher_suite *find(uint16_t number)
{
    for (size_t i = 0; i < SUITES; i++)
        if (suites[i].number == number)
            return &suites[i];
    return NULL;
}

int cipher_suite_number(const char *name)
{
    for (size_t i = 0; i < SUITES; i++)
        if (strcmp(suites[i].name, name) == 0)
            return suites[i].number;
    return -EINVAL;
}

const char *cipher_suite_name(uint16_t number)
{
    const struct cipher_suite *suite = find(number);

    return suite ? suite->name : NULL;
}

bool cipher_suite_is_psk(uint16_t number)
{
    const struct cipher_suite *suite = find(number);

    return suite && suite->is_psk;
}

unsigned cipher_suites_default(uint16_t numbers[CIPHER_SUITES_MAX])
{
    for (size_t i = 0; i < SUITES; i++)
        numbers[i] = suites[i].number;
    return SUITES;
}
