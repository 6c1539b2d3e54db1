/* The store: where Redis is, who the gateway is there, and how long it waits for it. */
#include "config/loader.h"
#include "config/quantity.h"
#include "config/secret.h"
#include "config/store_url.h"
#include "config/value.h"

#define COAP_PORT 5683

#define SECOND_US UINT64_C(1000000)

_Static_assert(STORE_CREDENTIAL_MAX == SECRET_MAX, "a password file holds any password");

/* ---- user and password ---- */

static void read_password(struct loader *l, const struct place *at, const char *file,
                          struct config_store *out)
{
    char line[SECRET_MAX + 1];

    if (secret_read(at, file, "password", line))
        out->password = loader_text(l, line);
    explicit_bzero(line, sizeof(line));
}

/* What is not in the URL. */
static void read_credentials(struct loader *l, const struct place *store,
                             const struct raw_store *raw, struct config_store *out)
{
    struct place file = place_key(store, "password_file");

    if (raw->username && out->username)
        key_error(store, "username", "the url has a user, too; remove one of them");
    else if (raw->username && strlen(raw->username) > STORE_CREDENTIAL_MAX)
        key_error(store, "username", "has %zu bytes; write at most %d", strlen(raw->username),
                  STORE_CREDENTIAL_MAX);
    else if (raw->username)
        out->username = loader_text(l, raw->username);
    if (raw->password_file && out->password)
        place_error(&file, "the url has a password, too; remove one of them");
    else if (raw->password_file)
        read_password(l, &file, raw->password_file, out);
    else if (out->username && !out->password)
        key_error(store, raw->username ? "username" : "url",
                  "there is a user without a password; add password_file");
}

static void read_place(struct loader *l, const struct place *store, const struct raw_store *raw,
                       struct config_store *out)
{
    const char *wrong = store_url_take(raw->url, out);

    if (wrong)
        key_error(store, "url", "%s", wrong);
    else
        read_credentials(l, store, raw, out);
}

/* ---- keys ---- */

static void read_prefix(struct loader *l, const struct place *store, const char *text,
                        struct config_store *out)
{
    if (!text)
        text = "coapgw";
    if (!value_is_word(text, ".:", 64))
        key_error(store, "prefix",
                  "\"%.80s\" is no prefix; write 1 to 64 letters, digits, _, -, . or :", text);
    out->prefix = loader_text(l, text);
}

/* The first listener's: the one that is least likely to go. */
static struct endpoint first_listener(const struct config *config)
{
    struct endpoint endpoint = {.port = COAP_PORT};

    if (config->listener_count && config->listeners[0].local < config->local_count) {
        endpoint.address = config->locals[config->listeners[0].local].address;
        endpoint.port = config->listeners[0].port;
    }
    return endpoint;
}

/* In one spelling: two gateways that share a service find the same keys. */
static void read_service(struct loader *l, const struct place *store, const char *text,
                         struct config_store *out)
{
    struct place at = place_key(store, "service");
    struct endpoint service = first_listener(l->config);
    char spelled[ENDPOINT_TEXT_BYTES];

    if (text) {
        service.port = COAP_PORT;
        if (value_endpoint(text, &service) < 0)
            place_error(&at,
                        "\"%.80s\" is not an address and port; write ADDRESS:PORT, an IPv6 address "
                        "in brackets",
                        text);
        else
            address_is_usable(&at, text, &service.address);
    }
    out->service = loader_text(l, endpoint_format(&service.address, service.port, spelled));
}

void load_store(struct loader *l)
{
    static const struct quantity timeout = {"timeout", QUANTITY_TIME_MS, 10, 10000, 500};
    static const struct quantity save = {"save_freq", QUANTITY_COUNT, 1, 1000000, 10};
    static const struct quantity spread = {"resume_spread", QUANTITY_TIME_US, 0, 3600 * SECOND_US,
                                           10 * SECOND_US};
    static const struct raw_store none;
    const struct raw_store *raw = l->raw->store ? l->raw->store : &none;
    struct config_store *out = &l->config->store;
    struct place at = place_key(&l->root, "store");

    if (raw->url)
        read_place(l, &at, raw, out);
    read_prefix(l, &at, raw->prefix, out);
    read_service(l, &at, raw->service, out);
    out->timeout_ms = (uint32_t)quantity_read(&at, &timeout, raw->timeout);
    out->reject = raw->on_failure == RAW_REJECT;
    out->save_freq = (uint32_t)quantity_read(&at, &save, raw->save_freq);
    out->resume_spread_us = quantity_read(&at, &spread, raw->resume_spread);
}
