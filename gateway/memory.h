/* Large zeroed memory, reserved at start: address space now, pages on first touch, huge pages where
 * the kernel has them to give. Any thread. */
#ifndef COAPGW_GATEWAY_MEMORY_H
#define COAPGW_GATEWAY_MEMORY_H

#include <stddef.h>

/* NULL with errno set. `bytes` > 0. */
void *memory_reserve(size_t bytes);

/* NULL is allowed. `bytes` as reserved. */
void memory_release(void *memory, size_t bytes);

#endif
