/* Records that are not the association's next one: each is refused, named by a counter, and changes
 * nothing. */
#include "tests/unit/security_harness.h"

#define TEXT "a message of thirty-one bytes .."

enum change {
    SET,        /* byte `at` becomes `value` */
    FLIP,       /* byte `at` xor `value` */
    FLIP_END,   /* the same, counted from the end */
    CUT,        /* `at` bytes are left */
    CUT_END,    /* `at` bytes are gone */
    SEQUENCE,   /* sealed anew with the sequence at - 100 from the newest */
    EPOCH,      /* sealed anew with another epoch */
    OTHER_KEY,  /* sealed with another key */
    REFLECTED,  /* one of our own records comes back */
    LENGTH,     /* the header's length is `at` more or less than it is */
    FORM,       /* with a CID where there is none, without where there is one */
    TYPE,       /* sealed anew with content of this type */
    HUGE_LENGTH /* the header says 2^14 + 257 bytes */
};

#define COUNTER(name) offsetof(struct counters, drop_dtls_##name)

struct bad {
    const char *name;
    enum change change;
    int at;
    uint8_t value;
    size_t counter;
};

/* Sequence 100 is the newest one that has come; 37 is the oldest that the window has. */
static const struct bad table[] = {
    {"type 0", SET, 0, 0, COUNTER(malformed)},
    {"type 19", SET, 0, 19, COUNTER(malformed)},
    {"type 24", SET, 0, 24, COUNTER(malformed)},
    {"type 26", SET, 0, 26, COUNTER(malformed)},
    {"type 63", SET, 0, 63, COUNTER(malformed)},
    {"type 64, a CoAP header", SET, 0, 64, COUNTER(malformed)},
    {"type 255", SET, 0, 255, COUNTER(malformed)},
    {"version 0", SET, 1, 0, COUNTER(malformed)},
    {"version of TLS", SET, 1, 3, COUNTER(malformed)},
    {"version 1.0 under keys", SET, 2, 0xff, COUNTER(malformed)},
    {"version 1.3", SET, 2, 0xfc, COUNTER(malformed)},
    {"epoch 2", EPOCH, 2, 0, COUNTER(epoch)},
    {"epoch 3", EPOCH, 3, 0, COUNTER(epoch)},
    {"epoch 65535", EPOCH, 65535, 0, COUNTER(epoch)},
    {"epoch in the header alone", SET, 4, 2, COUNTER(epoch)},
    {"epoch 0", SET, 4, 0, COUNTER(unknown)},
    {"the newest again", SEQUENCE, 100, 0, COUNTER(replay)},
    {"an older one again", SEQUENCE, 99, 0, COUNTER(replay)},
    {"the oldest of the window again", SEQUENCE, 37, 0, COUNTER(replay)},
    {"just behind the window", SEQUENCE, 36, 0, COUNTER(replay)},
    {"long ago", SEQUENCE, 1, 0, COUNTER(replay)},
    {"the first of all", SEQUENCE, 0, 0, COUNTER(replay)},
    {"sequence changed: next", FLIP, 10, 2, COUNTER(forged)},
    {"sequence changed: far ahead", SET, 5, 0xff, COUNTER(forged)},
    {"sequence changed: 2^32", FLIP, 6, 1, COUNTER(forged)},
    {"explicit nonce or text, first byte", FLIP, 22, 1, COUNTER(forged)},
    {"the same, last bit", FLIP, 29, 0x80, COUNTER(forged)},
    {"text, in the middle", FLIP, 36, 4, COUNTER(forged)},
    {"text, another byte", SET, 40, 0, COUNTER(forged)},
    {"tag, first byte", FLIP_END, 8, 1, COUNTER(forged)},
    {"tag, in the middle", FLIP_END, 4, 0x10, COUNTER(forged)},
    {"tag, last byte", FLIP_END, 1, 0xff, COUNTER(forged)},
    {"another key", OTHER_KEY, 0, 0, COUNTER(forged)},
    {"one of ours comes back", REFLECTED, 0, 0, COUNTER(forged)},
    {"one byte", CUT, 1, 0, COUNTER(malformed)},
    {"half of the header", CUT, 6, 0, COUNTER(malformed)},
    {"all but one of the header", CUT, 12, 0, COUNTER(malformed)},
    {"without its last byte", CUT_END, 1, 0, COUNTER(malformed)},
    {"without half of its tag", CUT_END, 4, 0, COUNTER(malformed)},
    {"one byte less by its header", LENGTH, -1, 0, COUNTER(forged)},
    {"half by its header", LENGTH, -16, 0, COUNTER(forged)},
    {"one byte more than there is", LENGTH, 1, 0, COUNTER(malformed)},
    {"far more than there is", LENGTH, 2000, 0, COUNTER(malformed)},
    {"more than a record can have", HUGE_LENGTH, 0, 0, COUNTER(malformed)},
    {"with or without a CID, as it should not be", FORM, 0, 0, COUNTER(unknown)},
    {"ChangeCipherSpec under keys", TYPE, RECORD_CHANGE_CIPHER_SPEC, 0, COUNTER(type)},
};

/* With a Connection ID the length, and what follows it, lies so much later. */
static size_t place_of(const struct association *a, int at)
{
    return (size_t)at + (a->own_cid && at > 10 ? ASSOCIATION_ID_BYTES : 0);
}

static size_t add_to_length(const struct association *a, uint8_t *record, size_t length, int by)
{
    size_t at = place_of(a, 11);
    unsigned old = (unsigned)record[at] << 8 | record[at + 1];
    unsigned fresh = by == INT16_MAX ? RECORD_BODY_MAX + 1 : (unsigned)((int)old + by);

    record[at] = (uint8_t)(fresh >> 8);
    record[at + 1] = (uint8_t)fresh;
    return length;
}

static size_t seal_with(struct bench *b, const struct association *a, const struct bad *bad,
                        uint8_t *record)
{
    struct association other = *a;
    struct record_mark mark = {.type = RECORD_APPLICATION_DATA,
                               .epoch = 1,
                               .sequence = 101,
                               .cid = a->id,
                               .cid_length = a->own_cid ? ASSOCIATION_ID_BYTES : 0};
    const struct record_key *key = &other.read;
    int length;

    if (bad->change == OTHER_KEY)
        other.read.key[0] ^= 1;
    if (bad->change == REFLECTED)
        key = &other.write;
    if (bad->change == EPOCH)
        mark.epoch = (uint16_t)bad->at;
    if (bad->change == SEQUENCE)
        mark.sequence = (uint64_t)bad->at;
    if (bad->change == TYPE)
        mark.type = (uint8_t)bad->at;
    if (bad->change == FORM)
        mark.cid_length = mark.cid_length ? 0 : ASSOCIATION_ID_BYTES;
    memcpy(record + record_lead((enum suite)a->suite, mark.cid_length), TEXT, sizeof(TEXT));
    length = record_seal(b->aead, AEAD_NO_SLOT, key, &mark, record, sizeof(TEXT));
    assert_true(length > 0);
    return (size_t)length;
}

static size_t make_bad(struct bench *b, const struct association *a, const struct bad *bad,
                       uint8_t *record)
{
    size_t length = seal_with(b, a, bad, record);

    switch (bad->change) {
    case SET:
        assert_int_not_equal(record[place_of(a, bad->at)], bad->value);
        record[place_of(a, bad->at)] = bad->value;
        return length;
    case FLIP:
        record[place_of(a, bad->at)] ^= bad->value;
        return length;
    case FLIP_END:
        record[length - (size_t)bad->at] ^= bad->value;
        return length;
    case CUT:
        return (size_t)bad->at;
    case CUT_END:
        return length - (size_t)bad->at;
    case LENGTH:
        return add_to_length(a, record, length, bad->at);
    case HUGE_LENGTH:
        return add_to_length(a, record, length, INT16_MAX);
    default:
        return length;
    }
}

static uint64_t counter_at(const struct bench *b, size_t offset)
{
    uint64_t value;

    memcpy(&value, (const char *)&b->counters + offset, sizeof(value));
    return value;
}

static uint64_t drops(const struct bench *b)
{
    const struct counters *c = &b->counters;

    return c->drop_dtls_malformed + c->drop_dtls_unknown + c->drop_dtls_epoch +
           c->drop_dtls_replay + c->drop_dtls_forged + c->drop_dtls_type;
}

/* Everything up to 100 has come. */
static struct association *prepare(struct bench *b, uint32_t n, enum suite suite, bool cid)
{
    struct association *a = bench_add(b, n, suite, cid);

    for (unsigned sequence = 0; sequence <= 100; sequence++) {
        bench_say(b, a, &a->wire, sequence, "x");
        assert_int_equal(b->plain_count, 1);
        b->plain_count = 0;
    }
    return a;
}

static void refuse_one(struct bench *b, struct association *a, const struct bad *bad)
{
    struct flow wire = a->wire;
    uint8_t record[BENCH_BYTES];
    size_t length = make_bad(b, a, bad, record);
    size_t counter = bad->change == SET && a->own_cid && bad->at == 4 && bad->value == 0
                         ? COUNTER(malformed) /* a CID without keys cannot be */
                         : bad->counter;
    uint64_t counted = counter_at(b, counter), dropped = drops(b);
    struct association before = *a;

    bench_receive(b, &wire, record, length);
    if (counter_at(b, counter) != counted + 1 || drops(b) != dropped + 1)
        fail_msg("%s, suite %u, cid %u: counted as another one", bad->name, a->suite, a->own_cid);
    assert_int_equal(b->plain_count, 0);
    assert_int_equal(b->sent_count, 0); /* nobody gets an answer to it */
    if (bad->change != TYPE) {
        before.failures = a->failures;
        assert_memory_equal(&before, a, sizeof(before));
    }
}

/* After each of them the next record is taken, and what we send is understood. */
static void goes_on(struct bench *b, struct association *a, uint64_t sequence)
{
    struct flow session = association_flow(a);
    char text[BENCH_BYTES];

    bench_say(b, a, &a->wire, sequence, "still here");
    assert_int_equal(b->plain_count, 1);
    assert_true(flow_equal(&b->plain[0].flow, &session));
    assert_memory_equal(b->plain[0].bytes, "still here", 10);
    b->plain_count = 0;
    assert_true(bench_reply(b, &session, "so am I"));
    assert_int_equal(b->sent_count, 1);
    assert_int_equal(bench_open(b, a, &b->sent[0], text), RECORD_APPLICATION_DATA);
    assert_string_equal(text, "so am I");
    b->sent_count = 0;
}

static void refuse_all(struct bench *b, enum suite suite, bool cid)
{
    static uint32_t serial;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct association *a = prepare(b, ++serial % 100, suite, cid);

        refuse_one(b, a, &table[i]);
        goes_on(b, a, 102);
        security_end(b->security, a, false, &b->counters.associations_closed);
    }
}

static void bad_records_change_nothing(void **state)
{
    for (unsigned suite = 0; suite < SUITE_COUNT; suite++)
        refuse_all(*state, (enum suite)suite, false);
}

static void bad_records_with_a_cid_change_nothing(void **state)
{
    for (unsigned suite = 0; suite < SUITE_COUNT; suite++)
        refuse_all(*state, (enum suite)suite, true);
}

/* Every bit of a record: what is changed is not delivered, whatever it is taken for. */
static void every_bit_counts(void **state)
{
    struct bench *b = *state;
    struct association *a = prepare(b, 1, SUITE_AES_128_CCM_8, false);
    uint8_t record[BENCH_BYTES];
    size_t length = bench_seal(b, a, RECORD_APPLICATION_DATA, 200, TEXT, sizeof(TEXT), record);
    struct flow wire = a->wire;

    for (size_t bit = 0; bit < 8 * length; bit++) {
        record[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        bench_receive(b, &wire, record, length);
        record[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        assert_int_equal(b->plain_count, 0);
        assert_int_equal(b->sent_count, 0);
    }
    for (size_t cut = 0; cut < length; cut++)
        bench_receive(b, &wire, record, cut);
    assert_int_equal(b->plain_count, 0);
    bench_receive(b, &wire, record, length);
    assert_int_equal(b->plain_count, 1);
}

/* The record of one association, sent from the address of another one. */
static void records_of_others_are_refused(void **state)
{
    struct bench *b = *state;
    struct association *mine = prepare(b, 1, SUITE_AES_128_GCM, false);
    struct association *other = prepare(b, 2, SUITE_AES_128_GCM, false);
    struct flow nobody = bench_wire(77);

    bench_say(b, other, &mine->wire, 101, "not mine");
    assert_int_equal(b->counters.drop_dtls_forged, 1);
    bench_say(b, other, &nobody, 101, "nobody's");
    assert_int_equal(b->counters.drop_dtls_unknown, 1);
    assert_int_equal(b->plain_count, 0);
    assert_int_equal(b->sent_count, 0);
    goes_on(b, mine, 101);
    goes_on(b, other, 101);
}

/* Good records and bad ones in a datagram: what can be told apart is taken. */
static void datagrams_with_several_records(void **state)
{
    struct bench *b = *state;
    struct association *a = prepare(b, 1, SUITE_AES_128_CCM_8, false);
    uint8_t all[BENCH_BYTES];
    size_t length = 0, second;

    length += bench_seal(b, a, RECORD_APPLICATION_DATA, 101, "one", 3, all);
    second = length;
    length += bench_seal(b, a, RECORD_APPLICATION_DATA, 101, "one", 3, all + length);
    length += bench_seal(b, a, RECORD_APPLICATION_DATA, 103, "three", 5, all + length);
    bench_receive(b, &a->wire, all, length);
    assert_int_equal(b->plain_count, 2);
    assert_memory_equal(b->plain[1].bytes, "three", 5);
    assert_int_equal(b->counters.drop_dtls_replay, 1);
    b->plain_count = 0;
    all[second] = 0; /* its borders are not known any more */
    all[10] = 104;
    bench_receive(b, &a->wire, all, length);
    assert_int_equal(b->plain_count, 0);
    goes_on(b, a, 105);
}

/* RFC 9147 4.5.3: so many forgeries, and the key has had its day. */
static void too_many_forgeries_end_it(void **state)
{
    struct bench *b = *state;
    struct association *a = bench_add(b, 1, SUITE_AES_128_CCM_8, false);
    struct flow wire = a->wire;
    uint8_t record[BENCH_BYTES];
    size_t length = bench_seal(b, a, RECORD_APPLICATION_DATA, 5, "x", 1, record);

    a->failures = suite_forgery_limit(SUITE_AES_128_CCM_8) - 2;
    record[length - 1] ^= 1;
    bench_receive(b, &wire, record, length);
    assert_int_equal(b->ended_count, 0);
    bench_receive(b, &wire, record, length);
    assert_int_equal(b->ended_count, 1);
    assert_int_equal(b->counters.associations_exhausted, 1);
    assert_int_equal(b->sent_count, 1); /* close_notify */
    record[length - 1] ^= 1;
    bench_receive(b, &wire, record, length);
    assert_int_equal(b->plain_count, 0);
    assert_int_equal(b->counters.drop_dtls_unknown, 1);
}

static int begin(void **state)
{
    return bench_begin(state, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bad_records_change_nothing, begin, bench_end),
        cmocka_unit_test_setup_teardown(bad_records_with_a_cid_change_nothing, begin, bench_end),
        cmocka_unit_test_setup_teardown(every_bit_counts, begin, bench_end),
        cmocka_unit_test_setup_teardown(records_of_others_are_refused, begin, bench_end),
        cmocka_unit_test_setup_teardown(datagrams_with_several_records, begin, bench_end),
        cmocka_unit_test_setup_teardown(too_many_forgeries_end_it, begin, bench_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
