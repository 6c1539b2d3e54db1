/* Files of credentials that are wrong or doubtful, and what is said of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/credentials_bench.h"

static const struct {
    const char *listener, *upstream; /* one of the two */
    const char *error;               /* somewhere in what is said */
    bool is_warning;
} wrong[] = {
    {"psk: {file: @/nowhere}", NULL,
     "/nowhere: cannot be opened (No such file or directory); name a file that can be read", false},
    {"psk: {file: @/bad.psk}", NULL, "/bad.psk:2: there is no colon; write IDENTITY:HEXKEY", false},
    {"certificate: @/nowhere, key: @/gateway.key", NULL,
     "t.yaml:6: listeners[1].dtls.certificate: @/nowhere: cannot be opened (No such file or "
     "directory); name a file that can be read",
     false},
    {"certificate: @/empty, key: @/gateway.key", NULL,
     "dtls.certificate: @/empty: has no certificate; write one in PEM", false},
    {"certificate: @/gateway.key, key: @/gateway.key", NULL,
     "dtls.certificate: @/gateway.key: has no certificate; write one in PEM", false},
    {"certificate: @/damaged.pem, key: @/gateway.key", NULL,
     "dtls.certificate: @/damaged.pem: line 3: is not a certificate in PEM (", false},
    {"certificate: @/gateway.pem, key: @/own.psk", NULL,
     "dtls.key: @/own.psk: has no private key; write one in PEM", false},
    {"certificate: @/gateway.pem, key: @/device.key", NULL,
     "dtls.key: @/device.key: is not the key of the certificate; write that one", false},
    {"certificate: @/gateway.pem, key: @/locked.key", NULL,
     "dtls.key: @/locked.key: line 1: is encrypted; write the key without a passphrase", false},
    {"certificate: @/gateway.pem, key: @/open.key", NULL,
     "dtls.key: @/open.key: is open to everybody on this machine; take that away with chmod o=",
     false},
    {"certificate: @/weak.pem, key: @/weak.key", NULL,
     "dtls.certificate: @/weak.pem: cannot be used (ee key too small); write a certificate with a "
     "key of at least 112 bits strength",
     false},
    {"certificate: @/rsa.pem, key: @/rsa.key, suites: [TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8]", NULL,
     "dtls.certificate: @/rsa.pem: no suite is for its kind of key; add one with RSA in its name",
     false},
    {OWN ", client_certificates: required, ca: @/empty", NULL,
     "dtls.ca: @/empty: has no certificate; write one in PEM", false},
    {ASKS("required") ", crl: @/root.pem", NULL,
     "dtls.crl: @/root.pem: has no CRL; write one in PEM", false},
    {"certificate: @/expired.pem, key: @/expired.key", NULL,
     "dtls.certificate: warning: @/expired.pem: certificate 1 of it has expired; write a newer one",
     true},
    {"certificate: @/early.pem, key: @/early.key", NULL,
     "dtls.certificate: warning: @/early.pem: certificate 1 of it is not valid yet; look at the "
     "clock",
     true},
    {ASKS("required") ", crl: @/old.crl", NULL,
     "dtls.crl: warning: @/old.crl: CRL 1 of it is out of date, and all of its certificates are "
     "refused; write a newer one",
     true},
    {NULL, "identity: a, key_file: @/empty",
     "t.yaml:7: upstreams[0].dtls.key_file: @/empty: line 1: is not a key; write 1 to 64 bytes as "
     "pairs of hexadecimal digits",
     false},
    {NULL, "identity: a, key_file: @/open.key", "dtls.key_file: @/open.key: is open to everybody",
     false},
    {NULL, "identity: a, key_file: @/short.psk",
     "dtls.key_file: warning: @/short.psk: line 1: the key has only 2 bytes; write at least 16",
     true},
};

/* The folder stands for @. */
static void expand(const char *from, char *to, size_t room)
{
    size_t n = 0;

    for (; *from && n + sizeof(folder) < room; from++)
        n += *from == '@' ? (size_t)sprintf(to + n, "%s", folder) : (to[n] = *from, (size_t)1);
    to[n] = '\0';
}

static void test_wrong_files(void **state)
{
    char expected[1024];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct config *config;
        struct credentials *credentials;

        config = make_config(wrong[i].listener, wrong[i].upstream, 1);
        credentials = load_with(config, secret);
        expand(wrong[i].error, expected, sizeof(expected));
        if (!strstr(errors, expected) || (credentials != NULL) != wrong[i].is_warning)
            fail_msg("expected %s\ngot %s", expected, errors);
        credentials_drop(credentials);
        config_free(config);
    }
}

/* All that is wrong is said in one go, once and not for each worker. */
static void test_all_errors(void **state)
{
    struct config *config =
        make_config("certificate: @/empty, key: @/nowhere, psk: {file: @/bad.psk}",
                    "identity: a, key_file: @/nowhere", 2);
    unsigned lines = 0;

    (void)state;
    assert_null(load_with(config, secret));
    for (const char *at = errors; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 5);
    config_free(config);
}

static void test_plain(void **state)
{
    struct config *config = make_config(NULL, NULL, 0);
    struct credentials *credentials = load_right(config);

    (void)state;
    assert_false(credentials_wanted(config));
    assert_null(credentials_listener(credentials, 0));
    credentials_drop(credentials);
    credentials_drop(NULL);
    credentials_set_time(NULL, 1);
    assert_null(credentials_take(NULL));
    config_free(config);
    config = make_config(NULL, "ca: @/root.pem", 0);
    assert_true(credentials_wanted(config));
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_all_errors),
        cmocka_unit_test(test_plain),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
