#include "gateway/memory.h"

#include <sys/mman.h>

#define HUGE_PAGE_BYTES (2u << 20)

void *memory_reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    if (bytes >= HUGE_PAGE_BYTES)
        (void)madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: without it, it is only slower */
    return memory;
}

void memory_release(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, bytes);
}
