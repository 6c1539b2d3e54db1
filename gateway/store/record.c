#include "gateway/store/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <rte_hash_crc.h>

#include "gateway/coap/message.h"

#define OBSERVE     "observe:"
#define RESOURCE    "resource:"
#define ASSOCIATION "association:"
#define DTLS        "dtls-" /* in front of the id of an association that is somebody's peer */

#define ETAG_MAX 8

static const char *const relation_fields[] = {"v",      "listen",  "peer", "transport",
                                              "packet", "created", "check"};
enum { R_VERSION, R_LISTEN, R_PEER, R_TRANSPORT, R_PACKET, R_CREATED, R_CHECK, R_COUNT };

static const char *const resource_fields[] = {"v", "format", "etag", "payload", "version", "check"};
enum { S_VERSION, S_FORMAT, S_ETAG, S_PAYLOAD, S_STAMP, S_CHECK, S_COUNT };

static const char *const association_fields[] = {"v", "listen", "peer", "cid", "sealed", "check"};
enum { A_VERSION, A_LISTEN, A_PEER, A_CID, A_SEALED, A_CHECK, A_COUNT };

static const struct kind {
    const char *const *fields;
    unsigned count; /* the last one is the checksum */
} kinds[STORE_WHAT_COUNT] = {
    [STORE_RELATION] = {relation_fields, R_COUNT},
    [STORE_RESOURCE] = {resource_fields, S_COUNT},
    [STORE_ASSOCIATION] = {association_fields, A_COUNT},
};

struct span {
    const char *data; /* NULL: there is none */
    size_t length;
};

/* ---- text ---- */

static size_t put_hex(char *to, const uint8_t *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < length; i++) {
        to[2 * i] = digits[bytes[i] >> 4];
        to[2 * i + 1] = digits[bytes[i] & 15];
    }
    return 2 * length;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool get_hex(struct span s, uint8_t *to, size_t room, uint8_t *length)
{
    if (s.length % 2 || s.length / 2 > room)
        return false;
    for (size_t i = 0; i < s.length / 2; i++) {
        int high = digit_of(s.data[2 * i]), low = digit_of(s.data[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    *length = (uint8_t)(s.length / 2);
    return true;
}

static bool get_number(struct span s, uint64_t *out)
{
    uint64_t value = 0;

    if (s.length == 0)
        return false;
    for (size_t i = 0; i < s.length; i++) {
        if (s.data[i] < '0' || s.data[i] > '9' ||
            __builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.data[i] - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

static bool is_text(struct span s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.data, text, s.length) == 0;
}

/* "10.0.0.1:5683" or "[2001:db8::1]:5683". */
static bool get_endpoint(struct span s, struct endpoint *out)
{
    char text[ENDPOINT_TEXT_BYTES], *colon, *host = text;
    uint64_t port;

    if (s.length >= sizeof(text) || memchr(s.data, 0, s.length))
        return false;
    memcpy(text, s.data, s.length);
    text[s.length] = 0;
    colon = strrchr(text, ':');
    if (!colon || !get_number((struct span){colon + 1, strlen(colon + 1)}, &port) ||
        port > UINT16_MAX)
        return false;
    *colon = 0;
    if (*host == '[') {
        if (colon - host < 2 || colon[-1] != ']')
            return false;
        colon[-1] = 0;
        host++;
    }
    out->port = (uint16_t)port;
    return address_parse(host, &out->address) == 0;
}

/* ---- associations of DTLS ---- */

static const uint8_t no_id[STORE_ID_BYTES];

static bool is_id(const uint8_t *id)
{
    return memcmp(id, no_id, STORE_ID_BYTES) != 0;
}

const uint8_t *record_dtls_id(const struct store_relation *relation)
{
    return relation->transport == TRANSPORT_DTLS ? relation->peer.address.bytes + 8 : NULL;
}

/* The address that stands for an association. */
static struct endpoint dtls_endpoint(const uint8_t *id)
{
    struct endpoint e = {.address = {{0x01}}, .port = STORE_DTLS_PORT};

    memcpy(e.address.bytes + 8, id, STORE_ID_BYTES);
    return e;
}

static bool is_dtls_endpoint(const struct endpoint *e)
{
    const struct endpoint own = dtls_endpoint(e->address.bytes + 8);

    return e->port == own.port && address_equal(&e->address, &own.address) &&
           is_id(e->address.bytes + 8);
}

static bool get_id(struct span s, uint8_t id[STORE_ID_BYTES])
{
    uint8_t length;

    return s.length == (size_t)2 * STORE_ID_BYTES && get_hex(s, id, STORE_ID_BYTES, &length) &&
           is_id(id);
}

static bool get_dtls_endpoint(struct span s, struct endpoint *out)
{
    const size_t mark = strlen(DTLS);
    uint8_t id[STORE_ID_BYTES];

    if (s.length < mark || memcmp(s.data, DTLS, mark) != 0 ||
        !get_id((struct span){s.data + mark, s.length - mark}, id))
        return false;
    *out = dtls_endpoint(id);
    return true;
}

/* ---- from a worker ---- */

/* The token of a message of which the rest need not be there (RFC 7252 3, RFC 8974 2.1). */
static bool token_of(const uint8_t *packet, size_t length, struct span *token)
{
    size_t at = 4, n;

    if (length < at)
        return false;
    n = packet[0] & 15;
    if (n == 13 && length > at) {
        n = 13 + (size_t)packet[at];
        at += 1;
    } else if (n == 14 && length > at + 1) {
        n = 269 + ((size_t)packet[at] << 8 | packet[at + 1]);
        at += 2;
    } else if (n > 8) {
        return false;
    }
    *token = (struct span){(const char *)packet + at, n};
    return n <= length - at;
}

static bool is_message(const uint8_t *packet, size_t length)
{
    struct message m;

    return length <= UINT16_MAX && message_parse(packet, length, &m) == VERDICT_OK;
}

static bool relation_is_right(const struct record *r, bool whole)
{
    struct span token;

    return r->relation.transport < TRANSPORT_COUNT &&
           (r->relation.transport != TRANSPORT_DTLS || is_dtls_endpoint(&r->relation.peer)) &&
           token_of(r->packet, r->relation.packet_length, &token) &&
           (!whole || is_message(r->packet, r->relation.packet_length));
}

static bool resource_is_right(const struct record *r)
{
    return r->resource.name_length > 0 && r->name[0] == '/' &&
           r->resource.etag_length <= ETAG_MAX && r->resource.format >= -1 &&
           r->resource.format <= UINT16_MAX;
}

/* Of one that is to be deleted the id is enough. */
static bool association_is_right(const struct record *r, bool whole)
{
    const struct store_association *a = &r->association;

    return is_id(a->id) && a->cid <= 1 && a->sealed_length <= STORE_SEALED_MAX &&
           (!whole || a->sealed_length > 0);
}

static bool relation_from_bytes(struct record *r, const uint8_t *bytes, size_t length, bool whole)
{
    memcpy(&r->relation, bytes, sizeof(r->relation));
    r->packet = bytes + sizeof(r->relation);
    return r->relation.packet_length <= length - sizeof(r->relation) && relation_is_right(r, whole);
}

static bool resource_from_bytes(struct record *r, const uint8_t *bytes, size_t length)
{
    memcpy(&r->resource, bytes, sizeof(r->resource));
    r->name = bytes + sizeof(r->resource);
    r->payload = r->name + r->resource.name_length;
    return (uint64_t)r->resource.name_length + r->resource.payload_length <=
               length - sizeof(r->resource) &&
           resource_is_right(r);
}

static bool association_from_bytes(struct record *r, const uint8_t *bytes, size_t length,
                                   bool whole)
{
    memcpy(&r->association, bytes, sizeof(r->association));
    r->sealed = bytes + sizeof(r->association);
    return r->association.sealed_length <= length - sizeof(r->association) &&
           association_is_right(r, whole);
}

int record_from_bytes(struct record *r, uint8_t what, const uint8_t *bytes, size_t length,
                      bool whole)
{
    bool right = false;

    memset(r, 0, sizeof(*r));
    r->what = (enum store_what)what;
    if (what == STORE_RELATION && length >= sizeof(r->relation))
        right = relation_from_bytes(r, bytes, length, whole);
    else if (what == STORE_RESOURCE && length >= sizeof(r->resource))
        right = resource_from_bytes(r, bytes, length);
    else if (what == STORE_ASSOCIATION && length >= sizeof(r->association))
        right = association_from_bytes(r, bytes, length, whole);
    return right ? 0 : -EBADMSG;
}

/* ---- to a worker ---- */

uint32_t record_bytes(const struct record *r)
{
    switch (r->what) {
    case STORE_RELATION:
        return (uint32_t)sizeof(r->relation) + r->relation.packet_length;
    case STORE_RESOURCE:
        return (uint32_t)sizeof(r->resource) + r->resource.name_length + r->resource.payload_length;
    default:
        return (uint32_t)sizeof(r->association) + r->association.sealed_length;
    }
}

static uint32_t append(struct parcel *parcel, uint32_t at, const void *bytes, uint32_t length)
{
    (void)parcel_write(parcel, at, bytes, length);
    return at + length;
}

void record_to_parcel(const struct record *r, struct parcel *parcel, uint32_t offset)
{
    switch (r->what) {
    case STORE_RELATION:
        offset = append(parcel, offset, &r->relation, sizeof(r->relation));
        (void)append(parcel, offset, r->packet, r->relation.packet_length);
        break;
    case STORE_RESOURCE:
        offset = append(parcel, offset, &r->resource, sizeof(r->resource));
        offset = append(parcel, offset, r->name, r->resource.name_length);
        (void)append(parcel, offset, r->payload, r->resource.payload_length);
        break;
    default:
        offset = append(parcel, offset, &r->association, sizeof(r->association));
        (void)append(parcel, offset, r->sealed, r->association.sealed_length);
        break;
    }
}

/* ---- names ---- */

size_t record_name_room(const struct record *r)
{
    switch (r->what) {
    case STORE_RELATION:
        return sizeof(OBSERVE) + (size_t)2 * ENDPOINT_TEXT_BYTES +
               2 * (size_t)r->relation.packet_length;
    case STORE_RESOURCE:
        return sizeof(RESOURCE) + r->resource.name_length;
    default:
        return sizeof(ASSOCIATION) + (size_t)2 * STORE_ID_BYTES;
    }
}

static const char *endpoint_text(const struct endpoint *e, char text[ENDPOINT_TEXT_BYTES])
{
    return endpoint_format(&e->address, e->port, text);
}

static const char *peer_text(const struct store_relation *relation, char text[ENDPOINT_TEXT_BYTES])
{
    const uint8_t *id = record_dtls_id(relation);

    if (!id)
        return endpoint_text(&relation->peer, text);
    memcpy(text, DTLS, strlen(DTLS));
    text[strlen(DTLS) + put_hex(text + strlen(DTLS), id, STORE_ID_BYTES)] = 0;
    return text;
}

static size_t relation_name(const struct record *r, char *name)
{
    char listen[ENDPOINT_TEXT_BYTES], peer[ENDPOINT_TEXT_BYTES];
    struct span token = {NULL, 0};
    size_t at;

    (void)token_of(r->packet, r->relation.packet_length, &token);
    at = (size_t)sprintf(name, OBSERVE "%s|%s|", endpoint_text(&r->relation.listen, listen),
                         peer_text(&r->relation, peer));
    return at + put_hex(name + at, (const uint8_t *)token.data, token.length);
}

size_t record_name(const struct record *r, char *name)
{
    switch (r->what) {
    case STORE_RELATION:
        return relation_name(r, name);
    case STORE_RESOURCE:
        memcpy(name, RESOURCE, strlen(RESOURCE));
        memcpy(name + strlen(RESOURCE), r->name, r->resource.name_length);
        return strlen(RESOURCE) + r->resource.name_length;
    default:
        memcpy(name, ASSOCIATION, strlen(ASSOCIATION));
        return strlen(ASSOCIATION) +
               put_hex(name + strlen(ASSOCIATION), r->association.id, STORE_ID_BYTES);
    }
}

/* ---- the checksum ---- */

/* CRC-32C. Word by word: packets have no alignment. */
static uint32_t check_bytes(uint32_t check, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    uint64_t word;

    for (; length >= sizeof(word); length -= sizeof(word), at += sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        check = rte_hash_crc_8byte(word, check);
    }
    for (; length; length--)
        check = rte_hash_crc_1byte(*at++, check);
    return check;
}

/* Each value with its length in front: what moves from one to the next is noticed, too. */
static uint32_t check_span(uint32_t check, struct span s)
{
    return check_bytes(rte_hash_crc_8byte(s.length, check), s.data, s.length);
}

/* `values` without the last, which is the checksum itself. */
static void put_check(char out[9], const char *name, size_t name_length, const struct span *values,
                      unsigned count)
{
    uint32_t check = check_span(UINT32_MAX, (struct span){name, name_length});

    for (unsigned i = 0; i + 1 < count; i++)
        check = check_span(check, values[i]);
    snprintf(out, 9, "%08" PRIx32, check);
}

/* ---- to Redis ---- */

static struct span text_span(const char *text)
{
    return (struct span){text, strlen(text)};
}

static void fill_relation(const struct record *r, struct record_form *f, struct span *values)
{
    snprintf(f->numbers[0], sizeof(f->numbers[0]), "%" PRIu64, r->relation.created_us);
    values[R_LISTEN] = text_span(endpoint_text(&r->relation.listen, f->listen));
    values[R_PEER] = text_span(peer_text(&r->relation, f->peer));
    values[R_TRANSPORT] = text_span(transport_name(r->relation.transport));
    values[R_PACKET] = (struct span){(const char *)r->packet, r->relation.packet_length};
    values[R_CREATED] = text_span(f->numbers[0]);
}

static void fill_resource(const struct record *r, struct record_form *f, struct span *values)
{
    snprintf(f->numbers[0], sizeof(f->numbers[0]), "%" PRId32, r->resource.format);
    snprintf(f->numbers[1], sizeof(f->numbers[1]), "%" PRIu64, r->resource.version);
    values[S_FORMAT] = text_span(f->numbers[0]);
    values[S_ETAG] =
        (struct span){f->etag, put_hex(f->etag, r->resource.etag, r->resource.etag_length)};
    values[S_PAYLOAD] = (struct span){(const char *)r->payload, r->resource.payload_length};
    values[S_STAMP] = text_span(f->numbers[1]);
}

static void fill_association(const struct record *r, struct record_form *f, struct span *values)
{
    const struct store_association *a = &r->association;

    values[A_LISTEN] = text_span(endpoint_text(&a->listen, f->listen));
    values[A_PEER] = text_span(endpoint_text(&a->peer, f->peer));
    values[A_CID] = text_span(a->cid ? "1" : "0");
    values[A_SEALED] = (struct span){(const char *)r->sealed, a->sealed_length};
}

void record_form(const struct record *r, const char *name, size_t name_length,
                 struct record_form *f)
{
    const struct kind *kind = &kinds[r->what];
    struct span values[RECORD_FIELDS_MAX];

    values[0] = text_span(RECORD_VERSION);
    if (r->what == STORE_RELATION)
        fill_relation(r, f, values);
    else if (r->what == STORE_RESOURCE)
        fill_resource(r, f, values);
    else
        fill_association(r, f, values);
    put_check(f->check, name, name_length, values, kind->count);
    values[kind->count - 1] = text_span(f->check);
    f->count = 2 * kind->count;
    for (size_t i = 0; i < kind->count; i++) {
        f->words[2 * i] = kind->fields[i];
        f->lengths[2 * i] = strlen(kind->fields[i]);
        f->words[2 * i + 1] = values[i].data;
        f->lengths[2 * i + 1] = values[i].length;
    }
}

/* ---- from Redis ---- */

/* Sorts the values by field. False when one is missing. */
static bool find_fields(const char *const *fields, unsigned field_count, struct span *values,
                        const char *const *words, const size_t *lengths, unsigned count)
{
    for (unsigned i = 0; i < field_count; i++) {
        values[i].data = NULL;
        for (unsigned at = 0; at + 1 < count; at += 2)
            if (is_text((struct span){words[at], lengths[at]}, fields[i]))
                values[i] = (struct span){words[at + 1], lengths[at + 1]};
        if (!values[i].data)
            return false;
    }
    return true;
}

static bool get_transport(struct span s, uint8_t *out)
{
    for (unsigned i = 0; i < TRANSPORT_COUNT; i++)
        if (is_text(s, transport_name(i))) {
            *out = (uint8_t)i;
            return true;
        }
    return false;
}

/* The name has to be that of the fields: the worker finds the record by them. */
static bool is_name_of(const struct record *r, const char *name, size_t name_length)
{
    char *own = malloc(record_name_room(r));
    bool same = own && record_name(r, own) == name_length && memcmp(own, name, name_length) == 0;

    free(own);
    return same;
}

static bool parse_relation(struct record *r, const char *name, size_t name_length,
                           const struct span *values)
{
    struct store_relation *out = &r->relation;

    if (!get_endpoint(values[R_LISTEN], &out->listen) ||
        !get_transport(values[R_TRANSPORT], &out->transport) ||
        !(out->transport == TRANSPORT_DTLS ? get_dtls_endpoint(values[R_PEER], &out->peer)
                                           : get_endpoint(values[R_PEER], &out->peer)) ||
        !get_number(values[R_CREATED], &out->created_us) || values[R_PACKET].length > UINT16_MAX)
        return false;
    r->packet = (const uint8_t *)values[R_PACKET].data;
    out->packet_length = (uint32_t)values[R_PACKET].length;
    return relation_is_right(r, true) && is_name_of(r, name, name_length);
}

static bool parse_resource(struct record *r, const char *name, size_t name_length,
                           const struct span *values)
{
    struct store_resource *out = &r->resource;
    uint64_t format;

    if (name_length <= strlen(RESOURCE) || memcmp(name, RESOURCE, strlen(RESOURCE)) != 0 ||
        name_length > UINT32_MAX || values[S_PAYLOAD].length > INT32_MAX ||
        !get_hex(values[S_ETAG], out->etag, sizeof(out->etag), &out->etag_length) ||
        !get_number(values[S_STAMP], &out->version))
        return false;
    if (is_text(values[S_FORMAT], "-1"))
        out->format = -1;
    else if (get_number(values[S_FORMAT], &format) && format <= UINT16_MAX)
        out->format = (int32_t)format;
    else
        return false;
    r->name = (const uint8_t *)name + strlen(RESOURCE);
    out->name_length = (uint32_t)(name_length - strlen(RESOURCE));
    r->payload = (const uint8_t *)values[S_PAYLOAD].data;
    out->payload_length = (uint32_t)values[S_PAYLOAD].length;
    return resource_is_right(r);
}

static bool parse_association(struct record *r, const char *name, size_t name_length,
                              const struct span *values)
{
    const size_t kind = strlen(ASSOCIATION);
    struct store_association *out = &r->association;

    if (name_length < kind || memcmp(name, ASSOCIATION, kind) != 0 ||
        !get_id((struct span){name + kind, name_length - kind}, out->id) ||
        !get_endpoint(values[A_LISTEN], &out->listen) ||
        !get_endpoint(values[A_PEER], &out->peer) || values[A_SEALED].length > STORE_SEALED_MAX)
        return false;
    out->cid = is_text(values[A_CID], "1");
    if (!out->cid && !is_text(values[A_CID], "0"))
        return false;
    r->sealed = (const uint8_t *)values[A_SEALED].data;
    out->sealed_length = (uint32_t)values[A_SEALED].length;
    return association_is_right(r, true);
}

int record_parse(struct record *r, enum store_what what, const char *name, size_t name_length,
                 const char *const *words, const size_t *lengths, unsigned count)
{
    const struct kind *kind = &kinds[what];
    struct span values[RECORD_FIELDS_MAX];
    bool right;
    char check[9];

    memset(r, 0, sizeof(*r));
    r->what = what;
    if (!find_fields(kind->fields, kind->count, values, words, lengths, count) ||
        !is_text(values[0], RECORD_VERSION))
        return -EBADMSG;
    put_check(check, name, name_length, values, kind->count);
    if (!is_text(values[kind->count - 1], check))
        return -EBADMSG;
    if (what == STORE_RELATION)
        right = parse_relation(r, name, name_length, values);
    else if (what == STORE_RESOURCE)
        right = parse_resource(r, name, name_length, values);
    else
        right = parse_association(r, name, name_length, values);
    return right ? 0 : -EBADMSG;
}
