/* The forward proxy (RFC 7252 5.7.2): requests that say themselves where they go. Nothing is
 * allowed but what the configuration lists, and never the gateway's own addresses, loopback, or
 * what is local to a link. */
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "gateway/coap/uri.h"
#include "gateway/proxy/destination.h"

/* ---- start and end ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int list_own_names(struct proxy *p)
{
    const struct config *config = p->m->config;

    p->own_names = calloc(config->route_count + 1, sizeof(*p->own_names));
    if (!p->own_names)
        return -ENOMEM;
    for (unsigned i = 0; i < config->route_count; i++)
        if (config->routes[i].host)
            p->own_names[p->own_name_count++] = config->routes[i].host;
    qsort(p->own_names, p->own_name_count, sizeof(*p->own_names), compare_names);
    return 0;
}

int forward_init(struct proxy *p)
{
    int err;

    if (!p->m->config->forward.enabled)
        return 0;
    err = list_own_names(p);
    return err ? err : destinations_init(p);
}

void forward_fini(struct proxy *p)
{
    destinations_fini(p);
    free(p->own_names);
    p->own_names = NULL;
}

/* ---- what is allowed ---- */

static bool is_listener(const struct proxy *p, const struct address *a, uint16_t port)
{
    for (unsigned i = 0; i < p->m->config->listener_count; i++) {
        const struct config_listener *l = &p->m->config->listeners[i];

        if (l->port == port && address_equal(&p->m->config->locals[l->local].address, a))
            return true;
    }
    return false;
}

static bool is_listed_address(const struct config_forward *config, const struct address *a)
{
    for (unsigned i = 0; i < config->network_count; i++)
        if (address_in_subnet(a, &config->networks[i].address, config->networks[i].prefix))
            return true;
    return false;
}

static bool is_listed_name(const struct config_forward *config, const char *name, size_t length)
{
    for (unsigned i = 0; i < config->name_count; i++) {
        const char *listed = config->names[i];
        size_t own = strlen(listed);

        if (own == length && memcmp(listed, name, length) == 0)
            return true;
        /* "*.example.org": something in front of ".example.org" */
        if (listed[0] == '*' && length > own - 1 &&
            memcmp(name + length - (own - 1), listed + 1, own - 1) == 0)
            return true;
    }
    return false;
}

static bool is_own_name(const struct proxy *p, const char *name)
{
    return bsearch(&name, p->own_names, p->own_name_count, sizeof(*p->own_names), compare_names);
}

/* True when it is this gateway itself that serves it. */
static bool is_local(const struct proxy *p, const struct host *host)
{
    return host->is_literal ? is_listener(p, &host->address, host->port)
                            : is_own_name(p, host->name);
}

static bool is_allowed(const struct proxy *p, const struct host *host)
{
    const struct config_forward *config = &p->m->config->forward;

    return host->is_literal ? !destination_is_forbidden(p, &host->address) &&
                                  is_listed_address(config, &host->address)
                            : is_listed_name(config, host->name, host->name_length);
}

/* ---- reading ---- */

/* Where a request says it goes. */
struct aim {
    struct host host;
    struct uri uri; /* of Proxy-Uri */
    bool has_uri;
};

/* "mailto:", "http://": any scheme but ours is one that is not supported (5.05). What has none is
 * malformed (RFC 3986 3.1). */
static bool has_other_scheme(const char *text, size_t length)
{
    size_t n = 0;

    while (n < length &&
           ((text[n] >= 'a' && text[n] <= 'z') || (text[n] >= 'A' && text[n] <= 'Z') ||
            (n && ((text[n] >= '0' && text[n] <= '9') || strchr("+-.", text[n])))))
        n++;
    if (n == 0 || n == length || text[n] != ':')
        return false;
    return strncasecmp(text, "coap", 4) != 0 || !(n == 4 || (n == 5 && (text[4] | 0x20) == 's'));
}

/* An address, with or without brackets, is that address. */
static bool read_literal(struct host *host, const uint8_t *text, size_t length)
{
    char copy[ENDPOINT_TEXT_BYTES];

    if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length >= sizeof(copy))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    host->is_literal = address_parse(copy, &host->address) == 0;
    return host->is_literal;
}

static uint8_t read_host(struct host *host, const uint8_t *text, size_t length)
{
    if (length == 0 || length > HOST_NAME_BYTES)
        return CODE_BAD_REQUEST;
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] >= 0x7f)
            return CODE_BAD_REQUEST; /* no name that a resolver knows */
    if (length > 1 && text[length - 1] == '.')
        length--;
    if (read_literal(host, text, length))
        return 0;
    for (size_t i = 0; i < length; i++)
        host->name[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 0x20 : text[i]);
    host->name[length] = '\0';
    host->name_length = length;
    return 0;
}

static uint8_t aim_by_uri(struct aim *aim, const struct option_view *view)
{
    const char *text = (const char *)view->value;
    uint8_t host[HOST_NAME_BYTES];
    int length, err;

    if (has_other_scheme(text, view->length))
        return CODE_PROXYING_NOT_SUPPORTED;
    err = uri_parse(text, view->length, &aim->uri);
    if (err || aim->uri.host_length > sizeof(host))
        return CODE_BAD_REQUEST;
    aim->has_uri = true;
    aim->host.secure = aim->uri.scheme == URI_COAPS;
    aim->host.port = aim->uri.port;
    if (aim->uri.host_is_address) {
        aim->host.is_literal = true;
        aim->host.address = aim->uri.address;
        return 0;
    }
    length = uri_decode(aim->uri.host, aim->uri.host_length, host);
    return length < 0 ? CODE_BAD_REQUEST : read_host(&aim->host, host, (size_t)length);
}

static uint8_t aim_by_scheme(struct aim *aim, const struct message *msg)
{
    const struct option_view *scheme = &msg->first[SLOT_PROXY_SCHEME];
    const struct option_view *host = &msg->first[SLOT_URI_HOST];

    aim->host.secure = scheme->length == 5;
    if ((scheme->length != 4 && scheme->length != 5) ||
        strncasecmp((const char *)scheme->value, "coaps", scheme->length) != 0)
        return CODE_PROXYING_NOT_SUPPORTED;
    if (!message_has(msg, SLOT_URI_HOST))
        return CODE_BAD_OPTION;
    aim->host.port =
        (uint16_t)message_uint(msg, SLOT_URI_PORT, aim->host.secure ? COAPS_PORT : COAP_PORT);
    if (aim->host.port == 0)
        return CODE_BAD_REQUEST;
    return read_host(&aim->host, host->value, host->length);
}

static uint8_t read_aim(struct aim *aim, const struct message *msg)
{
    /* One that comes twice, or is too long, is not understood (RFC 7252 5.4.1, 5.4.5): it would be
     * lost with those that this hop takes away. */
    if (msg->unknown_critical_unsafe)
        return CODE_BAD_OPTION;
    return message_has(msg, SLOT_PROXY_URI) ? aim_by_uri(aim, &msg->first[SLOT_PROXY_URI])
                                            : aim_by_scheme(aim, msg);
}

/* ---- rewriting ---- */

static void put_segments(struct encoder *e, uint16_t number, const char *text, size_t length,
                         char separator)
{
    const char *end = text + length;

    while (text <= end) {
        const char *next = memchr(text, separator, (size_t)(end - text));
        uint8_t bytes[1034];
        int decoded;

        if (!next)
            next = end;
        decoded = uri_decode(text, (size_t)(next - text), bytes);
        if (decoded < 0 || decoded > 255)
            e->failed = true;
        else
            encoder_option(e, number, bytes, (size_t)decoded);
        text = next + 1;
    }
}

/* An address needs no name at its host; but here, it says which of ours is meant. */
static void put_host(struct encoder *e, const struct host *host, bool local)
{
    char text[ENDPOINT_TEXT_BYTES];

    if (!host->is_literal) {
        encoder_option(e, OPTION_URI_HOST, host->name, host->name_length);
    } else if (local) {
        address_format(&host->address, text);
        encoder_option(e, OPTION_URI_HOST, text, strlen(text));
    }
}

/* Options of the URI up to `number`, each once. */
static void put_uri_up_to(struct encoder *e, const struct aim *aim, bool local, unsigned *done,
                          uint32_t number)
{
    if (!(*done & 1) && number >= OPTION_URI_HOST) {
        *done |= 1;
        put_host(e, &aim->host, local);
    }
    if (!aim->has_uri)
        return;
    if (!(*done & 2) && number >= OPTION_URI_PATH) {
        *done |= 2;
        if (aim->uri.path_length)
            put_segments(e, OPTION_URI_PATH, aim->uri.path, aim->uri.path_length, '/');
    }
    if (!(*done & 4) && number >= OPTION_URI_QUERY) {
        *done |= 4;
        if (aim->uri.query) /* "?" is one that is empty */
            put_segments(e, OPTION_URI_QUERY, aim->uri.query, aim->uri.query_length, '&');
    }
}

/* Proxy-Uri takes precedence over all Uri-* options (RFC 7252 5.10.2). */
static bool is_replaced(const struct aim *aim, uint16_t number)
{
    switch (number) {
    case OPTION_URI_HOST:
    case OPTION_URI_PORT:
    case OPTION_PROXY_URI:
    case OPTION_PROXY_SCHEME:
        return true;
    case OPTION_URI_PATH:
    case OPTION_URI_QUERY:
        return aim->has_uri;
    default:
        return false;
    }
}

/* The request as one to the host itself. A code when it cannot be made. */
static uint8_t rewrite(struct proxy *p, const struct message *msg, const struct aim *aim,
                       bool local, struct message *out)
{
    struct option_cursor cursor = option_cursor(msg);
    struct option_view view;
    struct encoder e;
    unsigned done = 0;

    encoder_begin(&e, p->rewritten, sizeof(p->rewritten), msg->type, msg->code, msg->mid,
                  msg->token, msg->token_length);
    while (option_next(&cursor, &view)) {
        put_uri_up_to(&e, aim, local, &done, cursor.number);
        if (!is_replaced(aim, cursor.number))
            encoder_option(&e, cursor.number, view.value, view.length);
    }
    put_uri_up_to(&e, aim, local, &done, UINT16_MAX);
    encoder_payload(&e, msg->payload, msg->payload_length);
    if (encoder_end(&e) == 0 || message_parse(p->rewritten, encoder_end(&e), out) != VERDICT_OK)
        return CODE_BAD_REQUEST;
    out->length = msg->length; /* what the client paid for the answer */
    return 0;
}

/* ---- the way in ---- */

static void refuse(struct proxy *p, struct request *rq, uint8_t code)
{
    if (rq->multicast) {
        p->m->counters->drop_multicast++;
        return;
    }
    if (code == CODE_FORBIDDEN)
        p->m->counters->forward_forbidden++;
    if (request_admit(p->m, rq, true))
        reply_code(p->m, rq, code, NULL);
}

static void send_on(struct proxy *p, struct request *rq, const struct host *host)
{
    struct place place = {.config = &p->m->config->forward.upstream,
                          .count = 1,
                          .route = ROUTE_NONE,
                          .space = {.method = rq->message->code,
                                    .forward = host->secure ? 2 : 1,
                                    .upstream = host->port}};

    if (host->is_literal) {
        memcpy(place.space.address, host->address.bytes, sizeof(place.space.address));
        if (!destination_has_route(p, &host->address)) {
            if (request_admit(p->m, rq, true))
                reply_code(p->m, rq, CODE_GATEWAY_TIMEOUT, "no route to the host");
            return;
        }
    }
    place.first = destination_find(p, host);
    if (place.first == SERVER_NONE) {
        p->m->counters->refused_memory++;
        if (request_admit(p->m, rq, true))
            reply_busy(p->m, rq, "too many destinations");
        return;
    }
    proxy_pass(p, rq, &place);
}

bool proxy_forward(struct proxy *p, struct request *rq, struct message *local)
{
    struct aim aim = {0};
    uint8_t code;
    bool here;

    if (!p->destinations || rq->multicast) {
        refuse(p, rq, CODE_PROXYING_NOT_SUPPORTED);
        return false;
    }
    code = read_aim(&aim, rq->message);
    if (aim.host.secure && !p->m->config->forward.upstream.dtls)
        code = CODE_PROXYING_NOT_SUPPORTED;
    here = !code && is_local(p, &aim.host);
    if (!code && !here && !is_allowed(p, &aim.host))
        code = CODE_FORBIDDEN;
    if (!code)
        code = rewrite(p, rq->message, &aim, here, local);
    if (code) {
        refuse(p, rq, code);
        return false;
    }
    rq->original = rq->message;
    if (here)
        return true;
    rq->message = local;
    send_on(p, rq, &aim.host);
    return false;
}
