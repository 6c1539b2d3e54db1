#include "gateway/control/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "gateway/session/journal.h"
#include "gateway/session/messaging.h"

/* A process that is being killed has its lock until it is gone. */
#define LOCK_MS 1000
#define STEP_MS 10

#define NAME_BYTES 64

struct journal_file {
    struct journal journal;
    void *memory;
    size_t bytes;
    int lock;
};

/* A file in memory; NULL: there is none. */
struct mapping {
    void *memory;
    size_t bytes;
};

/* What is worked on while the journal is made. */
struct making {
    const struct config *config;
    int directory;
    char name[NAME_BYTES], fresh[NAME_BYTES], lock[NAME_BYTES];
};

static void say(const struct making *making, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(const struct making *making, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "coapgw: journal: %s/%s: ", making->config->journal.directory, making->name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static int fail(const struct making *making, const char *what, int err)
{
    say(making,
        "%s: %s; without it, POST and PATCH requests that are repeated after a kill are executed "
        "again",
        what, strerror(err));
    return -err;
}

static uint64_t wall_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- directory and lock ---- */

static int open_directory(struct making *making)
{
    const char *path = making->config->journal.directory;
    struct statfs file_system;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail(making, "its directory cannot be made", errno);
    making->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (making->directory < 0)
        return fail(making, "its directory cannot be opened", errno);
    if (fstatfs(making->directory, &file_system) == 0 && file_system.f_type != TMPFS_MAGIC &&
        file_system.f_type != RAMFS_MAGIC)
        say(making, "this is no tmpfs: a disk holds workers up now and then");
    return 0;
}

static int lock(const struct making *making)
{
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
    int fd = openat(making->directory, making->lock,
                    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

    if (fd < 0)
        return fail(making, "it cannot be locked", errno);
    for (unsigned ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; ms += STEP_MS) {
        if (errno != EWOULDBLOCK || ms >= LOCK_MS) {
            int err = errno;

            close(fd);
            return fail(making,
                        err == EWOULDBLOCK ? "another process of this instance has it"
                                           : "it cannot be locked",
                        err);
        }
        nanosleep(&step, NULL);
    }
    return fd;
}

/* ---- the journal before ---- */

/* A link, another user's file, anything that is no file: not ours. */
static int open_old(const struct making *making, size_t *bytes)
{
    int fd = openat(making->directory, making->name,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
        status.st_size <= 0) {
        close(fd);
        return -EINVAL;
    }
    *bytes = (size_t)status.st_size;
    return fd;
}

static int map_old(const struct making *making, struct mapping *old, struct journal *journal)
{
    int fd = open_old(making, &old->bytes), err = 0;

    if (fd < 0)
        return fd;
    old->memory = mmap(NULL, old->bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (old->memory == MAP_FAILED) {
        err = -errno;
        old->memory = NULL;
    }
    close(fd);
    return err ? err : journal_view(journal, old->memory, old->bytes);
}

/* What cannot be read is done without: the new journal takes its place. */
static const struct journal *read_old(const struct making *making, struct mapping *old,
                                      struct journal *journal)
{
    int err = map_old(making, old, journal);

    if (err && err != -ENOENT)
        say(making, "what is there is no journal of this version (%s): a new one is begun",
            strerror(-err));
    return err ? NULL : journal;
}

/* ---- the new one ---- */

/* All of its memory is taken now: a store where there is none left would end the process. */
static int map_fresh(const struct making *making, struct mapping *fresh)
{
    int fd, err;

    unlinkat(making->directory, making->fresh, 0);
    fd = openat(making->directory, making->fresh,
                O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(making, "it cannot be made", errno);
    err = posix_fallocate(fd, 0, (off_t)fresh->bytes);
    if (!err) {
        fresh->memory =
            mmap(NULL, fresh->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
        err = fresh->memory == MAP_FAILED ? errno : 0;
    }
    close(fd);
    if (!err)
        return 0;
    fresh->memory = NULL;
    unlinkat(making->directory, making->fresh, 0);
    return fail(making, "it cannot be made", err);
}

static int publish(const struct making *making)
{
    if (renameat(making->directory, making->fresh, making->directory, making->name) == 0)
        return 0;
    unlinkat(making->directory, making->fresh, 0);
    return fail(making, "it cannot be put in place", errno);
}

static int create(struct journal_file *file, const struct making *making,
                  struct journal_setup *setup)
{
    struct mapping fresh = {.bytes = journal_bytes(setup)};
    uint64_t left_out;
    int err = map_fresh(making, &fresh);

    if (err)
        return err;
    file->memory = fresh.memory;
    file->bytes = fresh.bytes;
    left_out = journal_create(&file->journal, fresh.memory, setup);
    journal_file_tick(file, setup->now_us);
    err = publish(making);
    if (!err && left_out)
        say(making, "%llu former requests are too many and forgotten",
            (unsigned long long)left_out);
    if (!err && file->journal.former_count)
        say(making, "%llu requests of before the start are known",
            (unsigned long long)file->journal.former_count);
    return err;
}

static int make(struct journal_file *file, const struct making *making, uint64_t now_us)
{
    struct journal_setup setup = {.workers = making->config->workers,
                                  .entries = making->config->limits.remembered,
                                  .now_us = now_us};
    struct mapping old = {.memory = NULL};
    struct journal before;
    int err;

    if (getrandom(&setup.key, sizeof(setup.key), 0) != (ssize_t)sizeof(setup.key))
        return fail(making, "no random numbers", errno);
    messaging_lifetimes(making->config, &setup.con_us, &setup.non_us);
    setup.old = read_old(making, &old, &before);
    if (setup.old)
        setup.then_us = wall_us() - (uint64_t)before.head->skew_us;
    err = create(file, making, &setup);
    if (old.memory)
        munmap(old.memory, old.bytes);
    return err;
}

/* ---- for main ---- */

static int open_parts(struct journal_file *file, const struct config *config, uint64_t now_us)
{
    struct making making = {.config = config, .directory = -1};
    int err;

    snprintf(making.name, sizeof(making.name), "%s.journal", config->instance);
    snprintf(making.fresh, sizeof(making.fresh), "%s.new", config->instance);
    snprintf(making.lock, sizeof(making.lock), "%s.lock", config->instance);
    err = open_directory(&making);
    if (!err) {
        file->lock = lock(&making);
        err = file->lock < 0 ? file->lock : make(file, &making, now_us);
    }
    if (making.directory >= 0)
        close(making.directory);
    return err;
}

struct journal_file *journal_file_open(const struct config *config, uint64_t now_us)
{
    struct journal_file *file;

    if (!config->journal.directory)
        return NULL;
    file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    file->lock = -1;
    if (open_parts(file, config, now_us) == 0)
        return file;
    journal_file_close(file);
    return NULL;
}

const struct journal *journal_file_get(const struct journal_file *file)
{
    return file ? &file->journal : NULL;
}

void journal_file_tick(struct journal_file *file, uint64_t now_us)
{
    if (file)
        journal_skew(&file->journal, now_us, wall_us());
}

void journal_file_close(struct journal_file *file)
{
    if (!file)
        return;
    if (file->memory)
        munmap(file->memory, file->bytes);
    if (file->lock >= 0)
        close(file->lock);
    free(file);
}
