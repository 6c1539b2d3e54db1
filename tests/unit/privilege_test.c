/* Threads that know nothing of it give up their capabilities. As an ordinary user there are none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dpdk/privilege.h"

static int ask[2], answer[2];

static uint64_t own_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    assert_int_equal(syscall(SYS_capget, &header, data), 0);
    return data[0].permitted | data[0].effective | data[0].inheritable |
           (uint64_t)(data[1].permitted | data[1].effective | data[1].inheritable) << 32;
}

/* Sits in read() until it is asked what it holds; the signal must not end the read. With a context
 * it blocks all signals until it is asked with 'u'. */
static void *reading_thread(void *context)
{
    sigset_t set;
    uint64_t held;
    char byte;

    sigfillset(&set);
    if (context)
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    while (read(ask[0], &byte, 1) == 1) {
        held = own_capabilities();
        if (write(answer[1], &held, sizeof(held)) != sizeof(held))
            break;
        if (byte == 'u')
            pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        if (byte == 'e')
            break;
    }
    return NULL;
}

static uint64_t thread_capabilities(char request)
{
    uint64_t held;

    assert_int_equal(write(ask[1], &request, 1), 1);
    assert_int_equal(read(answer[0], &held, sizeof(held)), sizeof(held));
    return held;
}

static void run(enum config_device first, enum config_device second, bool deaf, int wanted,
                uint64_t kept)
{
    struct config_interface interfaces[] = {{.device = first}, {.device = second}};
    struct config config = {.interfaces = interfaces, .interface_count = 2};
    pthread_t thread;

    assert_int_equal(pipe(ask), 0);
    assert_int_equal(pipe(answer), 0);
    assert_int_equal(pthread_create(&thread, NULL, reading_thread, deaf ? &config : NULL), 0);
    thread_capabilities('-'); /* it runs */
    assert_int_equal(privilege_drop(&config), wanted);
    assert_int_equal(own_capabilities() & ~kept, 0);
    assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    if (deaf) {
        assert_int_not_equal(thread_capabilities('u'), 0);
        thread_capabilities('-'); /* what was pending does no harm, after it was given up */
        assert_int_equal(privilege_drop(&config), 0);
    }
    assert_int_equal(thread_capabilities('e') & ~kept, 0);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 2; i++) {
        close(ask[i]);
        close(answer[i]);
    }
}

/* In this order: what is gone stays gone. */
static void test_a_device_keeps_what_it_needs(void **state)
{
    const uint64_t net_admin = UINT64_C(1) << CAP_NET_ADMIN;
    uint64_t before = own_capabilities();

    (void)state;
    run(CONFIG_DEVICE_TAP, CONFIG_DEVICE_MEMIF, false, 0, net_admin);
    assert_int_equal(own_capabilities(), before & net_admin);
}

static void test_a_thread_that_cannot_be_reached_is_said(void **state)
{
    (void)state;
    if (!own_capabilities())
        skip();
    run(CONFIG_DEVICE_MEMIF, CONFIG_DEVICE_AF_PACKET, true, -ETIMEDOUT, 0);
}

static void test_nothing_is_left(void **state)
{
    (void)state;
    run(CONFIG_DEVICE_MEMIF, CONFIG_DEVICE_AF_PACKET, false, 0, 0);
    assert_int_equal(own_capabilities(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_device_keeps_what_it_needs),
        cmocka_unit_test(test_a_thread_that_cannot_be_reached_is_said),
        cmocka_unit_test(test_nothing_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
