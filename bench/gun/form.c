#include "bench/gun/form.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ip.h>

#include "gateway/coap/message.h"
#include "gateway/coap/uri.h"

#define CONTENT_OCTETS 42 /* application/octet-stream (RFC 7252 12.3) */

/* A path while it is turned into options: %u stands as '%' 'u' in the text, and the place of its
 * digits is noted when its segment is written. */
struct writer {
    struct encoder e;
    struct form *t;
    bool failed;
};

static const uint8_t codes[GUN_KINDS] = {CODE_GET,    CODE_POST, CODE_PUT,
                                         CODE_DELETE, CODE_GET,  CODE_GET};

/* A value, without its %-escapes unless they are part of it. Returns its length, or less than 0. */
static int copy(const char *text, size_t length, bool escaped, uint8_t *out)
{
    if (escaped)
        return uri_decode(text, length, out);
    memcpy(out, text, length);
    return (int)length;
}

/* One segment, query item or URI, with zeros in the place of %u. */
static void put_part(struct writer *w, uint16_t option, const char *text, size_t length)
{
    const char *number = memmem(text, length, "%u", 2);
    bool escaped = option != OPTION_PROXY_URI;
    uint8_t value[512];
    size_t before = number ? (size_t)(number - text) : length, rest = 0;
    int head = copy(text, before, escaped, value), tail = 0;

    if (head < 0 || head + w->t->digits > (int)sizeof(value) - 200) {
        w->failed = true;
        return;
    }
    if (number) {
        memset(value + head, '0', w->t->digits);
        rest = length - before - 2;
        tail = copy(number + 2, rest, escaped, value + head + w->t->digits);
        if (tail < 0)
            w->failed = true;
        else
            tail += w->t->digits;
    }
    if (w->failed)
        return;
    encoder_option(&w->e, option, value, (size_t)(head + tail));
    w->t->last_option = option;
    if (number)
        w->t->number_at = (uint16_t)(w->e.length - (size_t)tail);
}

/* What lies between separators, from behind the first one on. */
static void put_parts(struct writer *w, uint16_t option, const char *text, size_t length, char by)
{
    const char *end = text + length;

    while (text < end) {
        const char *next = memchr(text, by, (size_t)(end - text));
        size_t part = (size_t)((next ? next : end) - text);

        put_part(w, option, text, part);
        text += part + 1;
    }
}

/* Path, content format and query, in the order of their numbers; or the whole URI, behind which no
 * Block option has a place. */
static void put_options(struct writer *w, const char *text, bool content)
{
    bool whole = text[0] != '/';
    size_t path = strcspn(text, "?");

    if (!whole)
        put_parts(w, OPTION_URI_PATH, text + 1, path - 1, '/');
    if (content) {
        encoder_uint(&w->e, OPTION_CONTENT_FORMAT, CONTENT_OCTETS);
        w->t->last_option = OPTION_CONTENT_FORMAT;
    }
    if (whole) {
        put_part(w, OPTION_PROXY_URI, text, strlen(text));
        w->failed |= w->t->appended;
    } else if (text[path] == '?') {
        put_parts(w, OPTION_URI_QUERY, text + path + 1, strlen(text) - path - 1, '&');
    }
}

static int make_one(struct form *t, const struct gun_options *o, const uint8_t *body,
                    const char *path, unsigned kind, unsigned digits, bool cancel)
{
    static const uint8_t token[FORM_TOKEN_BYTES];
    bool content = (kind == GUN_POST || kind == GUN_PUT) && o->payload_bytes;
    struct writer w = {.t = t};

    t->kind = (uint8_t)kind;
    t->code = codes[kind];
    t->digits = strstr(path, "%u") ? (uint8_t)digits : 0;
    t->appended = kind == GUN_BLOCK || (content && o->payload_bytes > BLOCK_BODY_MIN);
    encoder_begin(&w.e, t->bytes, sizeof(t->bytes) - (o->identity ? FORM_RECORD_BYTES : 0),
                  TYPE_CON, t->code, 0, token, sizeof(token));
    if (kind == GUN_OBSERVE) {
        encoder_uint(&w.e, OPTION_OBSERVE, cancel);
        t->last_option = OPTION_OBSERVE;
    }
    put_options(&w, path, content);
    if (content && !t->appended)
        encoder_payload(&w.e, body, o->payload_bytes);
    t->length = (uint16_t)encoder_end(&w.e);
    if (w.failed || t->length == 0 || (t->appended && t->length > 340)) {
        fprintf(stderr,
                "coapgun: %s: too long for a datagram, with a broken %%-escape, or a URI that is "
                "to be fetched block by block\n",
                path);
        return -EMSGSIZE;
    }
    t->rest_sum = rte_raw_cksum(t->bytes + FORM_HEAD_BYTES, t->length - FORM_HEAD_BYTES);
    return 0;
}

static unsigned stride_of(unsigned kind)
{
    return kind == GUN_OBSERVE ? 2 : 1;
}

static bool is_wanted(const struct gun_options *o, unsigned path, unsigned kind)
{
    return mix_path_is_for(o, path, kind) &&
           (o->mix[kind] || (kind == GUN_OBSERVE && o->observers));
}

static unsigned variants_of(const struct forms *t, const char *path, unsigned kind)
{
    return (strstr(path, "%u") ? t->digits : 1u) * stride_of(kind);
}

static int make_all(struct forms *t, const struct gun_options *o)
{
    uint32_t next = 0;

    for (unsigned i = 0; i < o->path_count * GUN_KINDS; i++) {
        unsigned path = i / GUN_KINDS, kind = i % GUN_KINDS;
        const char *text = o->paths[path].text;

        if (!is_wanted(o, path, kind))
            continue;
        t->first[i] = (uint16_t)next;
        for (unsigned v = 0; v < variants_of(t, text, kind); v++) {
            int err = make_one(&t->all[next++], o, t->body, text, kind, v / stride_of(kind) + 1,
                               v % stride_of(kind) != 0);

            if (err)
                return err;
        }
    }
    return 0;
}

static uint32_t count_all(const struct forms *t, const struct gun_options *o)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < o->path_count * GUN_KINDS; i++)
        if (is_wanted(o, i / GUN_KINDS, i % GUN_KINDS))
            count += variants_of(t, o->paths[i / GUN_KINDS].text, i % GUN_KINDS);
    return count;
}

static int take_memory(struct forms *t, const struct gun_options *o)
{
    t->count = count_all(t, o);
    if (t->count > UINT16_MAX)
        return -E2BIG;
    t->all = aligned_alloc(64, sizeof(*t->all) * (t->count ? t->count : 1));
    t->first = calloc(o->path_count ? o->path_count : 1, sizeof(*t->first) * GUN_KINDS);
    t->body = malloc(o->payload_bytes + 1u);
    if (!t->all || !t->first || !t->body)
        return -ENOMEM;
    memset(t->all, 0, sizeof(*t->all) * t->count);
    for (uint32_t i = 0; i < o->payload_bytes; i++)
        t->body[i] = (uint8_t)('a' + i % 26);
    return 0;
}

int forms_make(struct forms *t, const struct gun_options *o)
{
    int err;

    memset(t, 0, sizeof(*t));
    t->digits = 1;
    for (uint32_t largest = o->spread - 1; largest >= 10; largest /= 10)
        t->digits++;
    err = take_memory(t, o);
    if (!err)
        err = make_all(t, o);
    if (err)
        forms_free(t);
    return err;
}

void forms_free(struct forms *t)
{
    free(t->all);
    free(t->first);
    free(t->body);
    memset(t, 0, sizeof(*t));
}

uint16_t forms_find(const struct forms *t, unsigned path, unsigned kind, uint32_t number)
{
    uint16_t index = t->first[path * GUN_KINDS + kind];

    if (t->all[index].digits == 0)
        return index;
    for (; number >= 10; number /= 10)
        index = (uint16_t)(index + stride_of(kind));
    return index;
}
