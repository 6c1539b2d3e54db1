#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>

#include "gateway/store/owners.h"
#include "gateway/store/record.h"
#include "gateway/store/seen.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* CON GET, message ID 0x1234, token 0a0bff, Observe 0 (RFC 7641 2), Uri-Path "a". */
static const uint8_t packet[] = {0x43, 1, 0x12, 0x34, 0x0a, 0x0b, 0xff, 0x60, 0x51, 'a'};

static const char relation_name[] = "observe:10.99.0.2:5683|10.99.0.1:40000|0a0bff";

static struct endpoint endpoint_of(const char *text, uint16_t port)
{
    struct endpoint e = {.port = port};

    assert_int_equal(address_parse(text, &e.address), 0);
    return e;
}

static struct record a_relation(void)
{
    return (struct record){.what = STORE_RELATION,
                           .relation = {.listen = endpoint_of("10.99.0.2", 5683),
                                        .peer = endpoint_of("10.99.0.1", 40000),
                                        .packet_length = sizeof(packet),
                                        .created_us = 1700000000123456},
                           .packet = packet};
}

static struct record a_resource(const char *name, const char *payload)
{
    return (struct record){.what = STORE_RESOURCE,
                           .resource = {.name_length = (uint32_t)strlen(name),
                                        .payload_length = (uint32_t)strlen(payload),
                                        .version = UINT64_MAX,
                                        .format = 50,
                                        .etag_length = 2,
                                        .etag = {0xab, 0x01}},
                           .name = (const uint8_t *)name,
                           .payload = (const uint8_t *)payload};
}

static const uint8_t sealed[] = {0x00, 0xff, 'x', 0x80, 0x0a};

static struct record an_association(void)
{
    return (struct record){.what = STORE_ASSOCIATION,
                           .association = {.id = {0x03, 0xab, 1, 2, 3, 4, 5, 0xff},
                                           .listen = endpoint_of("10.99.0.2", 5684),
                                           .peer = endpoint_of("10.99.0.1", 40000),
                                           .cid = 1,
                                           .sealed_length = sizeof(sealed)},
                           .sealed = sealed};
}

/* A relation over it. */
static struct record a_dtls_relation(void)
{
    struct record r = a_relation();

    r.relation.transport = TRANSPORT_DTLS;
    r.relation.listen.port = 5684;
    r.relation.peer = endpoint_of("100::3ab:102:304:5ff", 1);
    return r;
}

/* A record as Redis has it, with its own copies of all, so that it can be damaged. */
struct kept {
    char name[256];
    size_t name_length;
    unsigned count;
    char words[2 * RECORD_FIELDS_MAX + 2][256];
    size_t lengths[2 * RECORD_FIELDS_MAX + 2];
};

static struct kept keep(const struct record *r)
{
    struct record_form form;
    struct kept k = {.count = 0};

    assert_true(record_name_room(r) <= sizeof(k.name));
    k.name_length = record_name(r, k.name);
    assert_true(k.name_length <= record_name_room(r));
    record_form(r, k.name, k.name_length, &form);
    k.count = form.count;
    for (unsigned i = 0; i < form.count; i++) {
        assert_true(form.lengths[i] <= sizeof(k.words[i]));
        memcpy(k.words[i], form.words[i], form.lengths[i]);
        k.lengths[i] = form.lengths[i];
    }
    return k;
}

static int parse(const struct kept *k, enum store_what what, struct record *r)
{
    const char *words[COUNT(k->words)];

    for (unsigned i = 0; i < k->count; i++)
        words[i] = k->words[i];
    return record_parse(r, what, k->name, k->name_length, words, k->lengths, k->count);
}

static const char *word_of(const struct kept *k, const char *field)
{
    static char text[257];

    for (unsigned i = 0; i < k->count; i += 2)
        if (k->lengths[i] == strlen(field) && memcmp(k->words[i], field, k->lengths[i]) == 0) {
            memcpy(text, k->words[i + 1], k->lengths[i + 1]);
            text[k->lengths[i + 1]] = 0;
            return text;
        }
    fail_msg("no field %s", field);
    return NULL;
}

static void set_word(struct kept *k, const char *field, const char *value)
{
    for (unsigned i = 0; i < k->count; i += 2)
        if (k->lengths[i] == strlen(field) && memcmp(k->words[i], field, k->lengths[i]) == 0) {
            k->lengths[i + 1] = strlen(value);
            memcpy(k->words[i + 1], value, strlen(value));
            return;
        }
    fail_msg("no field %s", field);
}

static void relations_are_readable(void **state)
{
    const struct record r = a_relation();
    const struct kept k = keep(&r);
    struct record back;

    (void)state;
    assert_int_equal(k.name_length, strlen(relation_name));
    assert_memory_equal(k.name, relation_name, k.name_length);
    assert_string_equal(word_of(&k, "v"), "1");
    assert_string_equal(word_of(&k, "listen"), "10.99.0.2:5683");
    assert_string_equal(word_of(&k, "peer"), "10.99.0.1:40000");
    assert_string_equal(word_of(&k, "transport"), "udp");
    assert_string_equal(word_of(&k, "created"), "1700000000123456");
    assert_string_equal(word_of(&k, "check"), "17aa138d"); /* must never change: it is kept */
    assert_int_equal(parse(&k, STORE_RELATION, &back), 0);
    assert_memory_equal(&back.relation, &r.relation, sizeof(back.relation));
    assert_memory_equal(back.packet, packet, sizeof(packet));
}

static void resources_are_readable(void **state)
{
    const struct record r = a_resource("/shared/a", "20.5 C");
    const struct kept k = keep(&r);
    struct record back;

    (void)state;
    assert_int_equal(k.name_length, strlen("resource:/shared/a"));
    assert_memory_equal(k.name, "resource:/shared/a", k.name_length);
    assert_string_equal(word_of(&k, "format"), "50");
    assert_string_equal(word_of(&k, "etag"), "ab01");
    assert_string_equal(word_of(&k, "payload"), "20.5 C");
    assert_string_equal(word_of(&k, "version"), "18446744073709551615");
    assert_string_equal(word_of(&k, "check"), "f99d419d");
    assert_int_equal(parse(&k, STORE_RESOURCE, &back), 0);
    assert_int_equal(back.resource.name_length, strlen("/shared/a"));
    assert_memory_equal(back.name, "/shared/a", back.resource.name_length);
    assert_int_equal(back.resource.payload_length, 6);
    assert_memory_equal(back.payload, "20.5 C", 6);
    assert_true(back.resource.version == UINT64_MAX);
    assert_int_equal(back.resource.format, 50);
    assert_int_equal(back.resource.etag_length, 2);
    assert_memory_equal(back.resource.etag, r.resource.etag, 8);
}

static void associations_are_readable(void **state)
{
    struct record r = an_association(), back;
    struct kept k = keep(&r);

    (void)state;
    assert_int_equal(k.name_length, strlen("association:03ab0102030405ff"));
    assert_memory_equal(k.name, "association:03ab0102030405ff", k.name_length);
    assert_string_equal(word_of(&k, "v"), "1");
    assert_string_equal(word_of(&k, "listen"), "10.99.0.2:5684");
    assert_string_equal(word_of(&k, "peer"), "10.99.0.1:40000");
    assert_string_equal(word_of(&k, "cid"), "1");
    assert_string_equal(word_of(&k, "check"), "2603a519");
    assert_int_equal(parse(&k, STORE_ASSOCIATION, &back), 0);
    assert_memory_equal(&back.association, &r.association, sizeof(back.association));
    assert_memory_equal(back.sealed, sealed, sizeof(sealed));
    r.association.cid = 0;
    k = keep(&r);
    assert_string_equal(word_of(&k, "cid"), "0");
    assert_int_equal(parse(&k, STORE_ASSOCIATION, &back), 0);
    assert_int_equal(back.association.cid, 0);
}

static void relations_over_dtls_name_their_association(void **state)
{
    const struct record r = a_dtls_relation(), udp = a_relation();
    const struct kept k = keep(&r);
    const char *name = "observe:10.99.0.2:5684|dtls-03ab0102030405ff|0a0bff";
    struct record back;

    (void)state;
    assert_int_equal(k.name_length, strlen(name));
    assert_memory_equal(k.name, name, k.name_length);
    assert_string_equal(word_of(&k, "peer"), "dtls-03ab0102030405ff");
    assert_string_equal(word_of(&k, "transport"), "dtls");
    assert_int_equal(parse(&k, STORE_RELATION, &back), 0);
    assert_memory_equal(&back.relation, &r.relation, sizeof(back.relation));
    assert_memory_equal(record_dtls_id(&back.relation), an_association().association.id, 8);
    assert_null(record_dtls_id(&udp.relation));
}

static void resources_at_their_limits(void **state)
{
    static const int32_t formats[] = {-1, 0, 65535};
    struct record r = a_resource("//example.org/shared/a", ""), back;

    (void)state;
    for (size_t i = 0; i < COUNT(formats); i++) {
        struct kept k;

        r.resource.format = formats[i];
        r.resource.etag_length = i ? 8 : 0;
        k = keep(&r);
        assert_int_equal(parse(&k, STORE_RESOURCE, &back), 0);
        assert_int_equal(back.resource.format, formats[i]);
        assert_int_equal(back.resource.etag_length, r.resource.etag_length);
        assert_int_equal(back.resource.payload_length, 0);
    }
}

static void ipv6_and_long_tokens(void **state)
{
    /* A token of 20 bytes: 13 and one byte more (RFC 8974 2.1). */
    static const uint8_t longer[4 + 1 + 20 + 1] = {0x5d, 1, 0, 1, 7, [25] = 0x60};
    struct record r = a_relation(), back;
    struct kept k;

    (void)state;
    r.relation.listen = endpoint_of("fd99::2", 5683);
    r.relation.peer = endpoint_of("fd99::1", 1);
    r.relation.packet_length = sizeof(longer);
    r.packet = longer;
    k = keep(&r);
    assert_string_equal(word_of(&k, "listen"), "[fd99::2]:5683");
    assert_int_equal(k.name_length, strlen("observe:[fd99::2]:5683|[fd99::1]:1|") + 40);
    assert_int_equal(parse(&k, STORE_RELATION, &back), 0);
    assert_memory_equal(&back.relation, &r.relation, sizeof(back.relation));
}

static void flip(char *bytes, size_t bit)
{
    bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
}

/* Each bit of each word, and of the name. A field whose own name is damaged is missing. */
static void every_damage_is_noticed(void **state)
{
    const struct record records[] = {a_relation(), a_resource("/shared/a", "payload"),
                                     an_association(), a_dtls_relation()};

    (void)state;
    for (size_t n = 0; n < COUNT(records); n++) {
        const struct kept good = keep(&records[n]);
        struct record back;

        for (unsigned i = 0; i < good.count; i++)
            for (size_t bit = 0; bit < good.lengths[i] * 8; bit++) {
                struct kept bad = good;

                flip(bad.words[i], bit);
                assert_int_equal(parse(&bad, records[n].what, &back), -EBADMSG);
            }
        for (size_t bit = 0; bit < good.name_length * 8; bit++) {
            struct kept bad = good;

            flip(bad.name, bit);
            assert_int_equal(parse(&bad, records[n].what, &back), -EBADMSG);
        }
        for (unsigned i = 0; i < good.count; i++)
            for (size_t length = 0; length < good.lengths[i]; length++) {
                struct kept bad = good;

                bad.lengths[i] = length;
                assert_int_equal(parse(&bad, records[n].what, &back), -EBADMSG);
            }
        for (unsigned count = 0; count < good.count; count++) {
            struct kept bad = good;

            bad.count = count;
            assert_int_equal(parse(&bad, records[n].what, &back), -EBADMSG);
        }
    }
}

/* What record_parse() makes of a record whose checksum fits. */
static int parse_as(const struct record *r, const char *name)
{
    struct record_form form;
    struct record back;

    record_form(r, name, strlen(name), &form);
    return record_parse(&back, r->what, name, strlen(name), form.words, form.lengths, form.count);
}

static void wrong_values_are_refused(void **state)
{
    static const uint8_t marker[] = {0x43, 1, 0x12, 0x34, 0x0a, 0x0b, 0xff, 0xff};
    struct record r = a_relation(), s = a_resource("/shared/a", "payload");

    (void)state;
    assert_int_equal(parse_as(&r, relation_name), 0);
    assert_int_equal(parse_as(&r, "observe:10.99.0.2:5683|10.99.0.1:40001|0a0bff"), -EBADMSG);
    assert_int_equal(parse_as(&r, "observe:10.99.0.2:5683|10.99.0.1:40000|0a0bfe"), -EBADMSG);
    assert_int_equal(parse_as(&r, "resource:/shared/a"), -EBADMSG);
    r.packet = marker; /* a payload marker without a payload (RFC 7252 3) */
    r.relation.packet_length = sizeof(marker);
    assert_int_equal(parse_as(&r, relation_name), -EBADMSG);
    assert_int_equal(parse_as(&s, "resource:/shared/a"), 0);
    assert_int_equal(parse_as(&s, "resource:"), -EBADMSG);
    assert_int_equal(parse_as(&s, "resource:shared"), -EBADMSG);
    assert_int_equal(parse_as(&s, "observe:/shared/a"), -EBADMSG);
    s.resource.format = 65536;
    assert_int_equal(parse_as(&s, "resource:/shared/a"), -EBADMSG);
    s.resource.format = -2;
    assert_int_equal(parse_as(&s, "resource:/shared/a"), -EBADMSG);
}

static void wrong_associations_are_refused(void **state)
{
    static const char name[] = "association:03ab0102030405ff";
    static const uint8_t longest[STORE_SEALED_MAX + 1];
    struct record r = an_association();

    (void)state;
    assert_int_equal(parse_as(&r, name), 0);
    assert_int_equal(parse_as(&r, "association:03ab0102030405f"), -EBADMSG);
    assert_int_equal(parse_as(&r, "association:03ab0102030405ff0"), -EBADMSG);
    assert_int_equal(parse_as(&r, "association:03AB0102030405FF"), -EBADMSG);
    assert_int_equal(parse_as(&r, "association:0000000000000000"), -EBADMSG);
    assert_int_equal(parse_as(&r, "association:"), -EBADMSG);
    assert_int_equal(parse_as(&r, "assoc"), -EBADMSG);
    assert_int_equal(parse_as(&r, "resource:03ab0102030405ff"), -EBADMSG);
    r.association.sealed_length = 0;
    assert_int_equal(parse_as(&r, name), -EBADMSG);
    r.sealed = longest;
    r.association.sealed_length = STORE_SEALED_MAX;
    assert_int_equal(parse_as(&r, name), 0);
    r.association.sealed_length = STORE_SEALED_MAX + 1;
    assert_int_equal(parse_as(&r, name), -EBADMSG);
}

/* CRC-32C, bit by bit, over the length and the bytes. */
static uint32_t crc_span(uint32_t crc, const char *bytes, size_t length)
{
    const uint64_t n = length;

    for (size_t i = 0; i < sizeof(n) + length; i++) {
        crc ^= i < sizeof(n) ? (uint8_t)(n >> 8 * i) : (uint8_t)bytes[i - sizeof(n)];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return crc;
}

/* The fields are in order, and the last one is the checksum. */
static void mend(struct kept *k)
{
    uint32_t crc = crc_span(UINT32_MAX, k->name, k->name_length);

    for (unsigned i = 1; i + 2 < k->count; i += 2)
        crc = crc_span(crc, k->words[i], k->lengths[i]);
    snprintf(k->words[k->count - 1], 9, "%08x", crc);
}

/* What a field of this name holds is replaced, and the checksum mended. */
static int parse_with(const struct record *r, const char *field, const char *value)
{
    struct kept k = keep(r);
    struct record back;

    set_word(&k, field, value);
    mend(&k);
    return parse(&k, r->what, &back);
}

/* The peer is an address or an association, as the transport says. */
static void peers_are_of_their_transport(void **state)
{
    const struct record udp = a_relation(), dtls = a_dtls_relation(), a = an_association();

    (void)state;
    assert_int_equal(parse_with(&udp, "peer", "10.99.0.1:40000"), 0);
    assert_int_equal(parse_with(&dtls, "peer", "dtls-03ab0102030405ff"), 0);
    assert_int_equal(parse_with(&udp, "transport", "dtls"), -EBADMSG);
    assert_int_equal(parse_with(&dtls, "transport", "udp"), -EBADMSG);
    assert_int_equal(parse_with(&dtls, "peer", "[100::3ab:102:304:5ff]:1"), -EBADMSG);
    assert_int_equal(parse_with(&dtls, "peer", "dtls-0000000000000000"), -EBADMSG);
    assert_int_equal(parse_with(&dtls, "peer", "dtls-03ab0102030405fe"), -EBADMSG);
    assert_int_equal(parse_with(&dtls, "peer", "dtls-"), -EBADMSG);
    assert_int_equal(parse_with(&a, "cid", "1"), 0);
    assert_int_equal(parse_with(&a, "cid", "2"), -EBADMSG);
    assert_int_equal(parse_with(&a, "cid", ""), -EBADMSG);
    assert_int_equal(parse_with(&a, "peer", "dtls-03ab0102030405ff"), -EBADMSG);
}

static void later_fields_are_passed_over(void **state)
{
    const struct record r = a_relation();
    struct kept k = keep(&r);
    struct record back;

    (void)state;
    strcpy(k.words[k.count], "colour");
    k.lengths[k.count++] = 6;
    strcpy(k.words[k.count], "blue");
    k.lengths[k.count++] = 4;
    assert_int_equal(parse(&k, STORE_RELATION, &back), 0);
    set_word(&k, "v", "2"); /* but another version is another record */
    assert_int_equal(parse(&k, STORE_RELATION, &back), -EBADMSG);
}

static size_t bytes_of(const struct record *r, uint8_t *bytes)
{
    size_t at;

    if (r->what == STORE_RELATION) {
        memcpy(bytes, &r->relation, sizeof(r->relation));
        memcpy(bytes + sizeof(r->relation), r->packet, r->relation.packet_length);
        return sizeof(r->relation) + r->relation.packet_length;
    }
    if (r->what == STORE_ASSOCIATION) {
        memcpy(bytes, &r->association, sizeof(r->association));
        memcpy(bytes + sizeof(r->association), r->sealed, r->association.sealed_length);
        return sizeof(r->association) + r->association.sealed_length;
    }
    memcpy(bytes, &r->resource, sizeof(r->resource));
    at = sizeof(r->resource);
    memcpy(bytes + at, r->name, r->resource.name_length);
    at += r->resource.name_length;
    memcpy(bytes + at, r->payload, r->resource.payload_length);
    return at + r->resource.payload_length;
}

/* In memory of exactly this size, so that the sanitizer sees what reads beyond. */
static int read_bytes(uint8_t what, const uint8_t *bytes, size_t length, bool whole)
{
    uint8_t *copy = malloc(length ? length : 1);
    struct record r;
    int err;

    assert_non_null(copy);
    memcpy(copy, bytes, length);
    err = record_from_bytes(&r, what, copy, length, whole);
    free(copy);
    return err;
}

static void workers_records_are_checked(void **state)
{
    const struct record records[] = {a_relation(), a_resource("/shared/a", "payload"),
                                     an_association(), a_dtls_relation()};
    uint8_t bytes[512];

    (void)state;
    for (size_t n = 0; n < COUNT(records); n++) {
        const size_t length = bytes_of(&records[n], bytes);

        assert_int_equal(length, record_bytes(&records[n]));
        assert_int_equal(read_bytes((uint8_t)records[n].what, bytes, length, true), 0);
        for (size_t less = 0; less < length; less++)
            assert_int_equal(read_bytes((uint8_t)records[n].what, bytes, less, true), -EBADMSG);
        assert_int_equal(read_bytes(STORE_WHAT_COUNT, bytes, length, true), -EBADMSG);
    }
}

/* Header and token are enough to delete a relation. */
static void deletions_name_a_record(void **state)
{
    struct record r = a_relation(), back;
    uint8_t bytes[256];
    char name[256];
    size_t length;

    (void)state;
    r.relation.packet_length = 7;
    length = bytes_of(&r, bytes);
    bytes[sizeof(r.relation) + 1] = 0x69; /* whatever the code */
    assert_int_equal(record_from_bytes(&back, STORE_RELATION, bytes, length, false), 0);
    assert_int_equal(record_name(&back, name), strlen(relation_name));
    assert_memory_equal(name, relation_name, strlen(relation_name));
    back.relation.packet_length = 6;
    memcpy(bytes, &back.relation, sizeof(back.relation));
    assert_int_equal(record_from_bytes(&back, STORE_RELATION, bytes, length - 1, false), -EBADMSG);
}

/* The id is enough to delete an association; none at all is not. */
static void deletions_name_an_association(void **state)
{
    struct record r = an_association(), back;
    uint8_t bytes[256];
    char name[256];
    size_t length;

    (void)state;
    r.association = (struct store_association){.id = {9}};
    length = bytes_of(&r, bytes);
    assert_int_equal(read_bytes(STORE_ASSOCIATION, bytes, length, true), -EBADMSG);
    assert_int_equal(record_from_bytes(&back, STORE_ASSOCIATION, bytes, length, false), 0);
    assert_int_equal(record_name(&back, name), strlen("association:0900000000000000"));
    assert_memory_equal(name, "association:0900000000000000", 28);
    r.association.id[0] = 0;
    length = bytes_of(&r, bytes);
    assert_int_equal(read_bytes(STORE_ASSOCIATION, bytes, length, false), -EBADMSG);
}

static void workers_associations_are_checked(void **state)
{
    struct record r = an_association();
    uint8_t bytes[256];
    size_t length = bytes_of(&r, bytes);

    (void)state;
    assert_int_equal(read_bytes(STORE_ASSOCIATION, bytes, length, true), 0);
    r.association.cid = 2;
    (void)bytes_of(&r, bytes);
    assert_int_equal(read_bytes(STORE_ASSOCIATION, bytes, length, true), -EBADMSG);
    r = a_dtls_relation();
    r.relation.peer.port = 2;
    length = bytes_of(&r, bytes);
    assert_int_equal(read_bytes(STORE_RELATION, bytes, length, true), -EBADMSG);
    r = a_dtls_relation();
    r.relation.peer.address.bytes[7] = 1;
    length = bytes_of(&r, bytes);
    assert_int_equal(read_bytes(STORE_RELATION, bytes, length, true), -EBADMSG);
}

static void owners_are_remembered(void **state)
{
    struct owners owners = {.seed = 42};
    uint8_t id[STORE_ID_BYTES] = {0};
    unsigned worker = 99;

    (void)state;
    id[7] = 1;
    assert_false(owners_find(&owners, id, &worker));
    for (unsigned i = 1; i <= 10000; i++) {
        memcpy(id, &i, sizeof(i));
        owners_set(&owners, id, i % 5);
        owners_set(&owners, id, i % 7);
    }
    assert_int_equal(owners.count, 10000);
    for (unsigned i = 1; i <= 10000; i++) {
        memcpy(id, &i, sizeof(i));
        assert_true(owners_find(&owners, id, &worker));
        assert_int_equal(worker, i % 7);
    }
    id[7] = 2;
    assert_false(owners_find(&owners, id, &worker));
    owners_clear(&owners);
    id[7] = 1;
    assert_false(owners_find(&owners, id, &worker));
}

static void seen_names_are_remembered(void **state)
{
    struct seen seen = {.seed = 42};
    char name[16];

    (void)state;
    assert_false(seen_has(&seen, "a", 1));
    for (unsigned i = 0; i < 10000; i++) {
        size_t length = (size_t)snprintf(name, sizeof(name), "n%u", i);

        assert_false(seen_has(&seen, name, length));
        seen_add(&seen, name, length);
        seen_add(&seen, name, length);
        assert_true(seen_has(&seen, name, length));
    }
    assert_int_equal(seen.count, 10000);
    for (unsigned i = 0; i < 10000; i++)
        assert_true(seen_has(&seen, name, (size_t)snprintf(name, sizeof(name), "n%u", i)));
    seen_clear(&seen);
    assert_false(seen_has(&seen, "n1", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relations_are_readable),
        cmocka_unit_test(resources_are_readable),
        cmocka_unit_test(associations_are_readable),
        cmocka_unit_test(relations_over_dtls_name_their_association),
        cmocka_unit_test(resources_at_their_limits),
        cmocka_unit_test(ipv6_and_long_tokens),
        cmocka_unit_test(every_damage_is_noticed),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(wrong_associations_are_refused),
        cmocka_unit_test(peers_are_of_their_transport),
        cmocka_unit_test(later_fields_are_passed_over),
        cmocka_unit_test(workers_records_are_checked),
        cmocka_unit_test(deletions_name_a_record),
        cmocka_unit_test(deletions_name_an_association),
        cmocka_unit_test(workers_associations_are_checked),
        cmocka_unit_test(owners_are_remembered),
        cmocka_unit_test(seen_names_are_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
