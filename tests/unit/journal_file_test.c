/* The file of the journal: one process after the other in a folder of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "gateway/control/journal_file.h"
#include "gateway/session/journal.h"
#include "tests/unit/config_harness.h"

#define SECOND_US UINT64_C(1000000)

static char folder[64], directory[128];

static const char *path_of(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/coapgw-journal-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(directory, sizeof(directory), "%s/d", folder);
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"unit.journal", "unit.lock", "unit.new", "target"};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        unlink(path_of(names[i]));
    rmdir(directory);
    rmdir(folder);
    return 0;
}

static uint64_t wall_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct config *config_with(unsigned workers, unsigned remembered)
{
    char text[1024];
    struct config *config;

    snprintf(text, sizeof(text),
             BASE6 "instance: unit\nworkers: %u\nlimits: {sessions: 64, remembered: %u}\n"
                   "journal: {directory: %s}\n",
             workers, remembered, directory);
    config = load(text, strlen(text));
    assert_string_equal(errors, "");
    assert_non_null(config);
    return config;
}

static struct journal_file *open_with(unsigned workers, unsigned remembered, uint64_t now_us)
{
    struct config *config = config_with(workers, remembered);
    struct journal_file *file = journal_file_open(config, now_us);

    config_free(config);
    return file;
}

static void note(struct journal_file *file, unsigned worker, uint64_t flow, uint64_t at_us)
{
    journal_note(journal_noted(journal_file_get(file), worker), flow,
                 journal_stamp(at_us, 1, JOURNAL_CON));
}

static bool knows(const struct journal_file *file, uint64_t flow, uint64_t now_us)
{
    return journal_knows(journal_file_get(file), flow, 1, now_us);
}

static void it_is_there_for_the_next_process(void **state)
{
    const uint64_t now = wall_us();
    struct journal_file *file = open_with(1, 100, now);
    struct stat status;

    (void)state;
    assert_non_null(file);
    assert_int_equal(stat(directory, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(stat(path_of("unit.journal"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(status.st_size, 64 + 16 * 100);
    assert_true(status.st_blocks * 512 >= status.st_size); /* none is missing when it is written */
    note(file, 0, 5, now);
    journal_file_close(file);
    file = open_with(3, 50, now + SECOND_US);
    assert_true(knows(file, 5, now + SECOND_US));
    assert_false(knows(file, 6, now + SECOND_US));
    note(file, 2, 6, now + SECOND_US);
    journal_file_close(file);
    file = open_with(1, 100, now + 2 * SECOND_US);
    assert_true(knows(file, 5, now + 2 * SECOND_US));
    assert_true(knows(file, 6, now + 2 * SECOND_US));
    assert_int_equal(stat(path_of("unit.new"), &status), -1);
    journal_file_close(file);
}

/* A process's time and the wall clock drift apart, and the clock is set: it is the time since the
 * request that counts. */
static void ages_follow_the_wall_clock(void **state)
{
    const uint64_t then = 1000 * SECOND_US; /* a process whose time is far behind */
    struct journal_file *file = open_with(1, 100, then);
    uint64_t now;

    (void)state;
    note(file, 0, 1, then - 100 * SECOND_US);
    note(file, 0, 1, then - 100 * SECOND_US);
    journal_file_tick(file, then);
    journal_file_close(file);
    now = wall_us();
    file = open_with(1, 100, now);
    assert_true(knows(file, 1, now));
    assert_true(knows(file, 1, now + 146 * SECOND_US));
    assert_false(knows(file, 1, now + 160 * SECOND_US));
    note(file, 0, 2, now);
    journal_file_tick(file, now + 300 * SECOND_US); /* by now the request is old */
    journal_file_close(file);
    file = open_with(1, 100, now);
    assert_false(knows(file, 2, now));
    journal_file_close(file);
}

static void a_second_process_does_without(void **state)
{
    const uint64_t now = wall_us();
    struct journal_file *file = open_with(1, 100, now);
    int status = -1;
    pid_t child;

    (void)state;
    note(file, 0, 5, now);
    fflush(NULL);
    child = fork();
    if (child == 0)
        _exit(open_with(1, 100, now) == NULL ? 42 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 42);
    journal_file_close(file);
    file = open_with(1, 100, now);
    assert_true(knows(file, 5, now));
    journal_file_close(file);
}

static void write_file(const char *name, const void *bytes, size_t length)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
    close(fd);
}

/* Whatever is there is replaced, and that is all. */
static void what_is_no_journal_is_replaced(void **state)
{
    static const char garbage[4096] = "this is no journal";
    const uint64_t now = wall_us();
    struct journal_file *file;
    struct stat status;

    (void)state;
    assert_int_equal(mkdir(directory, 0700), 0);
    for (unsigned i = 0; i < 6; i++) {
        unlink(path_of("unit.journal"));
        switch (i) {
        case 0:
            write_file("unit.journal", garbage, sizeof(garbage));
            break;
        case 1:
            write_file("unit.journal", garbage, 0);
            break;
        case 2: /* not followed */
            write_file("target", garbage, sizeof(garbage));
            assert_int_equal(symlink("target", path_of("unit.journal")), 0);
            break;
        case 3: /* not waited for */
            assert_int_equal(mkfifo(path_of("unit.journal"), 0600), 0);
            break;
        case 4: /* cut off */
            journal_file_close(open_with(1, 100, now));
            assert_int_equal(truncate(path_of("unit.journal"), 100), 0);
            break;
        case 5: /* a good one of somebody else, as far as a test can make one */
            file = open_with(1, 100, now);
            note(file, 0, 5, now);
            journal_file_close(file);
            if (geteuid() == 0)
                assert_int_equal(chown(path_of("unit.journal"), 65534, 65534), 0);
            else
                unlink(path_of("unit.journal"));
            break;
        }
        write_file("unit.new", garbage, sizeof(garbage)); /* of one that was killed at its start */
        file = open_with(1, 100, now);
        assert_non_null(file);
        assert_int_equal(journal_file_get(file)->former_count, 0);
        assert_int_equal(lstat(path_of("unit.journal"), &status), 0);
        assert_true(S_ISREG(status.st_mode));
        assert_int_equal(status.st_size, 64 + 16 * 100);
        journal_file_close(file);
    }
    assert_int_equal(stat(path_of("target"), &status), 0);
    assert_int_equal(status.st_size, sizeof(garbage));
}

static void where_none_can_be_there_is_none(void **state)
{
    struct stat status;

    (void)state;
    strcpy(directory, "/proc/coapgw-test"); /* cannot be made */
    assert_null(open_with(1, 100, 1));
    strcpy(directory, "/dev/null"); /* is none */
    assert_null(open_with(1, 100, 1));
    snprintf(directory, sizeof(directory), "%s/d", folder);
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(mkdir(path_of("unit.new"), 0700), 0); /* in its way */
    assert_null(open_with(1, 100, 1));
    assert_int_equal(rmdir(path_of("unit.new")), 0);
    assert_int_equal(stat(path_of("unit.journal"), &status), -1);
}

static void none_is_none(void **state)
{
    struct config *config = load(BASE6 "journal: none\n", strlen(BASE6 "journal: none\n"));

    (void)state;
    assert_non_null(config);
    assert_null(config->journal.directory);
    assert_null(journal_file_open(config, 1));
    assert_null(journal_file_get(NULL));
    journal_file_tick(NULL, 1);
    journal_file_close(NULL);
    config_free(config);
}

static void assert_directory(const char *more, const char *expected)
{
    char text[512];
    struct config *config;

    snprintf(text, sizeof(text), BASE6 "%s", more);
    config = load(text, strlen(text));
    assert_non_null(config);
    assert_string_equal(config->journal.directory, expected);
    config_free(config);
}

static void the_directory_is_configured(void **state)
{
    static const struct error_case cases[] = {
        {BASE6 "journal: {directory: run}\n",
         "7: journal.directory: \"run\" is not an absolute path of at most 1024 bytes; write one "
         "such as /run/coapgw"},
        {BASE6 "journal: {directory: ''}\n",
         "7: journal.directory: is empty; write a value or remove the key"},
        {BASE6 "journal: {directory: /" X1024 "}\n",
         "7: journal.directory: \"/" X64 "xxxxxxxxxxxxxxx\" is not an absolute path of at most "
         "1024 bytes; write one such as /run/coapgw"},
    };

    (void)state;
    assert_directory("", "/run/coapgw");
    assert_directory("journal: {}\n", "/run/coapgw");
    assert_directory("journal: {directory: /dev/shm/x}\n", "/dev/shm/x");
    assert_cases(cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(it_is_there_for_the_next_process),   IN_FOLDER(ages_follow_the_wall_clock),
        IN_FOLDER(a_second_process_does_without),      IN_FOLDER(what_is_no_journal_is_replaced),
        IN_FOLDER(where_none_can_be_there_is_none),    cmocka_unit_test(none_is_none),
        cmocka_unit_test(the_directory_is_configured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
