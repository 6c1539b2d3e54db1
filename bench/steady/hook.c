/* Counts, for each thread, the calls that a packet path must not make: to be put in front of libc
 * and DPDK with LD_PRELOAD. The counts are in the file that COAPGW_HOOK names, mapped: who reads it
 * twice sees what came in between.
 *
 * The file is HOOK_THREADS rows of HOOK_WORDS 64-bit words in host order: the thread's number (0:
 * the row is free), then one count for each enum hook_kind. A thread has a row from its first call
 * on. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOOK_THREADS 64
#define HOOK_WORDS   8
#define EXPORTED     __attribute__((visibility("default")))

enum hook_kind { HOOK_ALLOCATE = 1, HOOK_FREE, HOOK_LOCK, HOOK_MAP };

/* Of libc, under the names that are not in the way of ours. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *memory);

static uint64_t (*rows)[HOOK_WORDS];
static atomic_uint used;
/* Found without a call that might allocate. */
static __thread uint64_t *row __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("COAPGW_HOOK");
    size_t bytes = sizeof(uint64_t) * HOOK_WORDS * HOOK_THREADS;
    void *memory = MAP_FAILED;
    int fd = name ? open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (memory != MAP_FAILED)
        rows = memory;
}

static void count(enum hook_kind kind)
{
    if (!rows)
        return;
    if (!row) {
        unsigned n = atomic_fetch_add(&used, 1);

        if (n >= HOOK_THREADS)
            abort(); /* better than to say nothing of a thread */
        row = rows[n];
        row[0] = (uint64_t)gettid();
    }
    __atomic_store_n(&row[kind], row[kind] + 1, __ATOMIC_RELAXED);
}

/* What is behind ours. */
static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (!found)
        abort();
    return found;
}

/* The name's next definition, looked up once; the result of a race is the same. */
#define NEXT(name)                                      \
    __extension__({                                     \
        static __typeof__(&(name)) found;               \
        if (!found)                                     \
            found = (__typeof__(&(name)))(next(#name)); \
        found;                                          \
    })

/* ---- libc: memory ---- */

EXPORTED void *malloc(size_t bytes)
{
    count(HOOK_ALLOCATE);
    return __libc_malloc(bytes);
}

EXPORTED void *calloc(size_t n, size_t bytes)
{
    count(HOOK_ALLOCATE);
    return __libc_calloc(n, bytes);
}

EXPORTED void *realloc(void *memory, size_t bytes)
{
    count(HOOK_ALLOCATE);
    return __libc_realloc(memory, bytes);
}

EXPORTED void *aligned_alloc(size_t alignment, size_t bytes)
{
    count(HOOK_ALLOCATE);
    return __libc_memalign(alignment, bytes);
}

EXPORTED int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    count(HOOK_ALLOCATE);
    *memory = __libc_memalign(alignment, bytes);
    return *memory ? 0 : ENOMEM;
}

EXPORTED void free(void *memory)
{
    if (memory)
        count(HOOK_FREE);
    __libc_free(memory);
}

EXPORTED void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    count(HOOK_MAP);
    return NEXT(mmap)(at, bytes, protection, flags, fd, offset);
}

EXPORTED int munmap(void *at, size_t bytes)
{
    count(HOOK_MAP);
    return NEXT(munmap)(at, bytes);
}

/* ---- libc: locks ---- */

EXPORTED int pthread_mutex_lock(pthread_mutex_t *lock)
{
    count(HOOK_LOCK);
    return NEXT(pthread_mutex_lock)(lock);
}

EXPORTED int pthread_mutex_trylock(pthread_mutex_t *lock)
{
    count(HOOK_LOCK);
    return NEXT(pthread_mutex_trylock)(lock);
}

EXPORTED int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    count(HOOK_LOCK);
    return NEXT(pthread_rwlock_rdlock)(lock);
}

EXPORTED int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
    count(HOOK_LOCK);
    return NEXT(pthread_rwlock_wrlock)(lock);
}

EXPORTED int pthread_spin_lock(pthread_spinlock_t *lock)
{
    count(HOOK_LOCK);
    return NEXT(pthread_spin_lock)(lock);
}

/* ---- DPDK: its heap, which is under a lock ---- */

void *rte_malloc(const char *type, size_t bytes, unsigned align);
void *rte_zmalloc(const char *type, size_t bytes, unsigned align);
void *rte_malloc_socket(const char *type, size_t bytes, unsigned align, int socket);
void *rte_zmalloc_socket(const char *type, size_t bytes, unsigned align, int socket);
void rte_free(void *memory);

EXPORTED void *rte_malloc(const char *type, size_t bytes, unsigned align)
{
    count(HOOK_ALLOCATE);
    return NEXT(rte_malloc)(type, bytes, align);
}

EXPORTED void *rte_zmalloc(const char *type, size_t bytes, unsigned align)
{
    count(HOOK_ALLOCATE);
    return NEXT(rte_zmalloc)(type, bytes, align);
}

EXPORTED void *rte_malloc_socket(const char *type, size_t bytes, unsigned align, int socket)
{
    count(HOOK_ALLOCATE);
    return NEXT(rte_malloc_socket)(type, bytes, align, socket);
}

EXPORTED void *rte_zmalloc_socket(const char *type, size_t bytes, unsigned align, int socket)
{
    count(HOOK_ALLOCATE);
    return NEXT(rte_zmalloc_socket)(type, bytes, align, socket);
}

EXPORTED void rte_free(void *memory)
{
    if (memory)
        count(HOOK_FREE);
    NEXT(rte_free)(memory);
}
