/* RFC 7959 2.2, 2.4 and 2.6, as a client. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/blockwise.h"

static struct block_world *world_of(const struct task *t)
{
    return block_world_of(t->doer->device.node.stage);
}

static struct stage *stage_of(const struct task *t)
{
    return t->doer->device.node.stage;
}

static void ask_for(struct task *t, bool has_block, struct block block)
{
    static const uint8_t question[BODY_LINE] = "what is it like";
    struct request *r = &t->caller.request;
    char path[32];

    snprintf(path, sizeof(path), "/d/%u", t->file->id);
    *r = request_make(t->method, t->type, path);
    r->has_block2 = has_block;
    r->block2 = block;
    if (t->method == CODE_FETCH) {
        r->payload = question;
        r->payload_length = sizeof(question);
    }
    task_ask(t);
}

/* Each task of a device has files of its own: what a device is fetching is kept for it, once. */
void download_begin(struct task *t)
{
    struct stage *s = stage_of(t);
    struct block_world *w = world_of(t);
    unsigned file = stage_below(s, w->file_count);

    t->file = &w->files[file % 2 == t->index ? file : (file + 1) % w->file_count];
    t->method = stage_below(s, 4) ? CODE_GET : CODE_FETCH;
    if (t->mischief != NONE && t->mischief != ABANDON && t->mischief != LATE)
        t->mischief = NONE;
    t->type = stage_below(s, 5) ? TYPE_CON : TYPE_NON;
    t->negotiate = stage_below(s, 2);
    t->etag.length = 0;
    ask_for(t, t->negotiate, (struct block){.szx = t->szx});
}

static void end_well(struct task *t)
{
    struct block_world *w = world_of(t);
    uint32_t version;

    if (!body_check(t->body, t->at, t->file->id, &version))
        stage_fail(stage_of(t), "a body of more than one representation of file %u", t->file->id);
    else if (t->at != file_length(w, t->file, version))
        stage_fail(stage_of(t), "%zu bytes of version %u of file %u", t->at, version, t->file->id);
    /* What no block can be of. */
    if (stage_below(stage_of(t), 6) == 0) {
        t->did = true;
        t->mischief = GAP;
        ask_for(t, true,
                (struct block){.number = 5000, .szx = stage_below(stage_of(t), 2) ? 4 : 7});
        return;
    }
    task_end(t);
}

static void on_pause_over(struct stage *s, void *who, uint64_t at)
{
    struct task *t = who;

    (void)s;
    if (!t->upload && t->at == at)
        ask_for(t, true, (struct block){.number = (uint32_t)(at / (16u << t->szx)), .szx = t->szx});
}

static void go_on(struct task *t)
{
    struct stage *s = stage_of(t);

    if (t->mischief == ABANDON && stage_below(s, 3) == 0) {
        task_end(t);
        return;
    }
    if (t->mischief == LATE && !t->did && stage_below(s, 3) == 0) {
        t->did = true;
        stage_at(s, s->now + 2 * IDLE_S * SECOND, on_pause_over, t, t->at);
        return;
    }
    if (stage_below(s, 10) == 0 && t->szx > 0)
        t->szx = (uint8_t)stage_below(s, t->szx);
    ask_for(t, true, (struct block){.number = (uint32_t)(t->at / (16u << t->szx)), .szx = t->szx});
}

/* False when another representation has come, or something is wrong. */
static bool check_block(struct task *t, const struct message *m, const struct block *b)
{
    struct stage *s = stage_of(t);
    const struct request *r = &t->caller.request;

    if (b->szx > world_of(t)->near_szx || (r->has_block2 && b->szx > r->block2.szx))
        stage_fail(s, "a block of SZX %u", b->szx);
    if (b->number * block_size(b) != t->at)
        stage_fail(s, "block %u of SZX %u at %zu bytes", b->number, b->szx, t->at);
    if (m->payload_length > block_size(b) || (b->more && m->payload_length != block_size(b)))
        stage_fail(s, "a block of %u bytes", m->payload_length);
    if (!message_has(m, SLOT_ETAG))
        stage_fail(s, "a block without an ETag");
    if (t->at == 0) {
        t->etag = message_etag(m);
        t->length = message_uint(m, SLOT_SIZE2, 0);
        if (!t->length)
            stage_fail(s, "the first block has no Size2");
    }
    if (message_is_etag(m, &t->etag))
        return !s->failed;
    /* A body is kept for who fetches it, as long as there is room and it does not take too long. */
    if (!t->did && !world_of(t)->tight)
        stage_fail(s, "the representation of file %u changed in the middle", t->file->id);
    return false;
}

static void take_block(struct task *t, const struct message *m)
{
    struct block b = {0};
    bool in_blocks = message_block(m, SLOT_BLOCK2, &b);

    if (in_blocks && !check_block(t, m, &b)) {
        task_end(t);
        return;
    }
    if (t->at + m->payload_length > sizeof(t->body)) {
        stage_fail(stage_of(t), "a body without an end");
        return;
    }
    memcpy(t->body + t->at, m->payload, m->payload_length);
    t->at += m->payload_length;
    if (in_blocks && b.more) {
        t->szx = b.szx;
        go_on(t);
        return;
    }
    if (in_blocks && t->at != t->length)
        stage_fail(stage_of(t), "Size2 said %zu of %zu bytes", t->length, t->at);
    end_well(t);
}

/* Too long, or it changes all the time. */
static bool may_be_broken(const struct task *t)
{
    return t->file->max_length > BODY_LIMIT || t->file->etag;
}

void download_answered(struct task *t, const struct message *m)
{
    bool probe = t->mischief == GAP && t->did;
    bool may_be_shorter = t->did || world_of(t)->tight; /* than it was when it began */
    bool broken = m && m->code == CODE_BAD_GATEWAY && may_be_broken(t);

    if (m && m->code == CODE_CONTENT && !probe) {
        take_block(t, m);
        return;
    }
    if (probe && m && m->code != CODE_BAD_REQUEST && !task_may_fail(t, m) && !broken)
        stage_fail(stage_of(t), "a block that cannot be got %u.%02u", code_class(m->code),
                   code_detail(m->code));
    if (!probe && !task_may_fail(t, m) && !broken &&
        !(m && m->code == CODE_BAD_REQUEST && may_be_shorter))
        stage_fail(stage_of(t), "a download of file %u got %u.%02u", t->file->id,
                   m ? code_class(m->code) : 0, m ? code_detail(m->code) : 0);
    task_end(t);
}
