#include <stdio.h>
#include <string.h>

#include "tests/sim/blockwise.h"

static struct stage *stage_of(const struct task *t)
{
    return t->doer->device.node.stage;
}

void task_ask(struct task *t)
{
    caller_new_token(&t->caller);
    caller_ask(&t->caller);
}

bool task_may_fail(const struct task *t, const struct message *m)
{
    struct stage *s = stage_of(t);

    if (!m || m->code == CODE_GATEWAY_TIMEOUT)
        return s->network.loss > 0;
    return m->code == CODE_SERVICE_UNAVAILABLE && block_world_of(s)->tight;
}

static void on_answered(struct caller *c, const struct message *m)
{
    struct task *t = c->owner;

    if (t->upload)
        upload_answered(t, m);
    else
        download_answered(t, m);
}

static enum mischief draw_mischief(struct stage *s)
{
    static const enum mischief mischiefs[] = {ABANDON, GAP, REPEAT, RESTART, LATE};

    return stage_below(s, 3) ? NONE : mischiefs[stage_below(s, 5)];
}

static void on_time_to_begin(struct stage *s, void *who, uint64_t what)
{
    struct task *t = who;
    struct block_world *w = block_world_of(s);

    (void)what;
    if (!t->doer->left || w->next_id == IDS_MAX)
        return;
    t->doer->left--;
    t->mischief = draw_mischief(s);
    t->did = false;
    t->fetching_answer = false;
    t->at = t->length = 0;
    t->szx = (uint8_t)stage_below(s, 7);
    t->type = TYPE_CON;
    t->upload = w->file_count == 0 || stage_below(s, 2);
    if (t->upload)
        upload_begin(t);
    else
        download_begin(t);
}

void task_end(struct task *t)
{
    struct stage *s = stage_of(t);

    stage_at(s, s->now + stage_below(s, t->doer->pause_us), on_time_to_begin, t, 0);
}

void doer_init(struct block_world *w, unsigned index)
{
    static const uint32_t pauses[] = {1000, 1000000, 10000000};
    struct stage *s = &w->fleet.stage;
    struct doer *d = &w->doers[index];

    device_init(&d->device, &w->fleet, d);
    d->left = 5 + stage_below(s, 15);
    d->pause_us = 1 + pauses[stage_below(s, 3)];
    for (unsigned i = 0; i < TASKS; i++) {
        struct task *t = &d->tasks[i];

        t->doer = d;
        t->index = i;
        caller_init(&t->caller, &d->device, t, on_answered);
        t->caller.patience_us = 700 * SECOND; /* more than the gateway has */
        stage_at(s, s->now + stage_below(s, d->pause_us), on_time_to_begin, t, 0);
    }
}
