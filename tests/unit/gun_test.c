/* The parts of the load generator that decide what it reports: percentiles, the absolute schedule
 * of an open loop, shares of a mix, paths, the search of a ramp, and the requests themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/gun/engine.h"
#include "bench/gun/run.h"

/* ---- histogram ---- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Values of every size, from single nanoseconds to hours. */
static uint64_t *make_values(unsigned n)
{
    uint64_t *values = malloc(sizeof(*values) * n), state = 88172645463325252u;

    for (unsigned i = 0; i < n; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = state >> (20 + i % 44);
    }
    return values;
}

static void test_percentiles_are_those_of_the_sorted_values(void **state)
{
    static const double shares[] = {0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    static struct histogram h;
    unsigned n = 20011;
    uint64_t *values = make_values(n);

    (void)state;
    memset(&h, 0, sizeof(h));
    for (unsigned i = 0; i < n; i++)
        histogram_add(&h, values[i]);
    qsort(values, n, sizeof(*values), compare);
    for (unsigned i = 0; i < sizeof(shares) / sizeof(*shares); i++) {
        double exact = shares[i] * n;
        unsigned rank = (unsigned)exact + ((unsigned)exact < exact);
        uint64_t truth = values[(rank ? rank : 1) - 1], told = histogram_at(&h, shares[i]);

        assert_true(told >= truth);
        assert_true(told <= truth + truth / 64);
    }
    assert_int_equal(histogram_at(&h, 1), values[n - 1]);
    free(values);
}

static void test_each_value_has_a_bucket(void **state)
{
    unsigned last = 0;

    (void)state;
    for (unsigned shift = 0; shift < 64; shift++)
        for (int near = -1; near <= 1; near++) {
            uint64_t value = (UINT64_C(1) << shift) + (uint64_t)near;

            assert_true(histogram_bucket(value) < HISTOGRAM_BUCKETS);
            assert_true(histogram_bucket(value) >= last || near < 0);
            last = histogram_bucket(value);
        }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(histogram_bucket(127), 127);
}

static void test_an_empty_histogram_says_0(void **state)
{
    static const struct histogram h;

    (void)state;
    assert_int_equal(histogram_at(&h, 0.5), 0);
    assert_int_equal(histogram_at(&h, 1), 0);
}

static void test_what_came_since(void **state)
{
    static struct histogram before, now, between;

    (void)state;
    memset(&before, 0, sizeof(before));
    histogram_add(&before, 50);
    now = before;
    histogram_add(&now, 7);
    histogram_add(&now, 9);
    histogram_since(&now, &before, &between);
    assert_int_equal(histogram_total(&between), 2);
    assert_int_equal(histogram_at(&between, 0.5), 7);
    assert_int_equal(between.largest, 9);
}

/* ---- open loop ---- */

static void test_requests_are_due_at_their_times(void **state)
{
    struct schedule s = {.begin_ns = 1000, .interval_ns = 1e9 / 3};

    (void)state;
    assert_int_equal(schedule_due(&s, 0), 1000);
    /* No error adds up: after an hour, 10,800 intervals of a third of a second. */
    assert_in_range(schedule_due(&s, 10800), 1000 + 3600000000000 - 1, 1000 + 3600000000000);
}

static void test_a_debt_is_never_forgotten(void **state)
{
    struct schedule s = {.begin_ns = 0, .interval_ns = 100};

    (void)state;
    assert_int_equal(schedule_waiting(&s, 0, 64), 1);
    s.sent = 1;
    assert_int_equal(schedule_waiting(&s, 99, 64), 0);
    assert_int_equal(schedule_waiting(&s, 100, 64), 1);
    /* The sender was away for 5 us: 50 are due, and their times stay what they were. */
    assert_int_equal(schedule_waiting(&s, 5000, 64), 50);
    assert_int_equal(schedule_waiting(&s, 5000, 32), 32);
    assert_int_equal(schedule_due(&s, s.sent), 100);
}

static void test_the_count_before_an_end(void **state)
{
    struct schedule s = {.begin_ns = 500, .interval_ns = 1e9 / 7};

    (void)state;
    assert_int_equal(schedule_count(&s, 500), 0);
    assert_int_equal(schedule_count(&s, 501), 1);
    assert_int_equal(schedule_count(&s, 500 + 1000000000), 7);
    for (uint64_t k = 1; k < 1000; k++) {
        assert_int_equal(schedule_count(&s, schedule_due(&s, k)), k);
        assert_int_equal(schedule_count(&s, schedule_due(&s, k) + 1), k + 1);
    }
}

/* ---- ramp ---- */

/* What a server with this capacity is found to have. */
static double search_for(double capacity, double from, double to, unsigned steps, unsigned *runs)
{
    struct search s;

    search_begin(&s, from, to, steps);
    for (*runs = 0; s.next > 0; (*runs)++)
        search_step(&s, s.next <= capacity);
    return s.good;
}

static void test_a_ramp_doubles_and_halves(void **state)
{
    unsigned runs;
    double found = search_for(777, 100, 100000, 10, &runs);

    (void)state;
    assert_true(found <= 777 && found > 776);
    assert_int_equal(runs, 4 + 10); /* 100, 200, 400, 800 */
}

static void test_a_ramp_ends_at_its_end(void **state)
{
    unsigned runs;

    (void)state;
    assert_true(search_for(1e9, 100, 350, 6, &runs) == 350);
    assert_int_equal(runs, 3);
    assert_true(search_for(1e9, 100, 100, 6, &runs) == 100);
    assert_int_equal(runs, 1);
}

static void test_a_ramp_that_begins_too_high_goes_down(void **state)
{
    unsigned runs;
    double found = search_for(30, 100, 1000, 6, &runs);

    (void)state;
    assert_true(found <= 30 && found > 28);
    assert_true(search_for(0, 100, 1000, 6, &runs) == 0);
    assert_int_equal(runs, 7);
}

/* ---- mix ---- */

static void test_a_mix_is_read(void **state)
{
    uint32_t mix[GUN_KINDS];

    (void)state;
    assert_int_equal(mix_parse("get=80,post=10,put=5,delete=0,observe=5,block=5", mix), 0);
    assert_int_equal(mix[GUN_GET], 80);
    assert_int_equal(mix[GUN_POST], 10);
    assert_int_equal(mix[GUN_PUT], 5);
    assert_int_equal(mix[GUN_DELETE], 0);
    assert_int_equal(mix[GUN_OBSERVE], 5);
    assert_int_equal(mix[GUN_BLOCK], 5);
    assert_int_equal(mix_parse("POST=1", mix), 0);
    assert_int_equal(mix[GUN_GET], 0);
}

static void test_bad_mixes_are_refused(void **state)
{
    static const char *const bad[] = {
        "",        "get",   "get=",        "get=-1", "get=1,",      "get=1;put=2",
        "fetch=1", "get=0", "get=1,get=2", "get=1x", "get=2000000", "=1"};
    uint32_t mix[GUN_KINDS];

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_true(mix_parse(bad[i], mix) < 0);
}

static int read_text(struct gun_options *o, const char *text)
{
    char name[] = "/tmp/gun_test_XXXXXX";
    int fd = mkstemp(name), status;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    status = mix_read_paths(o, name);
    unlink(name);
    return status;
}

static void test_a_paths_file_is_read(void **state)
{
    struct gun_options o = {0};

    (void)state;
    assert_int_equal(read_text(&o, "# all of them\n"
                                   "/plain\n"
                                   "\n"
                                   "3 /weighted # three times as often\n"
                                   "PUT /written\r\n"
                                   "  20\tobserve   /seen/%u?a=b"),
                     0);
    assert_int_equal(o.path_count, 4);
    assert_string_equal(o.paths[0].text, "/plain");
    assert_int_equal(o.paths[0].weight, 1);
    assert_int_equal(o.paths[0].kind, -1);
    assert_string_equal(o.paths[1].text, "/weighted");
    assert_int_equal(o.paths[1].weight, 3);
    assert_int_equal(o.paths[2].kind, GUN_PUT);
    assert_string_equal(o.paths[3].text, "/seen/%u?a=b");
    assert_int_equal(o.paths[3].weight, 20);
    assert_int_equal(o.paths[3].kind, GUN_OBSERVE);
    mix_free_paths(&o);
}

static void test_bad_lines_are_refused(void **state)
{
    static const char *const bad[] = {"",        "# nothing\n", "path\n",          "0 /x\n",
                                      "1x /x\n", "FETCH /x\n",  "1 GET /x more\n", "GET\n",
                                      "1 GET\n", "/a/%u/%u\n",  "GET 1 /x\n"};

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct gun_options o = {0};

        assert_true(read_text(&o, bad[i]) < 0);
        mix_free_paths(&o);
    }
}

static unsigned count_entries(const struct mix_entry *plan, int path, int kind, int type)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MIX_PLAN_ENTRIES; i++)
        n += (path < 0 || plan[i].path == path) && (kind < 0 || plan[i].kind == kind) &&
             (type < 0 || plan[i].type == type);
    return n;
}

static void test_a_plan_has_the_shares(void **state)
{
    static struct mix_entry plan[MIX_PLAN_ENTRIES];
    struct gun_options o = {.mix_given = true, .con_percent = 25};
    unsigned first = 0;

    (void)state;
    assert_int_equal(mix_parse("get=3,put=1", o.mix), 0);
    assert_int_equal(mix_add_path(&o, "/a", 3, -1), 0);
    assert_int_equal(mix_add_path(&o, "/b", 1, GUN_GET), 0);
    assert_int_equal(mix_plan(&o, plan), 0);
    assert_in_range(count_entries(plan, -1, GUN_GET, -1), 3071, 3073);
    assert_in_range(count_entries(plan, 1, GUN_GET, -1), 767, 769);
    assert_int_equal(count_entries(plan, 1, GUN_PUT, -1), 0);
    assert_in_range(count_entries(plan, 0, GUN_PUT, -1), 1023, 1025);
    assert_int_equal(count_entries(plan, -1, -1, TYPE_CON), 1024);
    /* Not one kind after the other. */
    for (unsigned i = 0; i < 400; i++)
        first += plan[i].kind == GUN_PUT;
    assert_in_range(first, 50, 150);
    mix_free_paths(&o);
}

static void test_paths_say_the_mix_when_there_is_none(void **state)
{
    static struct mix_entry plan[MIX_PLAN_ENTRIES];
    struct gun_options o = {.con_percent = 100};

    (void)state;
    assert_int_equal(read_text(&o, "1 /a\n3 POST /b\n"), 0);
    assert_int_equal(mix_plan(&o, plan), 0);
    assert_in_range(count_entries(plan, 0, GUN_GET, TYPE_CON), 1023, 1025);
    assert_in_range(count_entries(plan, 1, GUN_POST, TYPE_CON), 3071, 3073);
    assert_true(mix_path_is_for(&o, 0, GUN_OBSERVE));
    assert_false(mix_path_is_for(&o, 0, GUN_POST));
    mix_free_paths(&o);
}

static void test_a_kind_without_a_path_is_refused(void **state)
{
    static struct mix_entry plan[MIX_PLAN_ENTRIES];
    struct gun_options o = {.mix_given = true};

    (void)state;
    assert_int_equal(mix_parse("get=3,put=1", o.mix), 0);
    assert_int_equal(mix_add_path(&o, "/a", 1, GUN_GET), 0);
    assert_true(mix_plan(&o, plan) < 0);
    mix_free_paths(&o);
}

/* ---- requests ---- */

static void check_segment(const struct message *m, enum option_slot slot, unsigned which,
                          const char *text)
{
    struct option_cursor c = option_cursor_at(m, slot);
    struct option_view view;

    for (unsigned i = 0; i <= which; i++)
        assert_true(option_next_same(&c, &view));
    assert_int_equal(view.length, strlen(text));
    assert_memory_equal(view.value, text, view.length);
}

static void test_forms_are_messages(void **state)
{
    struct gun_options o = {.mix_given = true, .spread = 2000, .payload_bytes = 20};
    struct forms forms;
    struct message m;
    const struct form *form;

    (void)state;
    o.mix[GUN_POST] = 1;
    assert_int_equal(mix_add_path(&o, "/a%20b/item-%u-x/c?d=1&e", 1, -1), 0);
    assert_int_equal(forms_make(&forms, &o), 0);
    for (unsigned number = 1; number < 2000; number = number * 10 + 1) {
        char text[32];

        form = &forms.all[forms_find(&forms, 0, GUN_POST, number)];
        form_put_number(forms.all[form - forms.all].bytes + form->number_at, form->digits, number);
        assert_int_equal(message_parse(form->bytes, form->length, &m), VERDICT_OK);
        assert_int_equal(m.code, CODE_POST);
        snprintf(text, sizeof(text), "item-%u-x", number);
        check_segment(&m, SLOT_URI_PATH, 0, "a b");
        check_segment(&m, SLOT_URI_PATH, 1, text);
        check_segment(&m, SLOT_URI_PATH, 2, "c");
        check_segment(&m, SLOT_URI_QUERY, 0, "d=1");
        check_segment(&m, SLOT_URI_QUERY, 1, "e");
        assert_int_equal(m.payload_length, 20);
        assert_memory_equal(m.payload, "abcdefghijklmnopqrst", 20);
    }
    forms_free(&forms);
    mix_free_paths(&o);
}

static void test_observe_has_two_forms(void **state)
{
    struct gun_options o = {.mix_given = true, .spread = 1};
    struct forms forms;
    struct message m;
    unsigned index;

    (void)state;
    o.mix[GUN_OBSERVE] = 1;
    assert_int_equal(mix_add_path(&o, "/", 1, -1), 0);
    assert_int_equal(forms_make(&forms, &o), 0);
    index = forms_find(&forms, 0, GUN_OBSERVE, 0);
    for (unsigned value = 0; value < 2; value++) {
        const struct form *form = &forms.all[index + value];

        assert_int_equal(message_parse(form->bytes, form->length, &m), VERDICT_OK);
        assert_true(message_has(&m, SLOT_OBSERVE));
        assert_int_equal(message_uint(&m, SLOT_OBSERVE, 9), value);
        assert_false(message_has(&m, SLOT_URI_PATH));
    }
    forms_free(&forms);
    mix_free_paths(&o);
}

static void test_too_long_paths_are_refused(void **state)
{
    struct gun_options o = {.mix_given = true, .spread = 1};
    struct forms forms;
    char path[400] = "/";

    (void)state;
    o.mix[GUN_GET] = 1;
    memset(path + 1, 'x', 310);
    assert_true(mix_add_path(&o, path, 1, -1) < 0);
    mix_free_paths(&o);
    assert_int_equal(mix_add_path(&o, "/broken%zz", 1, -1), 0);
    assert_true(forms_make(&forms, &o) < 0);
    mix_free_paths(&o);
}

/* A glance at a notification sees what the parser sees. */
static void test_a_glance_sees_what_a_parse_sees(void **state)
{
    static const uint8_t token[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const uint32_t values[] = {0, 1, 255, 256, 0xffffff};
    uint8_t bytes[128];
    struct glance seen;

    (void)state;
    for (unsigned i = 0; i < 5 * 4; i++) {
        struct encoder e;

        encoder_begin(&e, bytes, sizeof(bytes), TYPE_NON, CODE_CONTENT, 7, token, sizeof(token));
        if (i % 2)
            encoder_option(&e, OPTION_ETAG, "abcd", 4);
        encoder_uint(&e, OPTION_OBSERVE, values[i % 5]);
        encoder_uint(&e, OPTION_MAX_AGE, 60);
        if (i / 10)
            encoder_option(&e, OPTION_SIZE2, "\x01\x02", 2); /* an extended delta */
        encoder_payload(&e, "state", 5);
        assert_true(observers_glance(bytes, (uint16_t)encoder_end(&e), &seen));
        assert_int_equal(seen.observe, values[i % 5]);
        assert_int_equal(seen.payload_length, 5);
        assert_memory_equal(seen.payload, "state", 5);
    }
    bytes[FORM_HEAD_BYTES] = 0x4c; /* a length that runs over the end */
    assert_false(observers_glance(bytes, FORM_HEAD_BYTES + 3, &seen));
    assert_true(observers_glance(bytes, FORM_HEAD_BYTES, &seen));
    assert_int_equal(seen.observe, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles_are_those_of_the_sorted_values),
        cmocka_unit_test(test_each_value_has_a_bucket),
        cmocka_unit_test(test_an_empty_histogram_says_0),
        cmocka_unit_test(test_what_came_since),
        cmocka_unit_test(test_requests_are_due_at_their_times),
        cmocka_unit_test(test_a_debt_is_never_forgotten),
        cmocka_unit_test(test_the_count_before_an_end),
        cmocka_unit_test(test_a_ramp_doubles_and_halves),
        cmocka_unit_test(test_a_ramp_ends_at_its_end),
        cmocka_unit_test(test_a_ramp_that_begins_too_high_goes_down),
        cmocka_unit_test(test_a_mix_is_read),
        cmocka_unit_test(test_bad_mixes_are_refused),
        cmocka_unit_test(test_a_paths_file_is_read),
        cmocka_unit_test(test_bad_lines_are_refused),
        cmocka_unit_test(test_a_plan_has_the_shares),
        cmocka_unit_test(test_paths_say_the_mix_when_there_is_none),
        cmocka_unit_test(test_a_kind_without_a_path_is_refused),
        cmocka_unit_test(test_forms_are_messages),
        cmocka_unit_test(test_observe_has_two_forms),
        cmocka_unit_test(test_too_long_paths_are_refused),
        cmocka_unit_test(test_a_glance_sees_what_a_parse_sees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
