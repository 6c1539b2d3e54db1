#include "gateway/session/journal.h"

#include <errno.h>

#include "gateway/hash.h"

/* Of the layout: another layout, another number. */
#define MAGIC UINT64_C(0x31306a7767706163)

/* Ages are sorted roughly, to find the oldest where there are too many. */
#define AGES 256

static uint64_t check_of(const struct journal_head *head)
{
    return hash_bytes(head, offsetof(struct journal_head, check), MAGIC);
}

static uint64_t entries_of(const struct journal_head *head)
{
    return head->former + head->workers * head->entries;
}

/* ---- entries ---- */

static uint64_t stamp_us(uint64_t stamp)
{
    return stamp >> 24 << JOURNAL_UNIT_SHIFT;
}

static uint16_t stamp_mid(uint64_t stamp)
{
    return (uint16_t)(stamp >> 8);
}

/* How long an entry counts; 0: it is none. What was rounded off its time is added. */
static uint64_t lifetime_us(uint64_t con_us, uint64_t non_us, uint64_t stamp)
{
    switch ((enum journal_kind)(stamp & 0xff)) {
    case JOURNAL_CON:
        return con_us + JOURNAL_UNIT_US;
    case JOURNAL_NON:
        return non_us + JOURNAL_UNIT_US;
    }
    return 0;
}

/* The age of an old entry in the class of ages that it belongs to, AGES when it counts no more. */
static unsigned age_of(const struct journal_setup *setup, uint64_t stamp, uint64_t *age_us)
{
    uint64_t lifetime = lifetime_us(setup->con_us, setup->non_us, stamp), at = stamp_us(stamp);
    uint64_t longest = (setup->con_us > setup->non_us ? setup->con_us : setup->non_us);

    *age_us = setup->then_us > at ? setup->then_us - at : 0;
    if (*age_us >= lifetime)
        return AGES;
    return (unsigned)(*age_us * AGES / (longest + JOURNAL_UNIT_US));
}

/* ---- former requests ---- */

/* What of the old journal is taken over. */
struct choice {
    unsigned ages; /* those of the first so many classes */
    uint64_t count, left_out;
};

static struct choice choose(const struct journal_setup *setup)
{
    uint64_t most = (uint64_t)JOURNAL_FORMER_TIMES * setup->workers * setup->entries;
    uint64_t of_age[AGES + 1] = {0}, total, age_us;
    struct choice choice = {.ages = 0};

    if (!setup->old)
        return choice;
    total = entries_of(setup->old->head);
    for (uint64_t i = 0; i < total; i++)
        of_age[age_of(setup, setup->old->former[i].stamp, &age_us)]++;
    for (; choice.ages < AGES && choice.count + of_age[choice.ages] <= most; choice.ages++)
        choice.count += of_age[choice.ages];
    for (unsigned i = choice.ages; i < AGES; i++)
        choice.left_out += of_age[i];
    return choice;
}

/* At most half full, so that there is an end to every search. */
static uint64_t table_size(uint64_t count)
{
    uint64_t size = count ? 2 : 0;

    while (size < 2 * count)
        size *= 2;
    return size;
}

/* Its place in the table, or the free one where it belongs. */
static struct journal_entry *place_of(const struct journal *j, uint64_t flow, uint16_t mid)
{
    uint64_t mask = j->head->former - 1, i = hash_mix(flow, mid);

    for (;; i++) {
        struct journal_entry *entry = &j->former[i & mask];

        if (!entry->stamp || (entry->flow == flow && stamp_mid(entry->stamp) == mid))
            return entry;
    }
}

/* A message ID that was used twice, by a client that does not keep to its lifetime, or whose own
 * lifetime was over: the later one counts. */
static void add(struct journal *j, uint64_t flow, uint64_t stamp)
{
    struct journal_entry *entry = place_of(j, flow, stamp_mid(stamp));
    uint64_t end_us = stamp_us(stamp) + lifetime_us(j->con_us, j->non_us, stamp);

    j->former_count += !entry->stamp;
    if (stamp > entry->stamp)
        *entry = (struct journal_entry){flow, stamp};
    if (end_us > j->former_end_us)
        j->former_end_us = end_us;
}

static void take_over(struct journal *j, const struct journal_setup *setup, unsigned ages)
{
    uint64_t total = setup->old ? entries_of(setup->old->head) : 0, age_us;

    for (uint64_t i = 0; i < total; i++) {
        const struct journal_entry *entry = &setup->old->former[i];
        uint64_t at_us;

        if (age_of(setup, entry->stamp, &age_us) >= ages)
            continue;
        at_us = setup->now_us > age_us ? setup->now_us - age_us : 0;
        /* Rounded up, so that it does not age by being taken over. */
        add(j, entry->flow,
            journal_stamp(at_us + JOURNAL_UNIT_US - 1, stamp_mid(entry->stamp),
                          (enum journal_kind)(entry->stamp & 0xff)));
    }
}

bool journal_find(const struct journal *j, uint64_t flow, uint16_t mid, uint64_t now_us)
{
    const struct journal_entry *entry = place_of(j, flow, mid);

    return entry->stamp &&
           now_us < stamp_us(entry->stamp) + lifetime_us(j->con_us, j->non_us, entry->stamp);
}

/* ---- the whole ---- */

size_t journal_bytes(const struct journal_setup *setup)
{
    uint64_t entries = table_size(choose(setup).count) + (uint64_t)setup->workers * setup->entries;

    return sizeof(struct journal_head) + entries * sizeof(struct journal_entry);
}

static void place(struct journal *j, void *memory)
{
    *j = (struct journal){.head = memory};
    j->former = (struct journal_entry *)(j->head + 1);
    j->noted = j->former + j->head->former;
}

uint64_t journal_create(struct journal *j, void *memory, const struct journal_setup *setup)
{
    struct choice choice = choose(setup);
    struct journal_head *head = memory;

    *head = (struct journal_head){.magic = MAGIC,
                                  .key = setup->old ? setup->old->head->key : setup->key,
                                  .workers = setup->workers,
                                  .entries = setup->entries,
                                  .former = table_size(choice.count)};
    head->check = check_of(head);
    place(j, memory);
    j->con_us = setup->con_us;
    j->non_us = setup->non_us;
    take_over(j, setup, choice.ages);
    return choice.left_out;
}

int journal_view(struct journal *j, void *memory, size_t bytes)
{
    const struct journal_head *head = memory;
    uint64_t most = bytes / sizeof(struct journal_entry);

    if (bytes < sizeof(*head) || head->magic != MAGIC || head->check != check_of(head))
        return -EINVAL;
    if (head->former > most || head->workers > most || head->entries > most ||
        (head->workers && head->entries > most / head->workers) ||
        bytes != sizeof(*head) + entries_of(head) * sizeof(struct journal_entry))
        return -EINVAL;
    place(j, memory);
    return 0;
}

struct journal_entry *journal_noted(const struct journal *j, unsigned worker)
{
    return j->noted + worker * j->head->entries;
}

uint64_t journal_flow(const struct journal *j, const struct flow *flow, const struct address *local)
{
    struct flow named = *flow;

    named.local = 0;
    return hash_bytes(&named, sizeof(named), hash_bytes(local, sizeof(*local), j->head->key));
}
