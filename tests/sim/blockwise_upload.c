/* RFC 7959 2.3 and 2.5, RFC 9175 3, as a client. */
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

static size_t size_of(const struct task *t)
{
    return 16u << t->szx;
}

/* The block at t->at. */
static void send_block(struct task *t)
{
    struct request *r = &t->caller.request;
    size_t left = t->length - t->at;
    char path[32];

    strcpy(path, r->path);
    *r = request_make(t->method, TYPE_CON, path);
    r->payload = t->body + t->at;
    r->payload_length = left < size_of(t) ? left : size_of(t);
    r->tag_length = t->tag_length;
    memcpy(r->tag, t->tag, sizeof(t->tag));
    if (t->length > size_of(t) || t->negotiate) {
        r->has_block1 = true;
        r->block1 = (struct block){(uint32_t)(t->at / size_of(t)), t->szx, left > size_of(t)};
    }
    if (t->at == 0 && t->negotiate)
        r->size1 = (int64_t)t->length;
    task_ask(t);
}

/* Several devices use the same paths at a time. The second task of a device either has a tag, or
 * paths of its own: without a tag there must be one body at a time (RFC 7959 2.5). */
void upload_begin(struct task *t)
{
    static const uint8_t methods[] = {CODE_PUT, CODE_POST, CODE_PATCH};
    struct stage *s = stage_of(t);
    struct block_world *w = world_of(t);
    uint64_t tag = random_u64(&s->random);
    unsigned path = stage_below(s, 3);

    t->id = w->next_id++;
    t->length = upload_length(w, t->id);
    body_write(t->body, t->length, t->id, 0);
    t->method = methods[stage_below(s, 3)];
    t->negotiate = stage_below(s, 2);
    t->tag_length = stage_below(s, 2) ? (uint8_t)(4 + tag % 5) : 0;
    memcpy(t->tag, &tag, sizeof(tag));
    if (!t->tag_length)
        path = 10 + t->index;
    if (w->long_answers) /* no two bodies at a time, so that the rest of an answer is one's own */
        path = 20 + 2 * t->doer->device.flow.peer_port + t->index;
    snprintf(t->caller.request.path, sizeof(t->caller.request.path), "/u/%u", path);
    stage_note(s, "upload %u of %zu bytes begins: port %u, SZX %u, mischief %u", t->id, t->length,
               t->doer->device.flow.peer_port, t->szx, t->mischief);
    send_block(t);
}

/* ---- the answer, when it is long ---- */

static void end_well(struct task *t)
{
    struct block_world *w = world_of(t);
    uint32_t version;

    if (w->executed[t->id] != 1)
        stage_fail(stage_of(t), "upload %u has succeeded and was executed %u times", t->id,
                   w->executed[t->id]);
    if (t->at != answer_length(w, t->id, t->method) ||
        !body_check(t->body, t->at, t->id, &version) || version != ANSWER_VERSION)
        stage_fail(stage_of(t), "upload %u has got another's answer", t->id);
    task_end(t);
}

static void take_answer(struct task *t, const struct message *m)
{
    struct request *r = &t->caller.request;
    struct block b = {0};
    char path[32];

    if (!t->fetching_answer)
        t->at = 0;
    if (message_block(m, SLOT_BLOCK2, &b) && b.number * block_size(&b) != t->at)
        stage_fail(stage_of(t), "block %u of an answer at %zu bytes", b.number, t->at);
    if (t->at + m->payload_length > sizeof(t->body)) {
        stage_fail(stage_of(t), "an answer without an end");
        return;
    }
    memcpy(t->body + t->at, m->payload, m->payload_length);
    t->at += m->payload_length;
    if (!b.more) {
        end_well(t);
        return;
    }
    t->fetching_answer = true;
    strcpy(path, r->path);
    *r = request_make(t->method, TYPE_CON, path);
    r->tag_length = t->tag_length;
    memcpy(r->tag, t->tag, sizeof(t->tag));
    r->has_block2 = true;
    r->block2 = (struct block){b.number + 1, b.szx, false};
    task_ask(t);
}

/* ---- block by block ---- */

static void on_pause_over(struct stage *s, void *who, uint64_t id)
{
    struct task *t = who;

    (void)s;
    if (t->upload && t->id == id)
        send_block(t);
}

/* True when that is the end of it. */
static bool misbehave(struct task *t)
{
    struct stage *s = stage_of(t);

    if (t->did || t->mischief == NONE || t->at == 0 || stage_below(s, 2))
        return false;
    t->did = t->mischief != GAP || t->at + size_of(t) < t->length;
    world_of(t)->incomplete[t->id] =
        t->did && (t->mischief == ABANDON || t->mischief == GAP || t->mischief == LATE);
    switch (t->mischief) {
    case ABANDON:
        task_end(t);
        return true;
    case GAP:
        t->at += t->did ? size_of(t) : 0;
        break;
    case REPEAT:
        t->at -= size_of(t);
        break;
    case RESTART:
        t->at = 0;
        break;
    case LATE:
        stage_at(s, s->now + 2 * IDLE_S * SECOND, on_pause_over, t, t->id);
        return true;
    case NONE:
        break;
    }
    return false;
}

static void go_on(struct task *t, const struct message *m)
{
    const struct block *sent = &t->caller.request.block1;
    struct stage *s = stage_of(t);
    struct block b = {0};

    if (!t->caller.request.has_block1 || !sent->more || !message_block(m, SLOT_BLOCK1, &b) ||
        b.number != sent->number || b.szx > sent->szx) {
        stage_fail(s, "2.31 to block %u of upload %u", sent->number, t->id);
        return;
    }
    t->at += t->caller.request.payload_length;
    t->szx = b.szx;
    if (t->szx > world_of(t)->near_szx)
        stage_fail(s, "blocks of SZX %u are more than the gateway takes", t->szx);
    if (stage_below(s, 10) == 0 && t->szx > 0 && t->length < 2000)
        t->szx = (uint8_t)stage_below(s, t->szx);
    if (!misbehave(t))
        send_block(t);
}

static void end_badly(struct task *t, const struct message *m)
{
    struct block_world *w = world_of(t);
    bool too_long = t->length > BODY_LIMIT, ok = task_may_fail(t, m);

    if (m && m->code == CODE_REQUEST_ENTITY_TOO_LARGE)
        ok = too_long && message_uint(m, SLOT_SIZE1, 0) == BODY_LIMIT;
    if (m && m->code == CODE_REQUEST_ENTITY_INCOMPLETE)
        ok = t->fetching_answer ? w->tight : t->did && t->mischief != RESTART;
    if (!ok)
        stage_fail(stage_of(t), "upload %u of %zu bytes got %u.%02u", t->id, t->length,
                   m ? code_class(m->code) : 0, m ? code_detail(m->code) : 0);
    if (m && code_class(m->code) == 4 && w->executed[t->id] && !t->fetching_answer && !t->did)
        stage_fail(stage_of(t), "upload %u was refused and executed", t->id);
    task_end(t);
}

void upload_answered(struct task *t, const struct message *m)
{
    struct block_world *w = world_of(t);

    if (m && m->code == CODE_CONTINUE) {
        go_on(t, m);
    } else if (m && m->code == CODE_CHANGED) {
        if (t->length > BODY_LIMIT || w->incomplete[t->id])
            stage_fail(stage_of(t), "upload %u should not have succeeded", t->id);
        else
            take_answer(t, m);
    } else {
        end_badly(t, m);
    }
}
