/* A journal of unsafe requests that outlives the process: which message IDs POST and PATCH requests
 * had, and from whom, so that one that is repeated to the next process is not executed a second
 * time (RFC 7252 4.5). Deduplication itself is memory of one process.
 *
 * It is an array of entries, one for each entry of a worker's deduplication table: who remembers a
 * request notes it at the same index. An entry there keeps its place for its lifetime, so none of
 * the journal is written over before, and it is never full. A process that starts takes what is
 * young enough in the journal of the one before into a table of former requests, which is a part of
 * its own journal: a second kill at once loses nothing.
 *
 *     | struct journal_head | former requests: a hash table | worker 0 | worker 1 | ... |
 *
 * The memory is the caller's: a file in the process (control/journal_file.h), anything in tests.
 * A worker writes to its own entries, with a few stores; all the rest is read-only once it is made.
 * Where a process ends between two stores there is no entry, or all of it. No I/O, no clock. */
#ifndef COAPGW_GATEWAY_SESSION_JOURNAL_H
#define COAPGW_GATEWAY_SESSION_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/net.h"

/* Former requests are kept up to so many times what the workers remember, whatever the number of
 * restarts within a lifetime is; of more, the oldest are left out. */
#define JOURNAL_FORMER_TIMES 4

/* Time is kept in units of 2^14 us. */
#define JOURNAL_UNIT_SHIFT 14
#define JOURNAL_UNIT_US    (UINT64_C(1) << JOURNAL_UNIT_SHIFT)

enum journal_kind { JOURNAL_CON = 'C', JOURNAL_NON = 'N' };

struct journal_entry {
    uint64_t flow;  /* keyed hash of the flow */
    uint64_t stamp; /* 40 bits time, 16 bits message ID, 8 bits enum journal_kind; 0: no entry */
};

struct journal_head {
    uint64_t magic;
    uint64_t key;     /* of the hashes; secret */
    uint64_t workers; /* whose entries there are, */
    uint64_t entries; /* and how many each has */
    uint64_t former;  /* size of the table of former requests: 0, or a power of two */
    uint64_t check;   /* a hash of the above */
    int64_t skew_us;  /* what the wall clock was ahead of the process's time, lately */
    uint64_t zero;
};
_Static_assert(sizeof(struct journal_head) == 64, "entries begin on a cache line");

struct journal {
    struct journal_head *head;
    struct journal_entry *former, *noted; /* noted: of worker 0, then of worker 1 ... */
    uint64_t former_count;                /* requests in the table */
    uint64_t former_end_us;               /* from then on none of them counts any more */
    uint64_t con_us, non_us;              /* how long they do */
};

/* What a new journal is made of. Both calls below must be given the same. */
struct journal_setup {
    unsigned workers;
    uint32_t entries;          /* of each: limits.remembered */
    uint64_t con_us, non_us;   /* see messaging_lifetimes() */
    uint64_t now_us;           /* the workers' time */
    uint64_t key;              /* random; not used where there is an old journal */
    const struct journal *old; /* of the process before, which is not there any more; or NULL */
    uint64_t then_us; /* what that one's time would be now. A request that was later counts as one
                         of now: the clock may have been set back */
};

/* How much memory it takes, in bytes. */
size_t journal_bytes(const struct journal_setup *setup);

/* Makes a journal in zeroed memory of that size, aligned to 64 bytes, which the caller keeps while
 * the journal is in use. Returns how many former requests were left out because there were too
 * many. */
uint64_t journal_create(struct journal *j, void *memory, const struct journal_setup *setup);

/* Takes memory for a journal of an earlier process, to be the `old` of another one. 0; -EINVAL when
 * it is none, or not whole. */
int journal_view(struct journal *j, void *memory, size_t bytes);

/* The entries of a worker. */
struct journal_entry *journal_noted(const struct journal *j, unsigned worker);

/* What a flow is called in the journal. `local` is its own address: indices into the table of
 * addresses may be others after a restart. */
uint64_t journal_flow(const struct journal *j, const struct flow *flow,
                      const struct address *local);

/* Whether a process before this one has had the request; see journal_knows(). */
bool journal_find(const struct journal *j, uint64_t flow, uint16_t mid, uint64_t now_us);

/* The same, and nearly free where there is nothing to be known. */
static inline bool journal_knows(const struct journal *j, uint64_t flow, uint16_t mid,
                                 uint64_t now_us)
{
    return __builtin_expect(now_us < j->former_end_us, 0) && journal_find(j, flow, mid, now_us);
}

static inline uint64_t journal_stamp(uint64_t at_us, uint16_t mid, enum journal_kind kind)
{
    return at_us >> JOURNAL_UNIT_SHIFT << 24 | (uint64_t)mid << 8 | (uint64_t)kind;
}

/* Notes a request, before it is executed. In this order: an entry that is being written over is
 * gone before its parts change, and is there again when all of it is. */
static inline void journal_note(struct journal_entry *entry, uint64_t flow, uint64_t stamp)
{
    __atomic_store_n(&entry->stamp, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->flow, flow, __ATOMIC_RELEASE);
    __atomic_store_n(&entry->stamp, stamp, __ATOMIC_RELEASE);
}

/* Time of the process and time of the wall clock, which follow each other only roughly: to be said
 * often, so that the next process can tell how old entries are. Any one thread. */
static inline void journal_skew(struct journal *j, uint64_t now_us, uint64_t wall_us)
{
    __atomic_store_n(&j->head->skew_us, (int64_t)(wall_us - now_us), __ATOMIC_RELAXED);
}

#endif
