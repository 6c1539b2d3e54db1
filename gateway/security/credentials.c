#include "gateway/security/credentials.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/x509v3.h>

#include "gateway/security/cipher_suite.h"
#include "gateway/security/context.h"
#include "gateway/security/ticket.h"

struct credentials_side {
    const struct config_dtls_listener *listener; /* one of the two */
    const struct config_dtls_upstream *upstream;
    struct psk_table *psk;
    bool shares_psk; /* another side frees it */
    uint8_t own_key[PSK_KEY_MAX];
    unsigned own_key_length;
    unsigned count;
    SSL_CTX *contexts[CONFIG_WORKERS_MAX];
    struct tickets tickets[CONFIG_WORKERS_MAX];
};

struct credentials {
    atomic_uint users;
    _Atomic uint64_t now_s;
    const struct config *config;
    struct credentials_side **listeners, **upstreams; /* as in the configuration, NULL: plain */
    struct credentials_count totals;
    uint8_t secret[TICKET_SECRET_BYTES];
};

/* ---- use ---- */

bool credentials_wanted(const struct config *config)
{
    for (unsigned i = 0; i < config->listener_count; i++)
        if (config->listeners[i].dtls)
            return true;
    for (unsigned i = 0; i < config->upstream_count; i++)
        if (config->upstreams[i].dtls)
            return true;
    return config->forward.upstream.dtls != NULL;
}

struct credentials *credentials_take(struct credentials *credentials)
{
    if (credentials)
        atomic_fetch_add_explicit(&credentials->users, 1, memory_order_relaxed);
    return credentials;
}

struct credentials_count credentials_count(const struct credentials *credentials)
{
    return credentials->totals;
}

void credentials_set_time(struct credentials *credentials, uint64_t unix_s)
{
    if (credentials)
        atomic_store_explicit(&credentials->now_s, unix_s, memory_order_relaxed);
}

const struct credentials_side *credentials_listener(const struct credentials *credentials,
                                                    unsigned listener)
{
    return listener < credentials->config->listener_count ? credentials->listeners[listener] : NULL;
}

const struct credentials_side *credentials_upstream(const struct credentials *credentials,
                                                    unsigned upstream)
{
    return upstream <= credentials->config->upstream_count ? credentials->upstreams[upstream]
                                                           : NULL;
}

SSL_CTX *credentials_context(const struct credentials_side *side, unsigned worker)
{
    return worker < side->count ? side->contexts[worker] : NULL;
}

int credentials_psk(const struct credentials_side *side, const uint8_t *identity, size_t length,
                    uint8_t key[PSK_KEY_MAX])
{
    return psk_find(side->psk, identity, length, key);
}

int credentials_own_psk(const struct credentials_side *side, const char **identity,
                        uint8_t key[PSK_KEY_MAX])
{
    if (!side->own_key_length)
        return -ENOENT;
    *identity = side->upstream->identity;
    memcpy(key, side->own_key, side->own_key_length);
    return (int)side->own_key_length;
}

/* An address is no name that a server could choose a certificate by (RFC 6066 3). */
int credentials_expect(const struct credentials_side *side, SSL *ssl, const struct address *server)
{
    const char *name = side->upstream->name;
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    struct address address;
    bool is_v4 = address_is_v4(server), good;

    if (!name)
        good = X509_VERIFY_PARAM_set1_ip(parameters, server->bytes + (is_v4 ? 12 : 0),
                                         is_v4 ? 4 : 16) > 0;
    else if (address_parse(name, &address) == 0)
        good = X509_VERIFY_PARAM_set1_ip_asc(parameters, name) > 0;
    else
        good = SSL_set1_host(ssl, name) > 0 && SSL_set_tlsext_host_name(ssl, name) > 0;
    return good ? 0 : -ENOMEM;
}

bool credentials_admit(const struct credentials_side *side, const struct principal *principal)
{
    const struct config_dtls_listener *dtls = side->listener;
    uint8_t key[PSK_KEY_MAX];
    int length;

    if (principal->kind == PRINCIPAL_PSK) {
        length = psk_find(side->psk, (const uint8_t *)principal->text, principal->length, key);
        OPENSSL_cleanse(key, sizeof(key));
        return length > 0 || dtls->psk_store;
    }
    if (principal->kind == PRINCIPAL_NONE || dtls->name_count == 0)
        return true;
    for (unsigned i = 0; i < dtls->name_count; i++)
        if (principal_name_matches(principal, dtls->names[i]))
            return true;
    return false;
}

const struct config_dtls_listener *credentials_listener_config(const struct credentials_side *side)
{
    return side->listener;
}

const struct config_dtls_upstream *credentials_upstream_config(const struct credentials_side *side)
{
    return side->upstream;
}

/* ---- the end ---- */

static void free_side(struct credentials_side *side)
{
    if (!side)
        return;
    for (unsigned i = 0; i < CONFIG_WORKERS_MAX; i++)
        SSL_CTX_free(side->contexts[i]);
    if (!side->shares_psk)
        psk_free(side->psk);
    OPENSSL_cleanse(side, sizeof(*side));
    free(side);
}

static void free_all(struct credentials *all)
{
    for (unsigned i = 0; all->listeners && i < all->config->listener_count; i++)
        free_side(all->listeners[i]);
    for (unsigned i = 0; all->upstreams && i <= all->config->upstream_count; i++)
        free_side(all->upstreams[i]);
    free(all->listeners);
    free(all->upstreams);
    OPENSSL_cleanse(all, sizeof(*all));
    free(all);
}

void credentials_drop(struct credentials *credentials)
{
    if (credentials && atomic_fetch_sub_explicit(&credentials->users, 1, memory_order_acq_rel) == 1)
        free_all(credentials);
}

bool credentials_is_last(const struct credentials *credentials)
{
    return atomic_load_explicit(&credentials->users, memory_order_acquire) == 1;
}

/* ---- loading ---- */

static void say(struct complaints *c, const char *why)
{
    fprintf(c->out, "%s: %s[%u].dtls: cannot be loaded: %s\n", c->config->file, c->list, c->index,
            why);
    c->wrong++;
}

static void read_material(struct material *m, const struct credentials_side *side,
                          struct complaints *c)
{
    const struct config_dtls_listener *l = side->listener;
    const struct config_dtls_upstream *u = side->upstream;

    *m = (struct material){.server = l != NULL, .suites = l ? &l->suites : &u->suites};
    if (l) {
        m->clients = l->clients;
        m->hint = l->psk_hint;
    } else {
        m->name = u->name;
    }
    pem_read(&m->certificate, l ? &l->certificate : &u->certificate, "certificate", 0, c);
    pem_read(&m->key, l ? &l->key : &u->key, "key", PEM_PRIVATE, c);
    pem_read(&m->ca, l ? &l->ca : &u->ca, "ca", 0, c);
    pem_read(&m->crl, l ? &l->crl : &u->crl, "crl", 0, c);
}

static void free_material(struct material *m)
{
    pem_free(&m->certificate);
    pem_free(&m->key);
    pem_free(&m->ca);
    pem_free(&m->crl);
}

/* The secret of a listener's tickets: HMAC-SHA256 with the service's secret over what the listener
 * is, what it speaks and whom it trusts. A client that was let in by what is no longer so is not
 * let in by a ticket, and no listener takes another one's. */
static bool make_ticket_secret(const struct credentials *all, const struct material *m,
                               const struct credentials_side *side, unsigned index,
                               uint8_t out[TICKET_SECRET_BYTES])
{
    const struct config_listener *l = &all->config->listeners[index];
    const struct pem *files[] = {&m->certificate, &m->ca, &m->crl};
    const struct config_suites *suites = m->suites;
    uint8_t text[20 + 32 * 4 + 2 * CIPHER_SUITES_MAX] = {0};
    size_t length = 0;

    memcpy(text, all->config->locals[l->local].address.bytes, 16);
    text[16] = (uint8_t)(l->port >> 8);
    text[17] = (uint8_t)l->port;
    text[18] = (uint8_t)side->listener->clients;
    psk_digest(side->psk, text + 20);
    for (unsigned i = 0; i < 3; i++)
        if (EVP_Digest(files[i]->text ? files[i]->text : "", files[i]->length,
                       text + 20 + 32 * (i + 1), NULL, EVP_sha256(), NULL) <= 0)
            return false;
    for (unsigned i = 0; i < suites->count && i < CIPHER_SUITES_MAX; i++)
        memcpy(text + 20 + 32 * 4 + 2 * i, &suites->numbers[i], 2);
    return EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, all->secret, sizeof(all->secret), text,
                     sizeof(text), out, TICKET_SECRET_BYTES, &length) != NULL;
}

static void attach_tickets(struct credentials *all, const struct material *m,
                           struct credentials_side *side, unsigned index, struct complaints *c)
{
    uint8_t secret[TICKET_SECRET_BYTES];

    if (!make_ticket_secret(all, m, side, index, secret)) {
        say(c, "OpenSSL has no HMAC");
        return;
    }
    for (unsigned i = 0; i < side->count; i++) {
        memcpy(side->tickets[i].secret, secret, sizeof(secret));
        side->tickets[i].now_s = &all->now_s;
        SSL_CTX_clear_options(side->contexts[i], SSL_OP_NO_TICKET);
        if (tickets_attach(&side->tickets[i], side->contexts[i]) < 0) {
            say(c, "no memory for tickets");
            break;
        }
    }
    OPENSSL_cleanse(secret, sizeof(secret));
}

/* A file that several listeners name is there once. */
static void load_psk(struct credentials *all, struct credentials_side *side, unsigned index,
                     struct complaints *c)
{
    const char *path = side->listener->psk_file.path;

    for (unsigned i = 0; path && i < index; i++) {
        const struct credentials_side *other = all->listeners[i];

        if (other && other->psk && strcmp(other->listener->psk_file.path, path) == 0) {
            side->psk = other->psk;
            side->shares_psk = true;
            return;
        }
    }
    if (!path)
        return;
    side->psk = psk_load(path, c->out);
    if (!side->psk)
        c->wrong++;
    all->totals.identities += psk_count(side->psk);
}

static void load_own_key(struct credentials_side *side, struct complaints *c)
{
    struct pem file;

    pem_read(&file, &side->upstream->key_file, "key_file", PEM_PRIVATE, c);
    if (file.text)
        side->own_key_length = pem_hex_key(&file, c, side->own_key);
    pem_free(&file);
}

static void make_contexts(struct credentials *all, struct credentials_side *side,
                          const struct material *m, unsigned index, struct complaints *c)
{
    unsigned before = c->wrong;

    all->totals.certificates += material_check(m, c, (int64_t)all->now_s);
    while (c->wrong == before && side->count < all->config->workers)
        if ((side->contexts[side->count] = context_create(m, c)))
            side->count++;
    if (c->wrong == before && side->listener && side->listener->tickets)
        attach_tickets(all, m, side, index, c);
}

/* Reachable from `all` as soon as it is there. */
static void load_side(struct credentials *all, struct credentials_side **slot,
                      const struct config_dtls_listener *listener,
                      const struct config_dtls_upstream *upstream, struct complaints *c)
{
    struct credentials_side *side = *slot = calloc(1, sizeof(*side));
    unsigned before = c->wrong;
    struct material material;

    if (!side) {
        say(c, "no memory");
        return;
    }
    side->listener = listener;
    side->upstream = upstream;
    if (listener)
        load_psk(all, side, c->index, c);
    else
        load_own_key(side, c);
    read_material(&material, side, c);
    if (c->wrong == before)
        make_contexts(all, side, &material, c->index, c);
    free_material(&material);
}

static void load_sides(struct credentials *all, struct complaints *c)
{
    const struct config *config = all->config;

    all->listeners = calloc(config->listener_count + 1u, sizeof(*all->listeners));
    all->upstreams = calloc(config->upstream_count + 1u, sizeof(*all->upstreams));
    if (!all->listeners || !all->upstreams) {
        say(c, "no memory");
        return;
    }
    for (c->index = 0; c->index < config->listener_count; c->index++)
        if (config->listeners[c->index].dtls)
            load_side(all, &all->listeners[c->index], config->listeners[c->index].dtls, NULL, c);
    c->list = "upstreams";
    for (c->index = 0; c->index < config->upstream_count; c->index++)
        if (config->upstreams[c->index].dtls)
            load_side(all, &all->upstreams[c->index], NULL, config->upstreams[c->index].dtls, c);
    c->list = "forward_proxy";
    if (config->forward.upstream.dtls) /* c->index is behind the upstreams now */
        load_side(all, &all->upstreams[c->index], NULL, config->forward.upstream.dtls, c);
}

struct credentials *credentials_load(const struct config *config,
                                     const uint8_t secret[CREDENTIALS_SECRET_BYTES], FILE *errors)
{
    struct complaints c = {.out = errors, .config = config, .list = "listeners"};
    struct credentials *all = calloc(1, sizeof(*all));

    if (!all) {
        say(&c, "no memory");
        return NULL;
    }
    all->config = config;
    atomic_init(&all->users, 1);
    atomic_init(&all->now_s, (uint64_t)time(NULL));
    if (secret)
        memcpy(all->secret, secret, CREDENTIALS_SECRET_BYTES);
    else if (getrandom(all->secret, sizeof(all->secret), 0) != (ssize_t)sizeof(all->secret))
        say(&c, strerror(errno));
    load_sides(all, &c);
    if (c.wrong == 0)
        return all;
    credentials_drop(all);
    return NULL;
}
