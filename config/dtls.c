/* The keys dtls of listeners and upstreams. What is in the files that they name is for
 * gateway/security/credentials.h to say, which reads them again while the gateway runs. */
#include <limits.h>
#include <stdlib.h>

#include "config/loader.h"
#include "gateway/security/cipher_suite.h"
#include "config/value.h"

/* ---- files ---- */

static void read_file(struct loader *l, const struct place *dtls, const char *key, const char *text,
                      struct config_file *out)
{
    struct place at = place_key(dtls, key);
    size_t length = text ? strlen(text) : 0;

    if (!text)
        return;
    if (text[0] != '/' || text[length - 1] == '/' || length >= PATH_MAX)
        place_error(&at,
                    "\"%.80s\" is not the absolute path of a file; write one of at most %d bytes",
                    text, PATH_MAX - 1);
    out->path = loader_text(l, text);
    out->line = at.line;
}

/* Both or none. */
static void check_pair(const struct place *dtls, const char *a, const char *key_a, const char *b,
                       const char *key_b)
{
    if (a && !b)
        key_error(dtls, key_b, "is missing, and there is %s; add it", key_a);
    if (b && !a)
        key_error(dtls, key_a, "is missing, and there is %s; add it", key_b);
}

/* ---- cipher suites ---- */

/* What a side has to show or to check with. */
struct means {
    bool psk, certificate;
    const char *psk_key, *certificate_key; /* what it would be in the configuration */
};

static bool is_there(const struct config_suites *suites, uint16_t number)
{
    for (unsigned i = 0; i < suites->count; i++)
        if (suites->numbers[i] == number)
            return true;
    return false;
}

static void read_suite(const struct place *at, const char *text, const struct means *means,
                       struct config_suites *out)
{
    int number = cipher_suite_number(text);
    bool psk = number >= 0 && cipher_suite_is_psk((uint16_t)number);

    if (number < 0)
        place_error(at, "\"%.80s\" is not a cipher suite that is supported; write one such as %s",
                    text, cipher_suite_name(0xc0a8));
    else if (is_there(out, (uint16_t)number))
        place_error(at, "\"%.80s\" is there twice; remove one of them", text);
    else if (psk ? !means->psk : !means->certificate)
        place_error(at, "\"%.80s\" needs %s, which is missing; add that, or remove the suite", text,
                    psk ? means->psk_key : means->certificate_key);
    else
        out->numbers[out->count++] = (uint16_t)number;
}

static void read_suites(struct loader *l, const struct place *dtls, char **texts, unsigned count,
                        const struct means *means, struct config_suites *out)
{
    struct place list = place_key(dtls, "suites");
    uint16_t all[CIPHER_SUITES_MAX];
    unsigned n = cipher_suites_default(all);

    out->numbers = loader_array(l, CIPHER_SUITES_MAX, sizeof(*out->numbers));
    if (!out->numbers)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct place at = place_entry(&list, i);

        read_suite(&at, texts[i], means, out);
    }
    for (unsigned i = 0; i < n && count == 0; i++)
        if (cipher_suite_is_psk(all[i]) ? means->psk : means->certificate)
            out->numbers[out->count++] = all[i];
}

/* ---- listeners ---- */

static void read_psk(struct loader *l, const struct place *dtls, const struct raw_psk *raw,
                     struct config_dtls_listener *out)
{
    struct place at = place_key(dtls, "psk");

    out->psk_hint = loader_text(l, raw ? raw->hint : NULL);
    if (!raw)
        return;
    out->psk = true;
    out->psk_store = raw->store && *raw->store;
    read_file(l, &at, "file", raw->file, &out->psk_file);
    if (!raw->file && !out->psk_store)
        place_error(&at, "has neither file nor store; add file, or store: true");
    if (out->psk_store && !l->raw->store)
        key_error(&at, "store", "there is no store; add one with the key store, or write false");
}

static void read_names(struct loader *l, const struct place *dtls,
                       const struct raw_dtls_listener *raw, struct config_dtls_listener *out)
{
    struct place list = place_key(dtls, "names");

    out->names = loader_array(l, raw->names_count, sizeof(*out->names));
    for (unsigned i = 0; out->names && i < raw->names_count; i++) {
        struct place at = place_entry(&list, i);

        if (pattern_is_good(&at, raw->names[i], false))
            out->names[out->name_count++] = loader_text(l, raw->names[i]);
    }
}

static void check_clients(const struct place *dtls, const struct raw_dtls_listener *raw)
{
    const struct {
        const char *key;
        bool there;
    } keys[] = {{"ca", raw->ca}, {"crl", raw->crl}, {"names", raw->names_count > 0}};

    if (raw->client_certificates != CONFIG_CLIENTS_NONE) {
        if (!raw->ca)
            key_error(dtls, "ca",
                      "is missing, and clients' certificates are to be checked; add "
                      "it");
        if (!raw->certificate)
            key_error(dtls, "client_certificates",
                      "clients have them only where the gateway has one; add certificate and key");
        return;
    }
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (keys[i].there)
            key_error(dtls, keys[i].key,
                      "is for clients' certificates; remove it, or write client_certificates: "
                      "required or optional");
}

struct config_dtls_listener *dtls_listener_read(struct loader *l, const struct place *listener,
                                                const struct raw_dtls_listener *raw)
{
    const struct means means = {raw->psk != NULL, raw->certificate != NULL, "psk", "certificate"};
    struct place at = place_key(listener, "dtls");
    struct config_dtls_listener *out = loader_array(l, 1, sizeof(*out));

    if (!out)
        return NULL;
    out->line = at.line;
    if (!raw->psk && !raw->certificate && !raw->key)
        place_error(&at, "has neither psk nor certificate; add one of them");
    read_psk(l, &at, raw->psk, out);
    check_pair(&at, raw->certificate, "certificate", raw->key, "key");
    read_file(l, &at, "certificate", raw->certificate, &out->certificate);
    read_file(l, &at, "key", raw->key, &out->key);
    read_file(l, &at, "ca", raw->ca, &out->ca);
    read_file(l, &at, "crl", raw->crl, &out->crl);
    out->clients = raw->client_certificates;
    check_clients(&at, raw);
    read_names(l, &at, raw, out);
    read_suites(l, &at, raw->suites, raw->suites_count, &means, &out->suites);
    out->tickets = raw->tickets ? *raw->tickets : true;
    out->connection_id = raw->connection_id ? *raw->connection_id : true;
    return out;
}

void dtls_listener_free(struct config_dtls_listener *dtls)
{
    if (!dtls)
        return;
    free(dtls->psk_file.path);
    free(dtls->psk_hint);
    free(dtls->certificate.path);
    free(dtls->key.path);
    free(dtls->ca.path);
    free(dtls->crl.path);
    for (unsigned i = 0; i < dtls->name_count; i++)
        free(dtls->names[i]);
    free(dtls->names);
    free(dtls->suites.numbers);
    free(dtls);
}

/* ---- upstreams ---- */

static void read_server_name(struct loader *l, const struct place *dtls, const char *text,
                             struct config_dtls_upstream *out)
{
    char name[VALUE_HOST_BYTES];
    struct address address;

    if (!text)
        return;
    if (address_parse(text, &address) == 0)
        address_format(&address, name);
    else if (value_domain(text, name) < 0) {
        key_error(dtls, "name", "\"%.80s\" is not a host; write a name or an IP address", text);
        return;
    }
    out->name = loader_text(l, name);
}

/* A server that has a certificate must be known by it. */
static void check_upstream(const struct place *dtls, const struct raw_dtls_upstream *raw)
{
    const struct {
        const char *key, *text;
    } keys[] = {{"certificate", raw->certificate}, {"crl", raw->crl}, {"name", raw->name}};

    check_pair(dtls, raw->identity, "identity", raw->key_file, "key_file");
    check_pair(dtls, raw->certificate, "certificate", raw->key, "key");
    if (!raw->identity && !raw->key_file && !raw->ca)
        place_error(dtls, "has neither identity and key_file nor ca; add one of them");
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && !raw->ca; i++)
        if (keys[i].text)
            key_error(dtls, keys[i].key,
                      "is for servers with a certificate, which ca is to check; add ca, or remove "
                      "it");
}

struct config_dtls_upstream *dtls_upstream_read(struct loader *l, const struct place *upstream,
                                                const struct raw_dtls_upstream *raw)
{
    const struct means means = {raw->identity != NULL, raw->ca != NULL, "identity", "ca"};
    struct place at = place_key(upstream, "dtls");
    struct config_dtls_upstream *out = loader_array(l, 1, sizeof(*out));

    if (!out)
        return NULL;
    out->line = at.line;
    check_upstream(&at, raw);
    out->identity = raw->identity ? loader_text(l, raw->identity) : NULL;
    read_file(l, &at, "key_file", raw->key_file, &out->key_file);
    read_file(l, &at, "certificate", raw->certificate, &out->certificate);
    read_file(l, &at, "key", raw->key, &out->key);
    read_file(l, &at, "ca", raw->ca, &out->ca);
    read_file(l, &at, "crl", raw->crl, &out->crl);
    read_server_name(l, &at, raw->name, out);
    read_suites(l, &at, raw->suites, raw->suites_count, &means, &out->suites);
    out->connection_id = raw->connection_id ? *raw->connection_id : true;
    return out;
}

void dtls_upstream_free(struct config_dtls_upstream *dtls)
{
    if (!dtls)
        return;
    free(dtls->identity);
    free(dtls->key_file.path);
    free(dtls->certificate.path);
    free(dtls->key.path);
    free(dtls->ca.path);
    free(dtls->crl.path);
    free(dtls->name);
    free(dtls->suites.numbers);
    free(dtls);
}
