/* Tickets: who resumes a session with them, where and how long, and who does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/security/ticket.h"
#include "tests/unit/credentials_bench.h"

/* A session of a client with a certificate, or with a key where it has none. */
static SSL_SESSION *get_session(const struct bench *b, SSL_CTX *client)
{
    struct shaken out = shake(b->side, 0, client, NULL);

    assert_true(out.good && !out.resumed);
    return out.session;
}

/* Whether the session is resumed there; it is good in any case. */
static bool is_resumed(const struct bench *b, unsigned worker, SSL_CTX *client,
                       SSL_SESSION *session)
{
    struct shaken out = shake(b->side, worker, client, session);

    assert_true(out.good);
    SSL_SESSION_free(out.session);
    return out.resumed;
}

static void test_resume(void **state)
{
    static const char *const dtls[] = {PSK, ASKS("required")};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct bench b = open_bench(dtls[i]), again = open_bench(dtls[i]);
        SSL_CTX *client = client_make(i ? ECDSA : "PSK-AES128-CCM8", "device", &root);
        SSL_SESSION *session = get_session(&b, client);
        struct shaken out;

        assert_true(is_resumed(&b, 0, client, session));
        assert_true(is_resumed(&b, 1, client, session));     /* another worker */
        assert_true(is_resumed(&again, 0, client, session)); /* after a restart */
        out = shake(again.side, 1, client, session);
        assert_true(out.resumed);
        assert_int_equal(out.principal.kind, i ? PRINCIPAL_CERTIFICATE : PRINCIPAL_PSK);
        SSL_SESSION_free(out.session);
        SSL_SESSION_free(session);
        SSL_CTX_free(client);
        close_bench(&b);
        close_bench(&again);
    }
}

static void test_no_tickets(void **state)
{
    struct bench b = open_bench(PSK ", tickets: false");
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    assert_false(SSL_SESSION_has_ticket(session));
    assert_false(is_resumed(&b, 0, client, session));
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* The session that `dtls` gave is not resumed by what it has become since. */
static void assert_not_resumed_by(const struct bench *b, SSL_CTX *client, SSL_SESSION *session,
                                  const char *dtls)
{
    struct bench other = open_bench(dtls);

    assert_true(is_resumed(b, 0, client, session));
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
}

static void test_tickets_of_others(void **state)
{
    const struct identity *both[] = {&root, &middle, NULL};
    struct bench b = open_bench(ASKS("required") ", crl: @/none.crl"), other;
    SSL_CTX *client = client_make(ECDSA, "device", &root);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    file_crls("new.crl", both, &middle, 30);
    assert_not_resumed_by(&b, client, session, ASKS("required") ", crl: @/new.crl");
    assert_not_resumed_by(&b, client, session, ASKS("required"));
    assert_not_resumed_by(&b, client, session,
                          OWN ", client_certificates: required, "
                              "ca: @/both.pem, crl: @/none.crl");
    assert_not_resumed_by(&b, client, session,
                          ASKS("required") ", crl: @/none.crl, suites: "
                                           "[TLS_ECDHE_ECDSA_WITH_AES_128_"
                                           "CCM_8]");
    other = (struct bench){.config = make_config(ASKS("required") ", crl: @/none.crl", NULL, 2)};
    other.credentials = load_with(other.config, secret);
    other.side = credentials_listener(other.credentials, 1);
    assert_true(is_resumed(&other, 0, client, session));
    other.side = credentials_listener(other.credentials, 2); /* another port */
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
    other.config = make_config(ASKS("required") ", crl: @/none.crl", NULL, 1);
    other.credentials = load_with(other.config, NULL); /* a random secret */
    other.side = credentials_listener(other.credentials, 1);
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* An identity that got another key, or has gone, begins anew. */
static void test_tickets_of_old_keys(void **state)
{
    struct bench b = open_bench("psk: {file: @/psk2}"), other;
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    assert_true(is_resumed(&b, 0, client, session));
    file_text("psk2", 0600, "one:" KEY "\nnew:" KEY "\n");
    other = open_bench("psk: {file: @/psk2}");
    assert_false(is_resumed(&other, 0, client, session));
    close_bench(&other);
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

static void test_ticket_periods(void **state)
{
    struct bench b = open_bench(PSK);
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    uint64_t start = (uint64_t)time(NULL) / TICKET_PERIOD_S * TICKET_PERIOD_S;
    SSL_SESSION *session;

    (void)state;
    credentials_set_time(b.credentials, start);
    session = get_session(&b, client);
    for (unsigned i = 0; i <= 2; i++) {
        credentials_set_time(b.credentials, start + i * TICKET_PERIOD_S);
        assert_true(is_resumed(&b, 0, client, session));
        credentials_set_time(b.credentials, start + (i + 1) * TICKET_PERIOD_S - 1);
        assert_true(is_resumed(&b, 1, client, session));
    }
    credentials_set_time(b.credentials, start + 3 * TICKET_PERIOD_S);
    assert_false(is_resumed(&b, 0, client, session));
    credentials_set_time(b.credentials, start - 1); /* of a time to come */
    assert_false(is_resumed(&b, 0, client, session));
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* A ticket of before is changed for one of now. */
static void test_ticket_renewal(void **state)
{
    struct bench b = open_bench(PSK);
    SSL_CTX *client = client_make("PSK-AES128-CCM8", NULL, NULL);
    uint64_t start = (uint64_t)time(NULL) / TICKET_PERIOD_S * TICKET_PERIOD_S;
    struct shaken out;
    SSL_SESSION *session;

    (void)state;
    credentials_set_time(b.credentials, start);
    session = get_session(&b, client);
    credentials_set_time(b.credentials, start + 2 * TICKET_PERIOD_S);
    out = shake(b.side, 0, client, session);
    assert_true(out.good && out.resumed);
    credentials_set_time(b.credentials, start + 3 * TICKET_PERIOD_S);
    assert_true(is_resumed(&b, 0, client, out.session));
    SSL_SESSION_free(out.session);
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

/* The certificate of the client lasts a day, and the ticket a little longer. */
static void test_ticket_of_expired(void **state)
{
    struct bench b = open_bench(ASKS("required"));
    SSL_CTX *client = client_make(ECDSA, "brief", &root);
    uint64_t now = (uint64_t)time(NULL);
    SSL_SESSION *session = get_session(&b, client);

    (void)state;
    credentials_set_time(b.credentials, now + 10 * 3600);
    assert_true(is_resumed(&b, 0, client, session));
    credentials_set_time(b.credentials, now + DAY_S + 3600);
    assert_false(is_resumed(&b, 0, client, session));
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_no_tickets),
        cmocka_unit_test(test_tickets_of_others),
        cmocka_unit_test(test_tickets_of_old_keys),
        cmocka_unit_test(test_ticket_periods),
        cmocka_unit_test(test_ticket_renewal),
        cmocka_unit_test(test_ticket_of_expired),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
