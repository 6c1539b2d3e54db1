/* Records that are wrong: the table of tests/records.tsv, every truncation, every changed bit. What
 * is refused changes nothing. */
#include <errno.h>

#include "tests/unit/record_samples.h"

#define DATAGRAM_MAX 65507

static struct aead *aead;

static int setup(void **state)
{
    (void)state;
    aead = aead_create(16);
    return aead ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    aead_destroy(aead);
    return 0;
}

/* ---- the table ---- */

/* Who receives a datagram: one association, as the table describes it. */
struct receiver {
    struct record_key key;
    struct record_window window;
    uint8_t cid[RECORD_CID_MAX], cid_length;
    char opened[1024]; /* as in the table's column */
    unsigned refused;
};

static void receiver_begin(struct receiver *r, enum suite suite, const char *cid)
{
    struct record_key server;

    memset(r, 0, sizeof(*r));
    sample_keys(suite, &r->key, &server);
    if (cid[0] != '-')
        r->cid_length = (uint8_t)unhex(cid, r->cid);
    for (unsigned i = 0; i < 3; i++)
        window_mark(&r->window, (uint64_t[]){3, 5, 70}[i]);
}

static void receiver_note(struct receiver *r, uint8_t type, const uint8_t *text, size_t length)
{
    size_t at = strlen(r->opened);

    at += (size_t)sprintf(r->opened + at, "%s%u:", at ? "," : "", type);
    assert_true(at + 2 * length < sizeof(r->opened));
    for (size_t i = 0; i < length; i++)
        at += (size_t)sprintf(r->opened + at, "%02x", text[i]);
}

static bool receiver_opens(struct receiver *r, const struct record_view *view, uint8_t *out,
                           int *length, uint8_t *type)
{
    if (view->epoch != 1 || !window_is_fresh(&r->window, view->sequence) ||
        (view->cid_length && memcmp(view->cid, r->cid, view->cid_length) != 0))
        return false;
    *length = record_open(aead, 1, &r->key, view, out, type);
    return *length >= 0;
}

/* All records of a datagram. A record that is refused leaves the receiver as it was. */
static void receiver_take(struct receiver *r, const uint8_t *datagram, size_t length)
{
    while (length > 0) {
        struct record_window before = r->window;
        struct record_view view;
        int taken = record_next(datagram, length, r->cid_length, &view), plain;
        uint8_t *out, type;

        if (taken < 0) {
            r->refused++;
            return;
        }
        assert_true((size_t)taken <= length);
        out = malloc(view.length); /* the sanitizer watches its end */
        if (receiver_opens(r, &view, out, &plain, &type)) {
            window_mark(&r->window, view.sequence);
            receiver_note(r, type, out, (size_t)plain);
        } else {
            r->refused++;
            assert_memory_equal(&r->window, &before, sizeof(before));
        }
        free(out);
        datagram += taken;
        length -= (size_t)taken;
    }
}

static size_t read_datagram(char *hex, uint8_t *out)
{
    char *zeros = strchr(hex, 'z');
    size_t length, more = zeros ? strtoul(zeros + 2, NULL, 10) : 0;

    if (zeros)
        *zeros = 0;
    length = unhex(hex, out);
    assert_true(length + more <= DATAGRAM_MAX);
    memset(out + length, 0, more);
    return length + more;
}

/* One row; true when it has something that is refused. */
static bool check_row(char *line)
{
    char *name = strsep(&line, "\t"), *hex = strsep(&line, "\t"), *number = strsep(&line, "\t");
    char *cid = strsep(&line, "\t"), *opened = strsep(&line, "\t");
    uint8_t bytes[DATAGRAM_MAX], *copy;
    struct receiver r;
    enum suite suite;
    size_t length;

    assert_non_null(opened);
    assert_true(suite_of((uint16_t)strtoul(number, NULL, 16), &suite));
    receiver_begin(&r, suite, cid);
    length = read_datagram(hex, bytes);
    copy = malloc(length + !length);
    memcpy(copy, bytes, length);
    receiver_take(&r, copy, length);
    free(copy);
    if (strcmp(r.opened, opened[0] == '-' ? "" : opened) != 0)
        fail_msg("%s: opened %s, not %s", name, r.opened, opened);
    if (opened[0] != '-')
        return r.refused > 0;
    if (length && r.refused != 1)
        fail_msg("%s: %u records refused", name, r.refused);
    return true;
}

static void the_table_of_records(void **state)
{
    FILE *table = fopen(TESTS_DIR "/records.tsv", "r");
    unsigned rows = 0, bad = 0;
    char *line = NULL;
    size_t room = 0;

    (void)state;
    assert_non_null(table);
    while (getline(&line, &room, table) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#' || strncmp(line, "name\t", 5) == 0)
            continue;
        rows++;
        bad += check_row(line);
    }
    free(line);
    fclose(table);
    assert_true(rows > bad && bad >= 80);
}

/* ---- one record, damaged in every way ---- */

#define PLAIN 9

struct sample {
    struct record_key key;
    uint8_t bytes[128], cid_length;
    size_t length;
};

static void sample_make(struct sample *s, enum suite suite, uint8_t cid_length)
{
    static const uint8_t cid[RECORD_CID_MAX] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct record_mark mark = {.type = RECORD_APPLICATION_DATA,
                               .epoch = 1,
                               .sequence = 0x1234,
                               .cid = cid,
                               .cid_length = cid_length};
    struct record_key server;
    int length;

    sample_keys(suite, &s->key, &server);
    s->cid_length = cid_length;
    length = sample_seal(aead, AEAD_NO_SLOT, &s->key, &mark, s->bytes, "some text", PLAIN);
    assert_true(length > 0);
    s->length = (size_t)length;
}

/* As it lies in a block of just its length. */
static int sample_read(const struct sample *s, size_t length)
{
    uint8_t *copy = malloc(length + !length), out[128], type = 0;
    struct record_view view;
    int status = -EBADMSG;

    memcpy(copy, s->bytes, length);
    if (record_next(copy, length, s->cid_length, &view) >= 0)
        status = record_open(aead, 2, &s->key, &view, out, &type);
    free(copy);
    return status;
}

/* Calls `damage` for each suite, with and without a Connection ID. */
static void each_sample(void (*damage)(struct sample *s))
{
    struct sample s;

    for (enum suite suite = 0; suite < SUITE_COUNT; suite++)
        for (uint8_t cid_length = 0; cid_length <= 16; cid_length += 8) {
            sample_make(&s, suite, cid_length);
            aead_forget(aead, 2, suite);
            assert_int_equal(aead_prepare(aead, suite), 0);
            assert_int_equal(sample_read(&s, s.length), PLAIN);
            damage(&s);
            assert_int_equal(sample_read(&s, s.length), PLAIN);
        }
}

static void flip_bits(struct sample *s)
{
    for (unsigned bit = 0; bit < 8 * s->length; bit++) {
        s->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (sample_read(s, s->length) != -EBADMSG)
            fail_msg("%s, Connection ID of %u: bit %u", suite_name(s->key.suite), s->cid_length,
                     bit);
        s->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void every_bit_counts(void **state)
{
    (void)state;
    each_sample(flip_bits);
}

/* As it is, and with the length in the header that would fit. */
static void cut(struct sample *s)
{
    struct sample shorter = *s;
    size_t header = RECORD_HEADER_BYTES + s->cid_length;

    for (size_t length = 0; length < s->length; length++) {
        assert_int_equal(sample_read(s, length), -EBADMSG);
        if (length < header)
            continue;
        shorter.bytes[header - 2] = 0;
        shorter.bytes[header - 1] = (uint8_t)(length - header);
        assert_int_equal(sample_read(&shorter, length), -EBADMSG);
    }
}

static void every_length_counts(void **state)
{
    (void)state;
    each_sample(cut);
}

/* Bytes that were added, with a length that takes them in. */
static void lengthen(struct sample *s)
{
    struct sample longer = *s;
    size_t header = RECORD_HEADER_BYTES + s->cid_length;

    for (size_t more = 1; s->length + more <= sizeof(s->bytes); more++) {
        longer.bytes[header - 1] = (uint8_t)(s->length + more - header);
        assert_int_equal(sample_read(&longer, s->length + more), -EBADMSG);
    }
}

static void nothing_can_be_added(void **state)
{
    (void)state;
    each_sample(lengthen);
}

/* Whatever comes: no read beyond the datagram, and a view that lies within it. */
static void anything_can_be_parsed(void **state)
{
    uint64_t random = 7;
    unsigned accepted = 0;

    (void)state;
    for (unsigned n = 0; n < 300000; n++) {
        uint8_t bytes[80] = {0}, *copy;
        size_t length = n % sizeof(bytes);
        struct record_view view;
        int taken;

        for (size_t i = 0; i < length; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (uint8_t)(random >> 56);
        }
        if (n % 4) { /* mostly what looks like a record */
            memcpy(bytes, "\x17\xfe\xfd", 3);
            bytes[0] = (uint8_t)(19 + n % 7);
            bytes[11] = bytes[19] = 0;
            bytes[12] %= 64;
            bytes[20] %= 64;
        }
        copy = malloc(length + !length);
        memcpy(copy, bytes, length);
        taken = record_next(copy, length, n & 8, &view);
        if (taken >= 0) {
            accepted++;
            assert_true((size_t)taken <= length && view.length > 0);
            assert_ptr_equal(view.header, copy);
            assert_ptr_equal(view.body, copy + view.header_length);
            assert_int_equal(view.header_length + view.length, taken);
        }
        free(copy);
    }
    assert_true(accepted > 10000);
}

/* ---- what each function sees to itself ---- */

/* A header, whatever it says; its length is all that there is. */
static int parse_header(uint8_t type, uint16_t version, uint16_t epoch, size_t length,
                        uint8_t cid_length)
{
    static uint8_t bytes[DATAGRAM_MAX];
    size_t header = RECORD_HEADER_BYTES + (type == RECORD_CID ? cid_length : 0);
    struct record_view view;

    bytes[0] = type;
    bytes[1] = (uint8_t)(version >> 8);
    bytes[2] = (uint8_t)version;
    bytes[3] = (uint8_t)(epoch >> 8);
    bytes[4] = (uint8_t)epoch;
    bytes[header - 2] = (uint8_t)(length >> 8);
    bytes[header - 1] = (uint8_t)length;
    return record_next(bytes, header + length, cid_length, &view);
}

static void the_parser_knows_its_limits(void **state)
{
    const int body = RECORD_BODY_MAX, plain = RECORD_PLAIN_MAX;

    (void)state;
    assert_int_equal(parse_header(23, 0xfefd, 1, RECORD_BODY_MAX, 0), 13 + body);
    assert_int_equal(parse_header(23, 0xfefd, 1, RECORD_BODY_MAX + 1, 0), -EBADMSG);
    assert_int_equal(parse_header(25, 0xfefd, 1, RECORD_BODY_MAX, 8), 21 + body);
    assert_int_equal(parse_header(25, 0xfefd, 1, RECORD_BODY_MAX + 1, 8), -EBADMSG);
    assert_int_equal(parse_header(22, 0xfefd, 0, RECORD_PLAIN_MAX, 0), 13 + plain);
    assert_int_equal(parse_header(22, 0xfefd, 0, RECORD_PLAIN_MAX + 1, 0), -EBADMSG);
    assert_int_equal(parse_header(22, 0xfefd, 0, 0, 0), -EBADMSG);
    assert_int_equal(parse_header(22, 0xfeff, 0, 50, 0), 63);
    assert_int_equal(parse_header(22, 0xfeff, 1, 50, 0), -EBADMSG);
    assert_int_equal(parse_header(22, 0xfefc, 0, 50, 0), -EBADMSG);
    assert_int_equal(parse_header(25, 0xfefd, 0, 50, 8), -EBADMSG);
    assert_int_equal(parse_header(25, 0xfefd, 1, 50, 0), -EBADMSG);
    assert_int_equal(parse_header(24, 0xfefd, 1, 50, 8), -EBADMSG);
}

/* Epoch 0 has no keys, and version 1.0 none of ours: also where a view says so that is authentic.
 */
static void only_this_version_is_opened_and_no_epoch_0(void **state)
{
    struct record_view view;
    uint8_t out[128], type;
    struct sample s;

    (void)state;
    sample_make(&s, SUITE_AES_128_GCM, 0);
    assert_true(record_next(s.bytes, s.length, 0, &view) > 0);
    assert_int_equal(record_open(aead, AEAD_NO_SLOT, &s.key, &view, out, &type), PLAIN);
    view.epoch = 0;
    assert_int_equal(record_open(aead, AEAD_NO_SLOT, &s.key, &view, out, &type), -EBADMSG);
    view.epoch = 1;
    view.version = RECORD_VERSION_1_0;
    assert_int_equal(record_open(aead, AEAD_NO_SLOT, &s.key, &view, out, &type), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_records),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(every_length_counts),
        cmocka_unit_test(nothing_can_be_added),
        cmocka_unit_test(anything_can_be_parsed),
        cmocka_unit_test(the_parser_knows_its_limits),
        cmocka_unit_test(only_this_version_is_opened_and_no_epoch_0),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
