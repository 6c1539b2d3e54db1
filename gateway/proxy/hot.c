#include "gateway/proxy/hot.h"

#include <errno.h>

#include "gateway/bytes.h"
#include "gateway/checksum.h"
#include "gateway/memory.h"

#define PLACES        8192 /* a power of two */
#define OPTIONS_BYTES 48   /* the longest options that are looked for */
#define TAIL_BYTES    156  /* the longest answer that is kept, less header and token */

/* Options that only say which resource is meant. */
#define NAMING                                                                     \
    (SLOT_BIT(SLOT_URI_HOST) | SLOT_BIT(SLOT_URI_PORT) | SLOT_BIT(SLOT_URI_PATH) | \
     SLOT_BIT(SLOT_URI_QUERY) | SLOT_BIT(SLOT_ACCEPT))

struct hot {
    uint64_t hash;
    uint64_t waiting;  /* hash of another one that was asked for since this one was, 0: none was */
    uint64_t stamp;    /* of the target's answer, 0: nothing is here */
    uint64_t until_us; /* its Max-Age is the same until then */
    uint64_t tail_sum; /* checksum_bytes() */
    uint32_t target;
    uint16_t local, place; /* address and listener */
    uint8_t options_length, tail_length, code;
    uint8_t options[OPTIONS_BYTES];
    uint8_t tail[TAIL_BYTES]; /* options and payload */
};
_Static_assert(sizeof(struct hot) == 256, "whole cache lines");

int hot_init(struct proxy *p)
{
    p->hot = memory_reserve(PLACES * sizeof(*p->hot));
    p->hot_tags = memory_reserve(PLACES * sizeof(*p->hot_tags));
    return p->hot && p->hot_tags ? 0 : -ENOMEM;
}

void hot_fini(struct proxy *p)
{
    memory_release(p->hot, PLACES * sizeof(*p->hot));
    memory_release(p->hot_tags, PLACES * sizeof(*p->hot_tags));
    p->hot = NULL;
    p->hot_tags = NULL;
}

static bool is_plain(const struct request *rq)
{
    const struct message *msg = rq->message;

    return msg->code == CODE_GET && !(msg->present & ~NAMING) && msg->payload_length == 0 &&
           msg->options_length <= OPTIONS_BYTES && !msg->unknown_critical &&
           !msg->unknown_elective_unsafe && !rq->multicast && !rq->resumed && !rq->original;
}

static uint64_t hash_of(const struct proxy *p, const struct request *rq)
{
    const struct message *msg = rq->message;
    uint32_t end = (uint32_t)rq->session->flow.local << 16 | rq->session->place;

    return hash_part(p->hash_seed, end, msg->options, msg->options_length);
}

/* Part of the hash of what is in a place: what is not there touches no more than this. */
static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static bool is_it(const struct hot *h, uint64_t hash, const struct request *rq)
{
    const struct message *msg = rq->message;

    return h->hash == hash && h->options_length == msg->options_length &&
           h->local == rq->session->flow.local && h->place == rq->session->place &&
           bytes_equal(h->options, msg->options, msg->options_length);
}

/* What does not fit beside a long token goes in blocks. */
static void serve_otherwise(struct proxy *p, const struct request *rq, uint32_t content)
{
    const struct client to = {.rq = rq};
    const struct wish wish = {.block2 = {.szx = BLOCK_SZX_MAX}};

    (void)deliver(p, &to, content, &wish, NULL);
}

bool hot_serve(struct proxy *p, struct request *rq)
{
    struct hot *h;
    uint64_t hash;

    if (!p->hot_used || !is_plain(rq))
        return false;
    hash = hash_of(p, rq);
    if (p->hot_tags[hash % PLACES] != tag_of(hash))
        return false;
    h = &p->hot[hash % PLACES];
    if (h->stamp == 0 || !is_it(h, hash, rq))
        return false;
    if (p->targets.stamps[h->target] != h->stamp || p->m->now >= h->until_us) {
        h->stamp = 0;
        return false;
    }
    h->waiting = 0;
    if (!request_admit(p->m, rq, true))
        return true;
    p->m->counters->cache_hits++;
    target_touch(&p->targets, h->target);
    if (!reply_whole(p->m, rq, h->code, &(struct tail){h->tail, h->tail_length, h->tail_sum}))
        serve_otherwise(p, rq, target_at(&p->targets, h->target)->content);
    return true;
}

/* Until the age of a content is a second more, or it is not fresh any more. */
static uint64_t same_until_us(const struct content *content, uint64_t now_us)
{
    return content->received_us + (content_age_s(content, now_us) + UINT64_C(1)) * 1000000;
}

static bool fill(struct proxy *p, struct hot *h, const struct request *rq, uint32_t target)
{
    const struct target *t = target_at(&p->targets, target);
    const struct content *content = content_at(&p->contents, t->content);
    struct part part = deliver_part(p, rq->session, t->content, BLOCK_SZX_MAX);
    struct encoder e = {.data = h->tail, .room = TAIL_BYTES};

    if (part.in_blocks || content->own)
        return false;
    deliver_encode(p, &e, &part);
    if (e.failed)
        return false;
    h->tail_length = (uint8_t)e.length;
    h->tail_sum = checksum_bytes(0, h->tail, e.length);
    h->code = content->code;
    h->target = target;
    h->stamp = p->targets.stamps[target];
    h->until_us = same_until_us(content, p->m->now);
    h->local = rq->session->flow.local;
    h->place = rq->session->place;
    h->options_length = (uint8_t)rq->message->options_length;
    bytes_copy(h->options, rq->message->options, rq->message->options_length);
    p->hot_used = true;
    return true;
}

void hot_note(struct proxy *p, const struct request *rq, uint32_t target)
{
    struct hot *h;
    uint64_t hash;

    if (!is_plain(rq))
        return;
    hash = hash_of(p, rq);
    h = &p->hot[hash % PLACES];
    if (h->hash != hash && h->waiting != hash) {
        h->waiting = hash;
        return;
    }
    h->hash = hash;
    h->waiting = 0;
    p->hot_tags[hash % PLACES] = tag_of(hash);
    if (!fill(p, h, rq, target))
        h->stamp = 0;
}
