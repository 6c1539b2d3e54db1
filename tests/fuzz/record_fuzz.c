/* Records as Redis may give them, and as workers give them. The first byte says which:
 *
 *   0x00  a worker's bytes      0x01  a worker's bytes for a deletion
 *   0x02  a relation's fields   0x03  a resource's fields
 *   0x0a  an association's fields
 *   0x06  0x07  0x0e  the same, with the checksum that belongs to them
 *
 * What is accepted can be written again: the same name, and fields that are accepted, too, and say
 * the same. The checksum is computed here in another way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>

#include "gateway/coap/message.h"
#include "gateway/parcel.h"
#include "gateway/store/record.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OFFSET    32u /* of a record in a parcel */
#define WORDS_MAX 32
#define TEXT_MAX  (1u << 16)

static struct rte_mempool *pool;

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char arguments[][32] = {"fuzz",          "--no-huge",      "-m",
                                   "128",           "--no-shconf",    "--no-pci",
                                   "--log-level=3", "--no-telemetry", ""};
    char *list[10] = {0};

    (void)argc;
    (void)argv;
    snprintf(arguments[8], sizeof(arguments[8]), "--file-prefix=r%d", (int)getpid());
    for (unsigned i = 0; i < 9; i++)
        list[i] = arguments[i];
    require(rte_eal_init(9, list) >= 0, "EAL");
    rmdir(rte_eal_get_runtime_dir()); /* empty, and made for each process */
    pool = parcel_pool_create("fuzz", 255);
    require(pool, "parcels");
    return 0;
}

/* ---- what is accepted ---- */

static void check_relation(const struct record *r)
{
    struct message m;

    require(r->relation.transport < TRANSPORT_COUNT, "a known transport");
    require(message_parse(r->packet, r->relation.packet_length, &m) == VERDICT_OK, "a message");
}

static void check_association(const struct record *r)
{
    static const uint8_t none[STORE_ID_BYTES];

    require(memcmp(r->association.id, none, sizeof(none)) != 0, "an id");
    require(r->association.cid <= 1, "a flag");
    require(r->association.sealed_length && r->association.sealed_length <= STORE_SEALED_MAX,
            "something sealed");
}

static void check_resource(const struct record *r)
{
    require(r->resource.name_length && r->name[0] == '/', "a path");
    require(r->resource.etag_length <= sizeof(r->resource.etag), "an ETag");
    require(r->resource.format >= -1 && r->resource.format <= UINT16_MAX, "a Content-Format");
}

static void require_same(const struct record *a, const struct record *b)
{
    require(a->what == b->what && record_bytes(a) == record_bytes(b), "the same kind and length");
    if (a->what == STORE_RELATION) {
        require(memcmp(a->packet, b->packet, a->relation.packet_length) == 0, "the same packet");
        require(a->relation.created_us == b->relation.created_us, "the same time");
        require(a->relation.transport == b->relation.transport, "the same transport");
        return;
    }
    if (a->what == STORE_ASSOCIATION) {
        require(memcmp(&a->association, &b->association, offsetof(struct store_association, cid)) ==
                    0,
                "the same association");
        require(memcmp(a->sealed, b->sealed, a->association.sealed_length) == 0, "sealed the same");
        return;
    }
    require(memcmp(a->name, b->name, a->resource.name_length) == 0, "the same name");
    require(memcmp(a->payload, b->payload, a->resource.payload_length) == 0, "the same payload");
    require(a->resource.version == b->resource.version && a->resource.format == b->resource.format,
            "the same state");
}

/* To a worker, and what that makes of it. */
static void through_a_parcel(const struct record *r)
{
    uint32_t length = record_bytes(r);
    struct parcel *parcel = parcel_new(pool, PARCEL_RECORD, STORE_RECORD, OFFSET + length);
    struct record back;
    uint8_t *bytes;

    if (!parcel)
        return;
    bytes = malloc(length);
    record_to_parcel(r, parcel, OFFSET);
    require(parcel_read(parcel, OFFSET, bytes, length), "all of it");
    require(record_from_bytes(&back, (uint8_t)r->what, bytes, length, true) == 0,
            "right for workers");
    require_same(r, &back);
    free(bytes);
    parcel_free(pool, parcel);
}

/* To Redis, and back. `name` is what it was found under, NULL: nothing yet. */
static void through_redis(const struct record *r, const char *name, size_t name_length)
{
    size_t room = record_name_room(r), length;
    char *own = malloc(room);
    struct record_form form;
    struct record back;

    length = record_name(r, own);
    require(length <= room, "the name has room");
    require(!name || (length == name_length && memcmp(own, name, length) == 0), "the same key");
    record_form(r, own, length, &form);
    require(form.count <= 2 * RECORD_FIELDS_MAX, "the fields have room");
    require(record_parse(&back, r->what, own, length, form.words, form.lengths, form.count) == 0,
            "what was written is read");
    require_same(r, &back);
    free(own);
}

static void accept(const struct record *r, const char *name, size_t name_length)
{
    if (r->what == STORE_RELATION)
        check_relation(r);
    else if (r->what == STORE_RESOURCE)
        check_resource(r);
    else
        check_association(r);
    through_a_parcel(r);
    through_redis(r, name, name_length);
}

/* ---- from a worker ---- */

static void workers_bytes(const uint8_t *data, size_t size, bool whole)
{
    uint8_t what = size ? *data : 0;
    size_t length = size ? size - 1 : 0;
    uint8_t *copy = malloc(length + !length);
    struct record r;

    if (length)
        memcpy(copy, data + 1, length);
    if (record_from_bytes(&r, what, copy, length, whole) == 0) {
        char *name = malloc(record_name_room(&r));

        require(record_name(&r, name) <= record_name_room(&r), "the name has room");
        free(name);
        if (whole)
            accept(&r, NULL, 0);
    }
    free(copy);
}

/* ---- from Redis ---- */

/* CRC-32C, bit by bit. */
static uint32_t crc(uint32_t check, const void *bytes, size_t length)
{
    for (const uint8_t *at = bytes; length--; at++) {
        check ^= *at;
        for (unsigned bit = 0; bit < 8; bit++)
            check = check >> 1 ^ (check & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return check;
}

static uint32_t crc_span(uint32_t check, const void *bytes, size_t length)
{
    uint64_t n = length;

    return crc(crc(check, &n, sizeof(n)), bytes, length);
}

struct words {
    unsigned count;
    char *words[WORDS_MAX];
    size_t lengths[WORDS_MAX];
};

/* Each word: its length in two bytes, and its bytes. */
static void split(struct words *w, const uint8_t *data, size_t size)
{
    for (w->count = 0; w->count < WORDS_MAX && size >= 2; w->count++) {
        size_t length = (size_t)data[0] << 8 | data[1];

        data += 2;
        size -= 2;
        length = length < size ? length : size;
        w->words[w->count] = malloc(length + !length);
        w->lengths[w->count] = length;
        if (length)
            memcpy(w->words[w->count], data, length);
        data += length;
        size -= length;
    }
}

static int find_field(const struct words *w, const char *name)
{
    int found = -1;

    for (unsigned i = 1; i + 1 < w->count; i += 2)
        if (w->lengths[i] == strlen(name) && memcmp(w->words[i], name, strlen(name)) == 0)
            found = (int)i + 1;
    return found;
}

/* Puts the right checksum into the field of this name, if there is one. */
static void mend_check(struct words *w, enum store_what what)
{
    static const char *const fields[STORE_WHAT_COUNT][6] = {
        [STORE_RELATION] = {"v", "listen", "peer", "transport", "packet", "created"},
        [STORE_RESOURCE] = {"v", "format", "etag", "payload", "version"},
        [STORE_ASSOCIATION] = {"v", "listen", "peer", "cid", "sealed"}};
    uint32_t check = crc_span(UINT32_MAX, w->words[0], w->lengths[0]);
    int at = find_field(w, "check");

    for (unsigned i = 0; i < 6 && fields[what][i]; i++) {
        int field = find_field(w, fields[what][i]);

        if (field < 0)
            return;
        check = crc_span(check, w->words[field], w->lengths[field]);
    }
    if (at < 0)
        return;
    free(w->words[at]);
    w->words[at] = malloc(9);
    w->lengths[at] = 8;
    snprintf(w->words[at], 9, "%08x", check);
}

/* The first word is the name. */
static void redis_fields(const uint8_t *data, size_t size, enum store_what what, bool mend)
{
    struct record r;
    struct words w;

    split(&w, data, size);
    if (w.count) {
        if (mend)
            mend_check(&w, what);
        if (record_parse(&r, what, w.words[0], w.lengths[0], (const char *const *)w.words + 1,
                         w.lengths + 1, w.count - 1) == 0)
            accept(&r, w.words[0], w.lengths[0]);
    }
    for (unsigned i = 0; i < w.count; i++)
        free(w.words[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > TEXT_MAX)
        return 0;
    if (*data & 2)
        redis_fields(data + 1, size - 1,
                     *data & 8   ? STORE_ASSOCIATION
                     : *data & 1 ? STORE_RESOURCE
                                 : STORE_RELATION,
                     *data & 4);
    else
        workers_bytes(data + 1, size - 1, !(*data & 1));
    return 0;
}
