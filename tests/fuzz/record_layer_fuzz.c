/* Datagrams of DTLS records. The first byte says what the rest is, the second which suite, the
 * third how long the receiver's Connection IDs are (0 to 32).
 *
 * 0: a datagram as it comes, under keys that nothing is sealed with (the fuzzer learns what was
 * sealed in other cases). Nothing in it is authentic, and nothing is opened.
 *
 * 1: a type, a count of changes, as many times two bytes of place and one of what is changed there,
 * then the text of one record. It is sealed, opened, changed, and then it is not opened.
 *
 * 2: the inside of one record, sealed as it is: type and padding are whatever they are.
 *
 * 3: many records in one datagram, some of them changed. For each a byte of how far its sequence is
 * from the one before, one that is changed by (0: it is not), one of how long its text is.
 *
 * What is opened is what was sealed, once. The inside is read here in another way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/security/record.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATAGRAM_MAX 65507
#define RECORDS_MAX  256

static struct aead *aead;
static struct record_key keys[SUITE_COUNT];
static struct record_key strangers[SUITE_COUNT]; /* nothing is ever sealed under them */
static uint8_t cid[RECORD_CID_MAX], room[DATAGRAM_MAX + 1024];

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "violated: %s\n", what);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    uint8_t master[RECORD_MASTER_BYTES] = {1}, random[RECORD_RANDOM_BYTES] = {2};
    struct record_key other;

    (void)argc;
    (void)argv;
    aead = aead_create(8);
    require(aead, "contexts");
    for (enum suite suite = 0; suite < SUITE_COUNT; suite++) {
        require(record_derive(suite, master, random, random, &keys[suite], &other) == 0, "keys");
        other.key[0] ^= 1;
        strangers[suite] = other;
        if (suite % 2)
            require(aead_prepare(aead, suite) == 0, "prepared");
    }
    memset(cid, 0xc1, sizeof(cid));
    return 0;
}

/* What a case is about. */
struct setting {
    const struct record_key *key;
    uint64_t slot; /* for opening */
    enum suite suite;
    uint8_t cid_length;
};

/* Seals at `record`; the record's length. */
static size_t seal(const struct setting *s, uint8_t type, uint64_t sequence, uint8_t *record,
                   const uint8_t *text, size_t length)
{
    struct record_mark mark = {
        .type = type, .epoch = 1, .sequence = sequence, .cid = cid, .cid_length = s->cid_length};
    int sealed;

    if (length)
        memcpy(record + record_lead(s->suite, s->cid_length), text, length);
    sealed = record_seal(aead, 2 * s->suite, s->key, &mark, record, length);
    require(sealed == (int)(record_lead(s->suite, s->cid_length) + length +
                            record_trail(s->suite, s->cid_length)),
            "the record has the length that was said");
    return (size_t)sealed;
}

/* Parses and opens what lies in a block of just its length. Returns the text's length, or negative:
 * nothing was opened. `*text` is to be freed. */
static int take(const struct setting *s, const uint8_t *bytes, size_t length, uint8_t **text,
                uint8_t *type, int *taken)
{
    uint8_t *copy = malloc(length + !length);
    struct record_view view;
    int status = -1;

    *text = NULL;
    if (length)
        memcpy(copy, bytes, length);
    *taken = record_next(copy, length, s->cid_length, &view);
    if (*taken >= 0) {
        require(*taken > 0 && (size_t)*taken <= length, "a record lies in its datagram");
        require(view.body + view.length == copy + *taken, "the body ends where the record does");
        require(!view.cid_length || view.cid_length == s->cid_length, "our Connection ID");
        *text = malloc(view.length);
        status = record_open(aead, s->slot, s->key, &view, *text, type);
        require(status < (int)view.length, "the text is shorter than the body");
    }
    free(copy);
    return status;
}

static void raw(const struct setting *s, const uint8_t *data, size_t size)
{
    while (size > 0) {
        uint8_t *text, type;
        int taken, status = take(s, data, size, &text, &type, &taken);

        free(text);
        require(status < 0, "what nobody sealed is not opened");
        if (taken < 0)
            return;
        data += taken;
        size -= (size_t)taken;
    }
}

/* True when one of the changes is one. */
static bool change(uint8_t *record, size_t length, const uint8_t *changes, unsigned count)
{
    uint8_t *before = malloc(length);
    bool changed;

    memcpy(before, record, length);
    for (unsigned i = 0; i < count; i++, changes += 3)
        record[(size_t)(changes[0] << 8 | changes[1]) % length] ^= changes[2];
    changed = memcmp(before, record, length) != 0;
    free(before);
    return changed;
}

static void one(const struct setting *s, const uint8_t *data, size_t size)
{
    unsigned count = size >= 2 ? data[1] % 8 : 0;
    uint8_t *text, type, sent;
    size_t length, sealed;
    int taken;

    if (size < 2 + 3 * count || size - 2 - 3 * count > RECORD_PLAIN_MAX)
        return;
    length = size - 2 - 3 * count;
    sent = (uint8_t)(RECORD_CHANGE_CIPHER_SPEC + data[0] % 4);
    sealed = seal(s, sent, size, room, data + 2 + 3 * count, length);
    if (length || sent == RECORD_APPLICATION_DATA) {
        require(take(s, room, sealed, &text, &type, &taken) == (int)length, "opened");
        require(type == sent && taken == (int)sealed, "the same record");
        require(!length || memcmp(text, data + 2 + 3 * count, length) == 0, "the same text");
        free(text);
    }
    if (change(room, sealed, data + 2, count)) {
        require(take(s, room, sealed, &text, &type, &taken) < 0, "a change is noticed");
        free(text);
    }
}

/* A record whose inside is as given, without the layer's own sealing. */
static size_t seal_inside(const struct setting *s, const uint8_t *inside, size_t length)
{
    unsigned header = RECORD_HEADER_BYTES + s->cid_length, lead;
    struct aead_job job = {.slot = AEAD_NO_SLOT, .key = s->key};
    size_t body = suite_explicit_bytes(s->suite) + length + suite_tag_bytes(s->suite);

    lead = record_lead(s->suite, s->cid_length);
    memset(room, 0, lead);
    memcpy(room, "\x19\xfe\xfd\0\1", 5);
    memcpy(room + RECORD_CID_AT, cid, s->cid_length);
    room[header - 2] = (uint8_t)(body >> 8);
    room[header - 1] = (uint8_t)body;
    memcpy(job.nonce, s->key->salt, sizeof(job.nonce));
    if (suite_explicit_bytes(s->suite))
        memset(job.nonce + 4, 0, 8);
    else
        job.nonce[5] ^= 1; /* the epoch */
    memset(job.additional, 0xff, 8);
    job.additional[8] = 25;
    job.additional[9] = s->cid_length;
    memcpy(job.additional + 10, room, header - 2);
    job.additional[10 + header - 2] = (uint8_t)(length >> 8);
    job.additional[10 + header - 1] = (uint8_t)length;
    job.additional_length = (uint8_t)(10 + header);
    if (length)
        memcpy(room + lead, inside, length);
    require(aead_seal(aead, &job, room + lead, length) == 0, "sealed");
    return lead + length + suite_tag_bytes(s->suite);
}

static void inside(struct setting *s, const uint8_t *data, size_t size)
{
    uint8_t *text, type = 0, last = 0;
    size_t content = 0;
    int taken, opened;
    bool right;

    s->cid_length += !s->cid_length;
    if (size > RECORD_PLAIN_MAX + 64)
        return;
    for (size_t i = 0; i < size; i++)
        if (data[i]) {
            last = data[i];
            content = i;
        }
    right = size <= RECORD_PLAIN_MAX + 1 && last >= 20 && last <= 23 && (content || last == 23);
    opened = take(s, room, seal_inside(s, data, size), &text, &type, &taken);
    require((opened >= 0) == right, "opened when it is right");
    if (right) {
        require(opened == (int)content && type == last, "content and type");
        require(!content || memcmp(text, data, content) == 0, "the same text");
    }
    free(text);
}

/* What the receiver is to make of each record. */
struct planned {
    uint64_t sequence;
    size_t length;
    bool good;
};

/* Writes the datagram; the number of its records. */
static unsigned plan(const struct setting *s, const uint8_t *data, size_t size,
                     struct planned *planned, size_t *datagram)
{
    uint64_t sequence = 100;
    unsigned count = 0;

    *datagram = 0;
    while (size >= 3 && count < RECORDS_MAX && size - 3 >= data[2] &&
           *datagram + data[2] + 128 <= DATAGRAM_MAX) {
        size_t length = data[2], sealed;

        sequence += (uint64_t)(int8_t)data[0];
        sequence &= RECORD_SEQUENCE_LAST;
        sealed = seal(s, RECORD_APPLICATION_DATA, sequence, room + *datagram, data + 3, length);
        room[*datagram + sealed - 1] ^= data[1];
        planned[count++] = (struct planned){sequence, length, data[1] == 0};
        *datagram += sealed;
        data += 3 + length;
        size -= 3 + length;
    }
    return count;
}

/* Whether it was opened before, or is 64 or more behind what was. */
static bool is_old(const struct planned *planned, const bool *opened, unsigned at)
{
    for (unsigned i = 0; i < at; i++)
        if (opened[i] && (planned[i].sequence == planned[at].sequence ||
                          (planned[i].sequence > planned[at].sequence &&
                           planned[i].sequence - planned[at].sequence >= 64)))
            return true;
    return false;
}

static void many(const struct setting *s, const uint8_t *data, size_t size)
{
    struct planned planned[RECORDS_MAX];
    bool opened[RECORDS_MAX] = {false};
    struct record_window window = {0};
    size_t datagram, at = 0;
    unsigned count = plan(s, data, size, planned, &datagram), i = 0;

    for (; at < datagram; i++) {
        uint8_t *text, type;
        bool fresh = window_is_fresh(&window, planned[i].sequence);
        int taken, length = take(s, room + at, datagram - at, &text, &type, &taken);

        require(fresh == !is_old(planned, opened, i), "the window knows what has come");
        require(taken > 0, "a changed tag leaves the borders as they are");
        require((length >= 0) == planned[i].good, "opened when it is as it was");
        require(length < 0 || length == (int)planned[i].length, "all of it");
        opened[i] = length >= 0 && fresh;
        if (opened[i])
            window_mark(&window, planned[i].sequence);
        free(text);
        at += (size_t)taken;
    }
    require(i == count, "as many records as were sealed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct setting s;

    if (size < 3 || size > DATAGRAM_MAX)
        return 0;
    s.suite = data[1] % SUITE_COUNT;
    s.key = data[0] % 4 ? &keys[s.suite] : &strangers[s.suite];
    s.slot = 2 * s.suite + (data[0] % 4 ? 1 : 2 * SUITE_COUNT);
    s.cid_length = data[2] % (RECORD_CID_MAX + 1);
    if (data[0] % 4 == 0)
        raw(&s, data + 3, size - 3);
    else if (data[0] % 4 == 1)
        one(&s, data + 3, size - 3);
    else if (data[0] % 4 == 2)
        inside(&s, data + 3, size - 3);
    else
        many(&s, data + 3, size - 3);
    return 0;
}
