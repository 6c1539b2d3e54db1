/* A server that takes and gives bodies in blocks, and knows Request-Tag. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/blockwise.h"

#define PARTS_MAX   512
#define ANSWERS_MAX 256

/* An upload that is not complete. */
struct part {
    bool used;
    struct flow flow;
    char path[32];
    uint8_t method;
    struct etag tag; /* a Request-Tag, rather */
    uint8_t body[BODY_MOST + 1024];
    size_t length;
    int64_t size1;
};

/* A long answer, to be fetched in blocks. */
struct long_answer {
    struct flow flow;
    char path[32];
    uint32_t id;
    uint8_t method;
};

struct block_server {
    struct block_world *world;
    uint8_t szx;
    bool says_size2;
    struct part parts[PARTS_MAX];
    struct long_answer answers[ANSWERS_MAX];
    unsigned answer_count;
};

static struct etag tag_of(const struct message *m)
{
    struct etag tag = {0};

    if (message_has(m, SLOT_REQUEST_TAG)) {
        tag.length = (uint8_t)m->first[SLOT_REQUEST_TAG].length;
        memcpy(tag.value, m->first[SLOT_REQUEST_TAG].value, tag.length);
    }
    return tag;
}

/* RFC 9175 3.3: what belongs to one body. NULL when there is none and `make` is false. */
static struct part *part_of(struct block_server *b, const struct flow *flow,
                            const struct message *m, bool make)
{
    struct etag tag = tag_of(m);
    struct part *unused = NULL;
    char path[32];

    message_path(m, path, sizeof(path));
    for (unsigned i = 0; i < PARTS_MAX; i++) {
        struct part *p = &b->parts[i];

        if (!p->used)
            unused = p;
        else if (p->method == m->code && strcmp(p->path, path) == 0 && flow_equal(&p->flow, flow) &&
                 memcmp(&p->tag, &tag, sizeof(tag)) == 0)
            return p;
    }
    if (!make)
        return NULL;
    if (!unused) {
        stage_fail(&b->world->fleet.stage, "too many uploads for one run");
        return NULL;
    }
    *unused = (struct part){.used = true, .flow = *flow, .method = m->code, .tag = tag};
    strcpy(unused->path, path);
    return unused;
}

static void respond(struct block_server *b, const struct flow *flow, const struct message *m,
                    const struct response *r)
{
    node_respond(&b->world->server, flow, m, r, SECOND);
}

static void respond_code(struct block_server *b, const struct flow *flow, const struct message *m,
                         uint8_t code)
{
    struct response r = response_make(code);

    respond(b, flow, m, &r);
}

/* ---- uploads ---- */

static void answer_upload(struct block_server *b, const struct flow *flow, const struct message *m,
                          uint32_t id, const struct block *block1)
{
    struct block_world *w = b->world;
    struct response r = response_make(CODE_CHANGED);
    struct block block = {.szx = b->szx}, asked;
    uint8_t body[BODY_MOST];
    size_t length = answer_length(w, id, m->code);

    body_write(body, length, id, ANSWER_VERSION);
    r.payload = body;
    r.payload_length = length;
    if (message_block(m, SLOT_BLOCK2, &asked) && asked.szx < block.szx)
        block = asked;
    if (block1) {
        r.has_block1 = true;
        r.block1 = *block1;
    }
    if (length > block_size(&block)) {
        struct long_answer *a = &b->answers[b->answer_count++ % ANSWERS_MAX];

        *a = (struct long_answer){.flow = *flow, .id = id, .method = m->code};
        message_path(m, a->path, sizeof(a->path));
        response_cut(&r, body, length, block);
        r.etag = body_etag(id, ANSWER_VERSION);
    }
    respond(b, flow, m, &r);
}

/* RFC 7959 3.3: the rest of an answer, asked for with the same method and no body. */
static void continue_answer(struct block_server *b, const struct flow *flow,
                            const struct message *m, const struct block *block2)
{
    struct response r = response_make(CODE_CHANGED);
    uint8_t body[BODY_MOST];
    char path[32];
    size_t length;

    message_path(m, path, sizeof(path));
    for (unsigned i = b->answer_count; i-- > 0 && i + ANSWERS_MAX >= b->answer_count;) {
        const struct long_answer *a = &b->answers[i % ANSWERS_MAX];

        if (a->method != m->code || strcmp(a->path, path) != 0 || !flow_equal(&a->flow, flow))
            continue;
        length = answer_length(b->world, a->id, a->method);
        body_write(body, length, a->id, ANSWER_VERSION);
        response_cut(&r, body, length, *block2);
        r.etag = body_etag(a->id, ANSWER_VERSION);
        respond(b, flow, m, &r);
        return;
    }
    respond_code(b, flow, m, CODE_REQUEST_ENTITY_INCOMPLETE);
}

/* The id stands in the first line; a shorter body is nothing but its id. */
static void execute(struct block_server *b, const struct flow *flow, const struct message *m,
                    const uint8_t *body, size_t length, const struct block *block1)
{
    struct block_world *w = b->world;
    struct stage *s = &w->fleet.stage;
    uint32_t id = IDS_MAX, version;

    if (length >= BODY_LINE)
        memcpy(&id, body, sizeof(id));
    if (id >= w->next_id || length != upload_length(w, id) ||
        !body_check(body, length, id, &version) || version != 0) {
        stage_fail(s, "a body of %zu bytes that nobody sent", length);
        return;
    }
    if (++w->executed[id] > 1)
        stage_fail(s, "upload %u was executed twice", id);
    if (w->incomplete[id])
        stage_fail(s, "upload %u is not complete and was executed", id);
    stage_note(s, "upload %u is complete", id);
    answer_upload(b, flow, m, id, block1);
}

static void take_block(struct block_server *b, const struct flow *flow, const struct message *m,
                       struct block block1)
{
    struct stage *s = &b->world->fleet.stage;
    struct part *p = part_of(b, flow, m, block1.number == 0);
    struct response r = response_make(CODE_CONTINUE);

    if (!message_has(m, SLOT_REQUEST_TAG))
        stage_fail(s, "a block of an upload without a Request-Tag");
    if (p && block1.number == 0) {
        p->length = 0;
        p->size1 = message_has(m, SLOT_SIZE1) ? (int64_t)message_uint(m, SLOT_SIZE1, 0) : -1;
    }
    if (!p || block1.number * block_size(&block1) != p->length) {
        stage_fail(s, "block %u of an upload out of order", block1.number);
        return;
    }
    if (m->payload_length > block_size(&block1) ||
        (block1.more && m->payload_length != block_size(&block1)))
        stage_fail(s, "a block of %u bytes", m->payload_length);
    if (p->length + m->payload_length > sizeof(p->body)) {
        stage_fail(s, "an upload beyond all limits");
        return;
    }
    memcpy(p->body + p->length, m->payload, m->payload_length);
    p->length += m->payload_length;
    r.has_block1 = true;
    r.block1 = block1;
    if (b->szx < block1.szx) /* from here on smaller ones, please (RFC 7959 2.3) */
        r.block1.szx = b->szx;
    if (block1.more) {
        respond(b, flow, m, &r);
        return;
    }
    if (p->size1 >= 0 && (size_t)p->size1 != p->length)
        stage_fail(s, "Size1 says %d of %zu bytes", (int)p->size1, p->length);
    p->used = false;
    execute(b, flow, m, p->body, p->length, &r.block1);
}

static void on_upload(struct block_server *b, const struct flow *flow, const struct message *m)
{
    struct block block1, block2;

    if (m->payload_length > 16u << b->world->far_szx)
        stage_fail(&b->world->fleet.stage, "a block of %u bytes is too large for the server",
                   m->payload_length);
    if (message_block(m, SLOT_BLOCK1, &block1))
        take_block(b, flow, m, block1);
    else if (message_block(m, SLOT_BLOCK2, &block2) && block2.number)
        continue_answer(b, flow, m, &block2);
    else
        execute(b, flow, m, m->payload, m->payload_length, NULL);
}

/* ---- downloads ---- */

static void on_download(struct block_server *b, const struct flow *flow, const struct message *m,
                        const struct file *f)
{
    struct response r = response_make(CODE_CONTENT);
    struct block block = {.szx = b->szx}, asked;
    struct etag etag = body_etag(f->id, f->version);
    uint8_t body[BODY_MOST];
    size_t length = file_length(b->world, f, f->version);

    if (message_block(m, SLOT_BLOCK2, &asked)) {
        if (asked.szx > b->world->far_szx)
            stage_fail(&b->world->fleet.stage, "blocks of SZX %u are asked of the server",
                       asked.szx);
        block.szx = asked.szx < b->szx ? asked.szx : b->szx;
        block.number = asked.number << (asked.szx - block.szx);
    }
    if (block.number && block.number * block_size(&block) >= length) {
        respond_code(b, flow, m, CODE_BAD_REQUEST);
        return;
    }
    body_write(body, length, f->id, f->version);
    r.payload = body;
    r.payload_length = length;
    r.max_age = 5;
    if (f->etag)
        r.etag = etag;
    if (f->etag && message_is_etag(m, &etag) && block.number == 0) {
        r.code = CODE_VALID;
        r.payload_length = 0;
    } else if (length > block_size(&block) || block.number) {
        response_cut(&r, body, length, block);
        if (b->says_size2)
            r.size2 = (int64_t)length;
    }
    respond(b, flow, m, &r);
}

static void on_request(struct node *n, const struct flow *flow, const struct message *m)
{
    struct block_server *b = n->owner;
    struct block_world *w = b->world;
    char path[32];

    message_path(m, path, sizeof(path));
    if (!code_is_safe(m->code)) {
        on_upload(b, flow, m);
        return;
    }
    for (unsigned i = 0; i < w->file_count; i++)
        if (strncmp(path, "/d/", 3) == 0 && (unsigned)atoi(path + 3) == i) {
            on_download(b, flow, m, &w->files[i]);
            return;
        }
    stage_fail(n->stage, "a request for nothing that there is");
}

static const struct node_handler handler = {.request = on_request};

struct block_server *block_server_create(struct block_world *w)
{
    struct block_server *b = calloc(1, sizeof(*b));

    b->world = w;
    b->szx = (uint8_t)stage_below(&w->fleet.stage, 7);
    b->says_size2 = stage_below(&w->fleet.stage, 2);
    node_init(&w->server, &w->fleet.stage, &handler, b);
    fleet_add_server(&w->fleet, &w->server);
    return b;
}

void block_server_destroy(struct block_server *b)
{
    free(b);
}
