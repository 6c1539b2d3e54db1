#include "gateway/control/admin_relation.h"

#include <stdio.h>
#include <string.h>

#include "gateway/coap/message.h"
#include "gateway/proxy/local.h"

/* ---- what is observed ---- */

/* RFC 3986 3.3 and 3.4; '&' parts query items. */
static bool is_plain(uint8_t c, bool query)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c && (strchr("-._~!$'()*+,;=:@", c) || (query ? strchr("/?", c) != NULL : c == '&'));
}

static char *put_escaped(char *to, const struct option_view *view, bool query)
{
    for (unsigned i = 0; i < view->length; i++) {
        const uint8_t c = view->value[i];

        if (is_plain(c, query))
            *to++ = (char)c;
        else
            to += sprintf(to, "%%%02X", c);
    }
    return to;
}

void relation_resource(const uint8_t *options, uint16_t length, char *text)
{
    struct option_cursor c = {.at = options, .end = options + length};
    struct option_view view;
    bool path = false, query = false;
    char *to = text;

    while (option_next(&c, &view)) {
        if (view.length > c.end - view.value) /* it was cut */
            break;
        if (c.number == OPTION_URI_HOST) {
            to += sprintf(to, "//");
            to = put_escaped(to, &view, false);
        } else if (c.number == OPTION_URI_PATH) {
            *to++ = '/';
            to = put_escaped(to, &view, false);
            path = true;
        } else if (c.number == OPTION_URI_QUERY) {
            to += sprintf(to, "%s%c", path || query ? "" : "/", query ? '&' : '?');
            to = put_escaped(to, &view, true);
            query = true;
        }
    }
    strcpy(to, path || query ? "" : "/");
}

/* ---- a relation ---- */

static const char *upstream_name(const struct admin *admin, const struct inspect_relation *r)
{
    if (r->upstream < admin->config->upstream_count)
        return admin->config->upstreams[r->upstream].name;
    return r->upstream == INSPECT_FORWARD ? "(forward proxy)" : "(gateway)";
}

static const char *kept_name(uint8_t kept)
{
    static const char *const names[] = {[KEPT_NOT] = "no", [KEPT_ASKED] = "asked", [KEPT] = "yes"};

    return kept < sizeof(names) / sizeof(names[0]) && names[kept] ? names[kept] : "unknown";
}

static const char *observation_name(uint8_t state)
{
    static const char *const names[] = {[OBSERVATION_REGISTERING] = "registering",
                                        [OBSERVATION_LIVE] = "live",
                                        [OBSERVATION_ENDING] = "ending",
                                        [OBSERVATION_OVER] = "over"};

    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static void format_token(const struct inspect_relation *r, const uint8_t *token, char *text)
{
    *text = 0;
    for (unsigned i = 0; i < r->token_length; i++)
        text += sprintf(text, "%02x", token[i]);
    if (r->token_cut)
        strcpy(text, "...");
}

static json_t *to_json(const struct admin *admin, unsigned worker, const struct inspect_relation *r,
                       const char *token, const char *resource)
{
    char id[SESSION_ID_BYTES], peer[ENDPOINT_TEXT_BYTES];
    json_t *row;

    session_id_format(worker, &r->session, id);
    endpoint_format(&r->session.peer.address, r->session.peer.port, peer);
    row = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s}", "session", id, "worker", (int)worker,
                    "peer", peer, "token", token, "resource", resource, "method",
                    r->method == CODE_FETCH ? "FETCH" : "GET", "upstream", upstream_name(admin, r));
    if (!row)
        return NULL;
    json_object_update_new(row, json_pack("{s:I, s:s, s:I, s:i, s:b, s:b, s:f, s:f, s:s}", "state",
                                          (json_int_t)r->state_n, "observation",
                                          observation_name(r->observed_state), "observers",
                                          (json_int_t)r->observers, "unconfirmed", r->unconfirmed,
                                          "outstanding", r->outstanding, "confirmed", r->confirmed,
                                          "sent", (double)r->sent_us / 1e6, "acknowledged",
                                          (double)r->acked_us / 1e6, "kept", kept_name(r->kept)));
    return row;
}

json_t *relation_json(const struct admin *admin, unsigned worker, const struct parcel *answer,
                      uint32_t *at)
{
    uint8_t tail[INSPECT_TOKEN_BYTES + INSPECT_OPTIONS_BYTES];
    char token[2 * INSPECT_TOKEN_BYTES + 4], resource[3 * INSPECT_OPTIONS_BYTES + 8 + 4];
    struct inspect_relation r;
    uint32_t length;

    if (!parcel_read(answer, *at, &r, sizeof(r)))
        return NULL;
    length = (uint32_t)r.token_length + r.options_length;
    if (r.token_length > INSPECT_TOKEN_BYTES || length > sizeof(tail) ||
        !parcel_read(answer, *at + (uint32_t)sizeof(r), tail, length))
        return NULL;
    *at += r.bytes;
    format_token(&r, tail, token);
    if (r.local_kind == LOCAL_RESOURCE)
        snprintf(resource, sizeof(resource), "%.*s", r.options_length, tail + r.token_length);
    else
        relation_resource(tail + r.token_length, r.options_length, resource);
    if (r.options_cut)
        strcat(resource, "...");
    return to_json(admin, worker, &r, token, resource);
}
