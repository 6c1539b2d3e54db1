/* Resources that the gateway holds, in one worker. */
#include "tests/unit/resource_harness.h"

static void smoke(void **state)
{
    struct harness *h;

    resource_start(state, RESOURCE_YAML);
    h = *state;
    gets_code(h, 1, "shared/a", CODE_NOT_FOUND);
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "one", CODE_CREATED);
    gets_ok(h, 2, "shared/a", "one");
    puts_ok(h, 1, "shared/a", FORMAT_TEXT, "two", CODE_CHANGED);
    gets_ok(h, 2, "shared/a", "two");
    resource_end(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smoke),
    };

    harness_eal();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
