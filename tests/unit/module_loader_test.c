/* Modules that cannot be had, and what is said of those that can. */
#include "tests/unit/module_harness.h"

#include <rte_cycles.h>

#include "gateway/control/loader.h"

static int refuse_options(const char *options, char *reason)
{
    snprintf(reason, COAPGW_REASON_BYTES, "\"%s\" is wrong", options);
    return -EINVAL;
}

static int refuse_in_silence(const char *options, char *reason)
{
    (void)options;
    (void)reason;
    return -EINVAL;
}

static void test_bad_modules_are_refused(void **state)
{
    struct config *config = config_load_text("test.yaml", PROBE_YAML, strlen(PROBE_YAML), stderr);
    struct modules *modules = modules_create(config);
    struct coapgw_module bad[8];
    char reason[COAPGW_REASON_BYTES];

    (void)state;
    for (unsigned i = 0; i < 8; i++)
        bad[i] = probe_module;
    bad[0].abi = COAPGW_MODULE_ABI + 1;
    bad[1].size = sizeof(bad[1]) - 1;
    bad[2].name = NULL;
    bad[3].start = NULL;
    bad[4].stop = NULL;
    bad[5].handle = NULL;
    bad[6].event = NULL;
    bad[7].check = refuse_options;
    assert_int_equal(modules_set(modules, 0, NULL, reason), -ENOEXEC);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(modules_set(modules, 0, &bad[i], reason), -ENOEXEC);
        assert_true(strlen(reason) > 10);
    }
    assert_int_equal(modules_set(modules, 0, &bad[7], reason), -EINVAL);
    assert_string_equal(reason, "\"some text\" is wrong");
    bad[7].check = refuse_in_silence;
    assert_int_equal(modules_set(modules, 0, &bad[7], reason), -EINVAL);
    assert_true(strlen(reason) > 10);
    assert_null(modules->by_route[0]);
    modules_destroy(modules);
    config_free(config);
}

static void test_a_module_that_does_not_start(void **state)
{
    struct config *config = config_load_text("test.yaml", PROBE_YAML, strlen(PROBE_YAML), stderr);
    struct worker_setup setup = {.count = 1, .config = config};

    (void)state;
    memset(&probe, 0, sizeof(probe));
    probe.start_error = -EPERM;
    probe.start_reason = "no licence";
    probe_load(&setup);
    assert_null(worker_create(&setup, SECOND_US));
    assert_int_equal(errno, ECANCELED);
    assert_string_equal(probe_modules->failure,
                        "/unit/probe.so: route /probe: worker 0: start(): no licence");
    assert_int_equal(probe.stops, 0);
    modules_destroy(probe_modules);
    setup.modules = NULL;
    assert_null(worker_create(&setup, SECOND_US)); /* a route, and nobody has loaded its module */
    config_free(config);
}

/* What loader_open() says of one route. */
static void assert_refused(const char *file, const char *options, const char *says)
{
    char yaml[1024], errors[1024] = "";
    FILE *out = fmemopen(errors, sizeof(errors), "w");
    struct modules *modules = NULL;
    struct config *config;

    snprintf(yaml, sizeof(yaml),
             MODULE_YAML "routes:\n  - {path: /m, module: {file: %s, options: \"%s\"}}\n", file,
             options);
    config = config_load_text("test.yaml", yaml, strlen(yaml), stderr);
    assert_non_null(config);
    assert_true(loader_open(config, out, &modules) < 0);
    assert_null(modules);
    fclose(out);
    assert_non_null(strstr(errors, "test.yaml: routes: /m: module "));
    if (!strstr(errors, says))
        fail_msg("\"%s\" does not say \"%s\"", errors, says);
    config_free(config);
}

static void test_the_loader_says_what_is_wrong(void **state)
{
    (void)state;
    assert_refused("/nowhere/at/all.so", "", "it cannot be loaded: cannot open shared object file");
    assert_refused(TESTS_DIR "/unit/module_test.c", "", "it cannot be loaded: ");
    assert_refused("/lib/x86_64-linux-gnu/libm.so.6", "", "it is not a module");
    assert_refused(MODULES_DIR "/time.so", "unsettled", "unknown options \"unsettled\"");
}

/* What the thread prints while a module says and does things. */
static void test_what_the_thread_prints(void **state)
{
    struct harness *h = probe_begin(PROBE_YAML);
    struct module_stats *stats = modules_stats(probe_modules, 0, 0);
    char text[4096] = "";
    FILE *out = fmemopen(text, sizeof(text), "w");
    struct loader_thread *thread;

    (void)state;
    stats->calls = 7;
    stats->slow = 3;
    stats->longest = rte_get_tsc_hz() / 100;
    probe.api->log(probe.instance, "a line");
    thread = loader_watch(probe_modules, out);
    assert_non_null(thread);
    loader_unwatch(thread); /* looks at all once more */
    probe.api->log(probe.instance, "another");
    thread = loader_watch(probe_modules, out);
    loader_unwatch(thread);
    loader_print(probe_modules, out);
    fclose(out);
    assert_non_null(strstr(text, "coapgw: module /probe: a line\n"));
    assert_non_null(strstr(text, "coapgw: module /probe: another\n"));
    assert_non_null(strstr(text, "coapgw: module /probe (/unit/probe.so): calls that took longer "
                                 "than limits.module_slow: 3 more, the longest so far "));
    assert_non_null(strstr(text, "module /probe worker 0: 7 calls, 0 us in all, longest "));
    probe_end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_modules_are_refused),
        cmocka_unit_test(test_a_module_that_does_not_start),
        cmocka_unit_test(test_the_loader_says_what_is_wrong),
        cmocka_unit_test(test_what_the_thread_prints),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
