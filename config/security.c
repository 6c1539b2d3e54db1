/* Who clients are, and what becomes of their associations: patterns of names, how origins are told,
 * and the keys below security. */
#include "config/loader.h"
#include "config/quantity.h"
#include "config/secret.h"
#include "config/value.h"
#include "gateway/coap/option.h"
#include "gateway/security/principal.h"
#include "gateway/security/psk.h"

#define SECOND_US UINT64_C(1000000)
#define HOUR_US   (3600 * SECOND_US)

/* ---- patterns ---- */

/* Behind the kind: '*' at the end, or in front as a label of a certificate's name. */
static bool star_is_good(const char *name, bool is_certificate)
{
    const char *star = strchr(name, '*');

    if (!star)
        return true;
    if (is_certificate && name[0] == '*' && name[1] == '.' && name[2])
        return !strchr(name + 1, '*');
    return star[1] == '\0';
}

bool pattern_is_good(const struct place *at, const char *text, bool kinds)
{
    bool psk = kinds && strncmp(text, "psk:", 4) == 0;
    bool certificate = !kinds || strncmp(text, "cert:", 5) == 0;
    const char *name = psk ? text + 4 : kinds && certificate ? text + 5 : text;

    if (!psk && !certificate)
        place_error(at, "\"%.80s\" is no client; write psk:IDENTITY or cert:NAME", text);
    else if (name[0] == '\0')
        place_error(at, "\"%.80s\" has no name; write one, or * for any", text);
    else if (strlen(name) > PRINCIPAL_MAX)
        place_error(at, "has a name of %zu bytes; write at most %d", strlen(name), PRINCIPAL_MAX);
    else if (!star_is_good(name, certificate))
        place_error(at, "\"%.80s\" has a * in the middle; write one at the end%s", text,
                    certificate ? ", or one label *. in front" : "");
    else
        return true;
    return false;
}

static bool has_secure_listener(const struct config *config)
{
    for (unsigned i = 0; i < config->listener_count; i++)
        if (config->listeners[i].transport == TRANSPORT_DTLS)
            return true;
    return false;
}

void allow_read(struct loader *l, const struct place *route, const struct raw_route *raw,
                struct config_route *out)
{
    struct place list = place_key(route, "allow");

    if (raw->allow_count && !has_secure_listener(l->config))
        place_error(&list, "nobody could use the route, because no listener is a coaps:// one; add "
                           "one, or remove it");
    out->allow = loader_array(l, raw->allow_count, sizeof(*out->allow));
    for (unsigned i = 0; out->allow && i < raw->allow_count; i++) {
        struct place at = place_entry(&list, i);

        if (pattern_is_good(&at, raw->allow[i], true))
            out->allow[out->allow_count++] = loader_text(l, raw->allow[i]);
    }
}

/* ---- what origins are told ---- */

/* One that means something already would be two things in one request. */
static uint16_t read_option(const struct place *tell, const char *text)
{
    static const struct quantity number = {"option", QUANTITY_COUNT, 256, UINT16_MAX, 65000};
    uint64_t value = quantity_read(tell, &number, text);

    if (value == OPTION_NO_RESPONSE || value == OPTION_REQUEST_TAG)
        key_error(tell, "option", "%s is an option of CoAP; write another number, such as 65000",
                  text);
    return (uint16_t)value;
}

void tell_read(struct loader *l, const struct place *upstream, const struct raw_tell *raw,
               struct config_upstream *out)
{
    struct place at = place_key(upstream, "tell_client");

    if (!raw)
        return;
    if (!raw->query == !raw->option) {
        place_error(&at, "has %s of query and option; write one of them",
                    raw->query ? "both" : "none");
    } else if (raw->option) {
        out->tell_client = CONFIG_TELL_OPTION;
        out->tell_option = read_option(&at, raw->option);
    } else {
        out->tell_client = CONFIG_TELL_QUERY;
        out->tell_query = loader_text(l, raw->query);
        if (!value_is_word(raw->query, ".", 64))
            key_error(&at, "query",
                      "\"%.80s\" is not a name; write 1 to 64 letters, digits, _, - or .",
                      raw->query);
    }
}

/* ---- security ---- */

static void read_persist_key(struct loader *l, const struct place *security, const char *file,
                             struct config_security *out)
{
    struct place at = place_key(security, "persist_key_file");
    char line[SECRET_MAX + 1];
    uint8_t key[PSK_KEY_MAX];

    out->persist_key_file.path = loader_text(l, file);
    out->persist_key_file.line = at.line;
    if (!l->raw->store)
        place_error(&at, "there is no store; add one with the key store, or remove it");
    if (!secret_read_private(&at, file, "key", line))
        return;
    out->persist = psk_parse_key(line, strlen(line), key) == (int)sizeof(out->persist_key);
    if (out->persist)
        memcpy(out->persist_key, key, sizeof(out->persist_key));
    else
        place_error(&at, "has no key in its first line; write 64 hexadecimal digits there");
    explicit_bzero(line, sizeof(line));
    explicit_bzero(key, sizeof(key));
}

void load_security(struct loader *l)
{
    static const struct quantity idle = {"idle", QUANTITY_TIME_US, 60 * SECOND_US, 8760 * HOUR_US,
                                         24 * HOUR_US};
    static const struct quantity budget = {"handshake_budget", QUANTITY_COUNT, 1, 1000000, 1};
    const struct raw_security *raw = &l->raw->security;
    struct config_security *out = &l->config->security;
    struct place at = place_key(&l->root, "security");

    out->idle_us = quantity_read(&at, &idle, raw->idle);
    out->handshake_budget = (uint32_t)quantity_read(&at, &budget, raw->handshake_budget);
    if (raw->persist_key_file)
        read_persist_key(l, &at, raw->persist_key_file, out);
}
