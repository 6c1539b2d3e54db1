/* Doubly linked lists of pool objects by index: half the size of pointers, and an object can be in
 * several lists. The list does not own its objects. One worker; no locking. */
#ifndef COAPGW_GATEWAY_LIST_H
#define COAPGW_GATEWAY_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/pool.h"

/* Embedded in the object, one for each list that it can be in. */
struct links {
    uint32_t next, prev;
};

struct list {
    uint32_t head, tail; /* POOL_NONE when empty */
};

#define LIST_NONE ((struct list){POOL_NONE, POOL_NONE})

/* `offset` is that of the struct links in the object. */
static inline struct links *list_links(const struct pool *pool, size_t offset, uint32_t index)
{
    return (struct links *)((uint8_t *)pool_at(pool, index) + offset);
}

static inline void list_push_back(struct list *list, const struct pool *pool, size_t offset,
                                  uint32_t index)
{
    struct links *links = list_links(pool, offset, index);

    links->next = POOL_NONE;
    links->prev = list->tail;
    if (list->tail == POOL_NONE)
        list->head = index;
    else
        list_links(pool, offset, list->tail)->next = index;
    list->tail = index;
}

static inline void list_remove(struct list *list, const struct pool *pool, size_t offset,
                               uint32_t index)
{
    struct links *links = list_links(pool, offset, index);

    if (links->prev == POOL_NONE)
        list->head = links->next;
    else
        list_links(pool, offset, links->prev)->next = links->next;
    if (links->next == POOL_NONE)
        list->tail = links->prev;
    else
        list_links(pool, offset, links->next)->prev = links->prev;
}

/* The same for a list that has only a head, newest first: four bytes in its owner. */
static inline void chain_push(uint32_t *head, const struct pool *pool, size_t offset,
                              uint32_t index)
{
    struct links *links = list_links(pool, offset, index);

    links->prev = POOL_NONE;
    links->next = *head;
    if (*head != POOL_NONE)
        list_links(pool, offset, *head)->prev = index;
    *head = index;
}

static inline void chain_remove(uint32_t *head, const struct pool *pool, size_t offset,
                                uint32_t index)
{
    struct links *links = list_links(pool, offset, index);

    if (links->prev == POOL_NONE)
        *head = links->next;
    else
        list_links(pool, offset, links->prev)->next = links->next;
    if (links->next != POOL_NONE)
        list_links(pool, offset, links->next)->prev = links->prev;
}

#endif
