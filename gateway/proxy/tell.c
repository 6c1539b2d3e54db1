#include "gateway/proxy/tell.h"

#include <errno.h>
#include <string.h>

#define QUERY_BYTES 255 /* RFC 7252 5.10.1 */

/* What is added: NULL stands for nothing. */
struct own {
    uint16_t number;
    const uint8_t *value;
    uint16_t length;
    char text[QUERY_BYTES + PRINCIPAL_TEXT_BYTES + 2];
};

/* "NAME", and "NAME=" with anything behind it. */
static bool is_parameter(const uint8_t *at, size_t length, const char *name)
{
    size_t own = strlen(name);

    return length >= own && memcmp(at, name, own) == 0 && (length == own || at[own] == '=');
}

/* An '&' within an option is not what separates parameters (RFC 7252 6.4); but an origin that joins
 * them to a query, and takes that apart again, could not tell. */
static bool is_query(const struct option_view *view, const char *name)
{
    const uint8_t *at = view->value, *end = at + view->length;

    for (;;) {
        const uint8_t *next = at < end ? memchr(at, '&', (size_t)(end - at)) : NULL;

        if (is_parameter(at, (size_t)((next ? next : end) - at), name))
            return true;
        if (!next)
            return false;
        at = next + 1;
    }
}

static bool is_own(const struct config_upstream *u, uint16_t number, const struct option_view *view)
{
    if (u->tell_client == CONFIG_TELL_OPTION)
        return number == u->tell_option;
    return number == OPTION_URI_QUERY && is_query(view, u->tell_query);
}

static int make_own(struct own *own, const struct config_upstream *u,
                    const struct principal *client)
{
    char *at = own->text;

    own->value = NULL;
    own->number = u->tell_client == CONFIG_TELL_OPTION ? u->tell_option : OPTION_URI_QUERY;
    if (client->kind == PRINCIPAL_NONE)
        return 0;
    if (u->tell_client == CONFIG_TELL_QUERY) {
        at = stpcpy(at, u->tell_query);
        *at++ = '=';
    }
    principal_format(client, at);
    own->value = (const uint8_t *)own->text;
    own->length = (uint16_t)strlen(own->text);
    return own->length <= QUERY_BYTES ? 0 : -EMSGSIZE;
}

/* The options without those of the client's that are ours, and ours, unless `own` is NULL, behind
 * the last one of its number. */
static void write_options(struct encoder *e, const struct message *request,
                          const struct config_upstream *u, const struct own *own)
{
    struct option_cursor cursor = option_cursor(request);
    struct option_copy copy = option_copy(e, request->options);
    bool missing = own && own->value;
    struct option_view view;

    while (option_next(&cursor, &view)) {
        if (missing && cursor.number > own->number) {
            option_copy_end(&copy);
            encoder_option(e, own->number, own->value, own->length);
            copy.moved = true;
            missing = false;
        }
        if (is_own(u, cursor.number, &view))
            option_copy_drop(&copy, &cursor);
        else
            option_copy_keep(&copy, &cursor, &view);
    }
    option_copy_end(&copy);
    if (missing)
        encoder_option(e, own->number, own->value, own->length);
}

static int write_message(struct told *told, const struct message *request,
                         const struct config_upstream *u, const struct own *own)
{
    struct encoder e;
    size_t length;

    encoder_begin(&e, told->bytes, sizeof(told->bytes), (enum message_type)request->type,
                  request->code, request->mid, request->token, request->token_length);
    write_options(&e, request, u, own);
    encoder_payload(&e, request->payload, request->payload_length);
    length = encoder_end(&e);
    return length && message_parse(told->bytes, (uint16_t)length, &told->message) == VERDICT_OK
               ? 0
               : -EMSGSIZE;
}

/* An option of ours is known to us and to the origin, whatever its number says: what is unknown is
 * asked of the message without it. */
int tell_write(struct told *told, const struct message *request,
               const struct config_upstream *upstream, const struct principal *client)
{
    uint16_t critical_unsafe, elective_unsafe, critical;
    struct own own;
    int err = make_own(&own, upstream, client);

    if (!err)
        err = write_message(told, request, upstream, NULL);
    if (err || !own.value)
        return err;
    critical_unsafe = told->message.unknown_critical_unsafe;
    elective_unsafe = told->message.unknown_elective_unsafe;
    critical = told->message.unknown_critical;
    err = write_message(told, request, upstream, &own);
    told->message.unknown_critical_unsafe = critical_unsafe;
    told->message.unknown_elective_unsafe = elective_unsafe;
    told->message.unknown_critical = critical;
    return err;
}
