/* What a worker must know of its servers from what has passed its edge, and what it must do
 * accordingly. Only where nothing is lost: otherwise a server that is up may seem to be down. */
#include <stdlib.h>
#include <string.h>

#include "gateway/hash.h"
#include "tests/sim/balance.h"

#define SENT_MAX 256 /* CONs of one worker to one server that may be outstanding */
#define MESSAGES 1048576
#define SLACK_US 10000
#define SPAN_US  (11 * SECOND) /* a CON that fails, from the first to the end */

struct sent {
    uint16_t mid, port; /* of ours */
    unsigned sends;     /* 0: settled */
    uint64_t last_at, gap;
};

/* A server as a worker sees it. */
struct view {
    struct sent sent[SENT_MAX];
    unsigned sent_count;
    uint64_t down_at; /* known to be down since; 0: it is not */
    uint64_t up_at;   /* back since; 0: not lately */
    uint64_t pinged_at, heard_at;
    uint16_t ping_mid;
    bool ping_open;     /* not answered yet, not even by an error */
    unsigned passed_by; /* requests to others since it is back */
};

struct balance_judge {
    struct balance_world *world;
    struct view views[WORKERS_MAX][SERVERS_MAX];
    uint8_t seen[MESSAGES / 8]; /* by a hash of flow and message ID */
};

struct balance_judge *balance_judge_create(struct balance_world *w)
{
    struct balance_judge *j = calloc(1, sizeof(*j));

    j->world = w;
    return j;
}

void balance_judge_destroy(struct balance_judge *j)
{
    free(j);
}

static struct stage *stage_of(const struct balance_judge *j)
{
    return &j->world->fleet.stage;
}

static struct view *view_of(struct balance_judge *j, const struct passing *p)
{
    return &j->views[p->worker][fleet_server_of(p->flow)];
}

static void goes_down(struct view *v, uint64_t at)
{
    if (!v->down_at)
        v->down_at = v->pinged_at = at;
    v->up_at = 0;
    v->sent_count = 0; /* the others may be given up, too */
}

/* A CON that was repeated to the end, and not acknowledged, when nothing else was heard since. */
static void settle(const struct balance_judge *j, struct view *v)
{
    for (unsigned i = 0; i < v->sent_count; i++) {
        const struct sent *sent = &v->sent[i];
        uint64_t until = sent->last_at + 2 * sent->gap + SLACK_US;

        if (sent->sends > RETRANSMITS && stage_of(j)->now >= until && v->heard_at < sent->last_at) {
            goes_down(v, until);
            return;
        }
    }
}

static struct sent *find(struct view *v, const struct passing *p)
{
    for (unsigned i = 0; i < v->sent_count; i++)
        if (v->sent[i].mid == p->m->mid && v->sent[i].port == p->flow->local_port)
            return &v->sent[i];
    return NULL;
}

/* ---- what the gateway sends ---- */

static unsigned known_up(const struct balance_judge *j, unsigned worker)
{
    unsigned count = 0;

    for (unsigned i = 0; i < j->world->server_count; i++)
        count += !j->views[worker][i].down_at;
    return count;
}

/* A server that is back gets its share again. */
static void count_passes(struct balance_judge *j, const struct passing *p)
{
    unsigned chosen = (unsigned)fleet_server_of(p->flow);
    unsigned enough = j->world->round_robin ? 3 * j->world->server_count : 120;

    for (unsigned i = 0; i < j->world->server_count; i++) {
        struct view *v = &j->views[p->worker][i];

        if (i == chosen)
            v->passed_by = 0;
        else if (v->up_at && !j->world->servers[i].down && ++v->passed_by > enough)
            stage_fail(stage_of(j), "server %u is back, and gets nothing", i);
    }
}

/* A repetition goes to where the first went, whatever is known by then. */
static bool is_repeated(struct balance_judge *j, const struct passing *p)
{
    uint64_t at = hash_bytes(p->flow, sizeof(*p->flow), p->m->mid) % MESSAGES;
    bool was = j->seen[at / 8] >> at % 8 & 1;

    j->seen[at / 8] |= (uint8_t)(1 << at % 8);
    return was;
}

static void on_request(struct balance_judge *j, const struct passing *p, const struct view *v)
{
    if (v->down_at && known_up(j, p->worker))
        stage_fail(stage_of(j), "a request to server %d, which is known to be down",
                   fleet_server_of(p->flow));
    count_passes(j, p);
}

static void emitted(struct fleet *f, const struct passing *p)
{
    struct balance_judge *j = ((struct balance_world *)f)->judge;
    struct view *v;
    struct sent *sent;

    if (!p->upstream || !j->world->strict || p->m->type != TYPE_CON)
        return;
    for (unsigned i = 0; i < j->world->server_count; i++)
        settle(j, &j->views[p->worker][i]);
    v = view_of(j, p);
    sent = find(v, p);
    if (p->m->code == CODE_EMPTY) {
        v->pinged_at = stage_of(j)->now;
        v->ping_mid = p->m->mid;
        v->ping_open = true;
    }
    if (sent) {
        sent->gap = stage_of(j)->now - sent->last_at;
        sent->last_at = stage_of(j)->now;
        sent->sends++;
        return;
    }
    if (!is_repeated(j, p) && p->m->code != CODE_EMPTY)
        on_request(j, p, v);
    if (v->down_at)
        return; /* what comes of it changes nothing */
    if (v->sent_count == SENT_MAX) {
        stage_fail(stage_of(j), "too many messages outstanding for one run");
        return;
    }
    v->sent[v->sent_count++] =
        (struct sent){p->m->mid, p->flow->local_port, 1, stage_of(j)->now, 0};
}

/* ---- what it hears ---- */

static void delivered(struct fleet *f, const struct passing *p)
{
    struct balance_judge *j = ((struct balance_world *)f)->judge;
    struct view *v;
    struct sent *sent;
    bool pong;

    if (!p->upstream || !j->world->strict)
        return;
    v = view_of(j, p);
    settle(j, v);
    sent = p->m ? find(v, p) : NULL;
    pong = v->ping_open && p->m && p->m->mid == v->ping_mid;
    v->ping_open &= !pong;
    if (p->icmp) {
        if (sent)
            goes_down(v, stage_of(j)->now);
        return;
    }
    if (sent)
        *sent = v->sent[--v->sent_count];
    if (v->down_at) { /* anything else may be of no use any more */
        v->up_at = pong ? stage_of(j)->now : 0;
        v->passed_by = 0;
    }
    v->down_at = 0;
    v->heard_at = stage_of(j)->now;
}

/* ---- what it should have sent ---- */

void balance_judge_look(struct balance_judge *j)
{
    uint64_t now = stage_of(j)->now, keepalive = j->world->keepalive_us;

    for (unsigned i = 0; i < stage_of(j)->worker_count; i++)
        for (unsigned k = 0; k < j->world->server_count; k++) {
            struct view *v = &j->views[i][k];

            settle(j, v);
            if (v->down_at && now > v->pinged_at + REVIVE_US + SPAN_US)
                stage_fail(stage_of(j), "worker %u does not ping server %u, which is down", i, k);
            if (keepalive && v->heard_at && !v->down_at && v->pinged_at < v->heard_at &&
                now > v->heard_at + keepalive + SPAN_US)
                stage_fail(stage_of(j), "worker %u does not ping server %u, which is silent", i, k);
        }
}

const struct judge balance_judging = {emitted, delivered};
