/* A pass from its beginning to its end: as one, or as the fetch that it becomes. */
#include "gateway/proxy/pass.h"

#include <errno.h>
#include <stddef.h>

#include "gateway/memory.h"
#include "gateway/proxy/fetch.h"

/* Heads of the table by URI. */
#define HEADS 2048u

/* Of one turn: those that have been under way for long. */
#define UNFOLD_AT_ONCE 64

/* Shorter than this a pass is not worth its name. */
#define LIFE_LEAST_US 2000

/* Of Hop-Limit, and of what is before the payload. */
#define ADDED_BYTES 4

/* What the client of a pass wants besides its answer: nothing. */
static const struct wish plain_wish = {.block2 = {.szx = BLOCK_SZX_MAX}};

/* ---- all of them ---- */

static uint32_t *head_of(const struct proxy *p, uint64_t uri)
{
    return &p->passes.heads[uri % HEADS];
}

/* Oldest first. */
static void by_age_push(struct passes *all, struct pass *pass, uint32_t index)
{
    pass->by_age = (struct links){.next = POOL_NONE, .prev = all->age.tail};
    if (all->age.tail == POOL_NONE)
        all->age.head = index;
    else
        all->at[all->age.tail].by_age.next = index;
    all->age.tail = index;
}

static void by_age_remove(struct passes *all, const struct pass *pass)
{
    if (pass->by_age.prev == POOL_NONE)
        all->age.head = pass->by_age.next;
    else
        all->at[pass->by_age.prev].by_age.next = pass->by_age.next;
    if (pass->by_age.next == POOL_NONE)
        all->age.tail = pass->by_age.prev;
    else
        all->at[pass->by_age.next].by_age.prev = pass->by_age.prev;
}

/* Nobody finds it by its URI any more. */
static void disclaim(struct proxy *p, struct pass *pass, uint32_t index)
{
    uint32_t *link = head_of(p, pass->uri);

    if (!pass->shared)
        return;
    while (*link != index + 1)
        link = &pass_at(p, *link - 1)->by_uri;
    *link = pass->by_uri;
    pass->shared = false;
}

static void enter(struct proxy *p, struct pass *pass, uint32_t index)
{
    uint32_t *head = head_of(p, pass->uri);

    pass->open = true;
    pass->shared = code_is_safe(pass->bytes[1]);
    if (pass->shared) {
        pass->by_uri = *head;
        *head = index + 1;
    }
    by_age_push(&p->passes, pass, index);
    p->passes.count++;
    p->upstreams.servers[pass->server].pass_count++;
}

static void leave(struct proxy *p, struct pass *pass, uint32_t index)
{
    disclaim(p, pass, index);
    by_age_remove(&p->passes, pass);
    pass->open = false;
    p->passes.count--;
    p->upstreams.servers[pass->server].pass_count--;
}

static bool have(const struct proxy *p, uint32_t index)
{
    return index < p->fetches.capacity && pass_at(p, index)->open;
}

/* ---- on the way to the server ---- */

/* How long the message to the server is at most. */
static size_t length_of(const struct key *key, const struct message *msg)
{
    return MESSAGE_HEADER_BYTES + TOKEN_BYTES + key->options_length + ADDED_BYTES +
           msg->payload_length;
}

/* True for a request that wants nothing but an answer, and has no more to say than it says here. A
 * FETCH has its payload in its key. */
static bool is_plain(const struct proxy *p, const struct asked *a)
{
    const struct wish *wish = &a->wish;
    const struct key *key = &p->key;

    return a->rq->message->code != CODE_FETCH && a->place->route != ROUTE_NONE &&
           !(a->observes | a->cancels | a->rq->resumed | wish->has_block1 | wish->has_block2) &&
           (wish->etag_count | a->tags | wish->body) == 0 && key->last_option <= OPTION_HOP_LIMIT &&
           length_of(key, a->rq->message) <= PASS_BYTES;
}

/* True when a CON can go to the server at once, and nothing is known of it but that it is there. */
static bool is_open(const struct proxy *p, const struct server *server)
{
    const struct config_upstream *upstream = server->upstream;
    const struct gate *gate = &server->gate.gate;
    uint32_t port = server->sessions[server->current];
    const struct session *s = port ? session_at(&p->m->sessions, port - 1) : NULL;

    /* Its messages may still count for where it was before, or have parameters of their own. */
    if (!s || s->gate.shared != &server->gate || s->tuned)
        return false;
    return upstream->reliable && upstream->block_szx == BLOCK_SZX_MAX &&
           server->place.transport == TRANSPORT_UDP && !server->gate.held && !server->down &&
           gate->head == POOL_NONE && gate->outstanding < upstream->transmission.nstart &&
           p->upstreams.outstanding[server->group] < upstream->outstanding;
}

static uint16_t compose(struct proxy *p, struct pass *pass, const struct message *msg,
                        const uint8_t token[TOKEN_BYTES])
{
    struct encoder e;

    encoder_begin(&e, pass->bytes, sizeof(pass->bytes), TYPE_CON, msg->code, pass->mid, token,
                  TOKEN_BYTES);
    encoder_raw(&e, key_options(&p->key), p->key.options_length);
    e.last_option = p->key.last_option;
    if (pass->hop_limit)
        encoder_option(&e, OPTION_HOP_LIMIT, &pass->hop_limit, 1);
    if (msg->payload_length)
        encoder_payload(&e, msg->payload, msg->payload_length);
    return (uint16_t)encoder_end(&e);
}

static void send(struct proxy *p, const struct session *s, const struct pass *pass)
{
    struct messaging *m = p->m;
    struct outgoing out;

    if (!m->io.alloc(m->io.context, &s->flow, &out)) {
        m->counters->drop_reply_buffer++; /* as if it was lost on the way: it is sent again */
        return;
    }
    bytes_copy(out.data, pass->bytes, pass->length);
    messaging_send(m, &s->flow, &out, pass->length);
}

static void fill(struct proxy *p, struct pass *pass, const struct asked *a, uint32_t index)
{
    uint32_t token[2] = {index ^ p->token_mask, (uint32_t)random_u64(&p->m->random) | 1};
    uint8_t bytes[TOKEN_BYTES];

    p->fetch_nonces[index] = token[1];
    memcpy(bytes, token, sizeof(bytes));
    pass->hash = p->key.hash;
    pass->uri = p->key.uri;
    pass->begun_us = p->m->now;
    pass->route = a->place->route;
    pass->options_length = p->key.options_length;
    pass->last_option = p->key.last_option;
    pass->hop_limit = a->hop_limit;
    pass->payload_length = a->rq->message->payload_length;
    pass->length = compose(p, pass, a->rq->message, bytes);
}

/* True when there is a place for it everywhere. */
static bool has_room(const struct proxy *p)
{
    return p->passes.count < p->passes.max && pool_used(&p->fetches) < p->fetches.capacity &&
           pool_used(&p->m->outbound) < p->m->outbound.capacity;
}

/* There is room. False when there is none for the client's token. */
static bool take_places(struct proxy *p, const struct asked *a, struct session *s, uint16_t mid)
{
    struct exchange *x = exchange_take(p->m, a->rq);
    struct pass *pass;
    uint32_t index;

    if (!x)
        return false;
    index = fetch_index(p, pool_get(&p->fetches));
    pass = pass_at(p, index);
    pass->outbound = outbound_reserve(p->m, s, mid, index);
    pass->exchange = pool_index(&p->m->exchanges, x);
    pass->session = session_index(&p->m->sessions, s);
    pass->server = s->side.upstream.server;
    pass->mid = mid;
    fill(p, pass, a, index);
    enter(p, pass, index);
    s->side.upstream.users++;
    send(p, s, pass);
    return true;
}

static void arm(struct proxy *p, uint64_t at_us)
{
    wheel_arm(&p->m->wheel, &p->passes.timer, at_us);
}

/* The server that it would go to as a fetch; SERVER_NONE when it has to go as one. */
static uint32_t choose(struct proxy *p, const struct place *place)
{
    struct upstreams *u = &p->upstreams;
    unsigned *turn = &u->turn[u->servers[place->first].group], before = *turn;
    uint32_t server = upstreams_choose(u, place->first, place->count, p->key.uri, SERVER_NONE);

    if (is_open(p, &u->servers[server]))
        return server;
    *turn = before;
    return SERVER_NONE;
}

bool pass_start(struct proxy *p, const struct asked *a)
{
    struct session *s;
    uint32_t server;
    uint16_t mid;

    if (!has_room(p) || !is_plain(p, a))
        return false;
    server = choose(p, a->place);
    if (server == SERVER_NONE)
        return false;
    s = upstreams_session(&p->upstreams, server, &mid);
    if (!s || !take_places(p, a, s, mid))
        return false;
    p->upstreams.outstanding[p->upstreams.servers[server].group]++;
    p->m->counters->forwards++;
    p->m->counters->passes++;
    if (!timer_armed(&p->passes.timer))
        arm(p, p->m->now + p->passes.life_us);
    return true;
}

/* ---- the answer ---- */

#define ANSWER_OPTIONS \
    (SLOT_BIT(SLOT_CONTENT_FORMAT) | SLOT_BIT(SLOT_ETAG) | SLOT_BIT(SLOT_MAX_AGE))

/* What may be added to an unsafe request's answer, where that can be too long: see deliver.c. */
#define ANSWER_ADDED_BYTES 40

/* An unsafe request is not made again for a proof of its client's address: what it gets is cut. */
static bool is_too_long(const struct proxy *p, const struct exchange *x, const struct message *msg)
{
    uint16_t longest;

    if (code_is_safe(x->code))
        return false;
    longest = reply_longest(p->m, session_at(&p->m->sessions, x->session), x->request_length);
    return longest && msg->length + x->token_length + ANSWER_ADDED_BYTES > longest;
}

/* True when nothing but the answer itself comes of it, and the client can get it as it is. */
static bool is_simple(const struct proxy *p, const struct exchange *x, const struct message *msg)
{
    unsigned class = code_class(msg->code);

    return (class == 2 || class == 4) && msg->code != CODE_VALID && msg->code != CODE_CONTINUE &&
           !(msg->present & ~ANSWER_OPTIONS) && !msg->unknown_critical_unsafe &&
           !msg->unknown_elective_unsafe && msg->options_length <= CONTENT_OPTIONS_MAX &&
           deliver_is_simple(p, x, &plain_wish, msg) && !is_too_long(p, x, msg);
}

static struct space space_of(const struct proxy *p, const struct pass *pass)
{
    return (struct space){.method = pass->bytes[1],
                          .upstream = (uint16_t)p->m->config->routes[pass->route].upstream};
}

/* Its key, again; but for the base of its hashes. */
static void key_of(const struct proxy *p, const struct pass *pass, struct key *key)
{
    struct space space = space_of(p, pass);

    memcpy(key->bytes, &space, sizeof(space));
    bytes_copy(key->bytes + sizeof(space), pass->bytes + MESSAGE_HEADER_BYTES + TOKEN_BYTES,
               pass->options_length);
    key->options_length = pass->options_length;
    key->last_option = pass->last_option;
    key->length = (uint32_t)sizeof(space) + pass->options_length;
    key->hash = pass->hash;
    key->uri = pass->uri;
}

/* The answer goes into the cache. False when that has to be done in another way. */
static bool store(struct proxy *p, const struct pass *pass, const struct message *msg)
{
    uint32_t target, content;
    struct key key;

    key_of(p, pass, &key);
    if (target_find(&p->targets, &key) != TARGET_NONE)
        return false;
    content = content_create(&p->contents, msg, p->m->now);
    if (content == CONTENT_NONE)
        return false;
    target = target_add(&p->targets, &key);
    if (target != TARGET_NONE) {
        target_store(&p->targets, target, content);
        target_release(&p->targets, target);
    }
    content_release(&p->contents, content);
    return target != TARGET_NONE;
}

static bool is_to_be_kept(struct proxy *p, const struct pass *pass, const struct message *msg)
{
    return pass->shared && fetch_may_be_stored(msg) &&
           (fetch_is_of_use(p, msg) ||
            targets_would_be_worth_it(&p->targets, pass->hash,
                                      sizeof(struct space) + pass->options_length, msg->length));
}

/* All but the exchange. */
static void end(struct proxy *p, struct pass *pass, uint32_t index)
{
    leave(p, pass, index);
    session_at(&p->m->sessions, pass->session)->side.upstream.users--;
    p->fetch_nonces[index] = 0;
    p->upstreams.outstanding[p->upstreams.servers[pass->server].group]--;
    pool_put_at(&p->fetches, index);
    outbound_give_back(p->m, pass->outbound);
}

bool pass_answered(struct proxy *p, const struct session *s, const struct message *msg)
{
    uint32_t token[2], index;
    struct exchange *x;
    struct pass *pass;

    if (msg->token_length != TOKEN_BYTES)
        return false;
    memcpy(token, msg->token, sizeof(token));
    index = token[0] ^ p->token_mask;
    if (!have(p, index) || p->fetch_nonces[index] != token[1])
        return false;
    pass = pass_at(p, index);
    x = pool_at(&p->m->exchanges, pass->exchange);
    if (pass->mid != msg->mid || pass->session != session_index(&p->m->sessions, s) ||
        !is_simple(p, x, msg))
        return false;
    if (is_to_be_kept(p, pass, msg) && !store(p, pass, msg))
        return false;
    s->gate.shared->heard_us = p->m->now;
    upstreams_heard(&p->upstreams, pass->server);
    if (fetch_changes_state(x->code, msg->code))
        fetch_changed(p, pass->uri);
    end(p, pass, index);
    deliver_as_it_is(p, x, msg);
    return true;
}

/* ---- unfolding ---- */

/* What others can join, unless there is such a thing already. */
static uint32_t target_for(struct proxy *p, const struct pass *pass, const struct key *key)
{
    uint32_t target;

    if (!pass->shared)
        return TARGET_NONE;
    target = target_find(&p->targets, key);
    if (target == TARGET_NONE)
        return target_add(&p->targets, key);
    if (target_at(&p->targets, target)->fetch != POOL_NONE)
        return TARGET_NONE;
    target_at(&p->targets, target)->refs++;
    return target;
}

/* What a fetch without a target has in its place. */
static bool keep_request(struct proxy *p, const struct pass *pass, const struct key *key,
                         struct rope *request)
{
    if (contents_append(&p->contents, request, key->bytes, key->length) &&
        contents_append(&p->contents, request, pass->bytes + pass->length - pass->payload_length,
                        pass->payload_length))
        return true;
    rope_free(&p->contents.chunks, request);
    return false;
}

static struct place place_of(const struct proxy *p, const struct pass *pass)
{
    const struct config_route *route = &p->m->config->routes[pass->route];

    return (struct place){.config = &p->m->config->upstreams[route->upstream],
                          .first = p->upstreams.first[route->upstream],
                          .count = p->m->config->upstreams[route->upstream].server_count,
                          .route = pass->route,
                          .strip = route->strip_segments,
                          .space = space_of(p, pass)};
}

static void become_fetch(struct proxy *p, const struct pass *pass, struct fetch *f, uint32_t target,
                         struct rope request)
{
    struct place place = place_of(p, pass);
    struct fetch_setup setup = {.role = FETCH_ANSWER,
                                .place = &place,
                                .server = SERVER_NONE,
                                .target = target,
                                .request = request,
                                .options_length = pass->options_length,
                                .last_option = pass->last_option,
                                .observation = POOL_NONE,
                                .uri = pass->uri,
                                .hop_limit = pass->hop_limit,
                                .shared = target != TARGET_NONE};

    fetch_begin(p, f, &setup, pass->begun_us);
    f->begun = true;
    f->session = pass->session;
    f->outbound = pass->outbound;
    fetch_join_server(p, f, pass->server);
    if (target != TARGET_NONE)
        target_at(&p->targets, target)->fetch = fetch_index(p, f);
}

void pass_unfold(struct proxy *p, uint32_t index)
{
    struct pass *pass = pass_at(p, index);
    struct exchange *x = pool_at(&p->m->exchanges, pass->exchange);
    struct wish wish = plain_wish;
    struct rope request = ROPE_EMPTY;
    uint32_t target;
    struct key key;
    bool kept;

    if (!pass->open)
        return;
    p->m->counters->unfolded++;
    key_of(p, pass, &key);
    target = target_for(p, pass, &key);
    leave(p, pass, index);
    kept = target != TARGET_NONE || keep_request(p, pass, &key, &request);
    become_fetch(p, pass, fetch_at(p, index), target, request);
    if (target != TARGET_NONE)
        target_release(&p->targets, target);
    wish.transfer = hash_mix(pass->hash, 0);
    exchange_watch(p->m, x, pass->begun_us + p->m->config->separate_after_us);
    kept = outbound_keep(p->m, pass->outbound, pass->bytes, pass->length, pass->begun_us) && kept;
    if (!fetch_join(p, index, x, &wish)) {
        fetch_abort(p, index);
        exchange_reply_code(p->m, x, CODE_SERVICE_UNAVAILABLE, "no memory for another request");
    } else if (!kept) {
        fetch_fail(p, index, CODE_SERVICE_UNAVAILABLE, "no memory for another request");
    } else {
        return;
    }
    p->m->counters->refused_memory++;
}

bool pass_unfold_same(struct proxy *p)
{
    uint32_t at = *head_of(p, p->key.uri);

    while (at && pass_at(p, at - 1)->hash != p->key.hash)
        at = pass_at(p, at - 1)->by_uri;
    if (at)
        pass_unfold(p, at - 1);
    return at;
}

void pass_unfold_server(struct proxy *p, uint32_t server)
{
    uint32_t index = p->passes.age.head;

    while (index != POOL_NONE) {
        uint32_t next = pass_at(p, index)->by_age.next;

        if (pass_at(p, index)->server == server)
            pass_unfold(p, index);
        index = next;
    }
}

void pass_disclaim(struct proxy *p, uint64_t uri)
{
    uint32_t at = *head_of(p, uri);

    while (at) {
        struct pass *pass = pass_at(p, at - 1);
        uint32_t next = pass->by_uri;

        if (pass->uri == uri)
            disclaim(p, pass, at - 1);
        at = next;
    }
}

void pass_disclaim_all(struct proxy *p)
{
    uint32_t index = p->passes.age.head;

    for (; index != POOL_NONE; index = pass_at(p, index)->by_age.next)
        disclaim(p, pass_at(p, index), index);
}

/* Those that have been under way for long, or the next one's time. */
static void on_timer(void *context, struct timer *timer, uint64_t now_us)
{
    struct proxy *p = context;

    (void)timer;
    for (unsigned n = 0; n < UNFOLD_AT_ONCE && p->passes.age.head != POOL_NONE; n++) {
        uint32_t index = p->passes.age.head;
        uint64_t due_us = pass_at(p, index)->begun_us + p->passes.life_us;

        if (due_us > now_us) {
            arm(p, due_us);
            return;
        }
        pass_unfold(p, index);
    }
    if (p->passes.age.head != POOL_NONE)
        arm(p, now_us);
}

/* ---- start and end ---- */

static void shorten(uint64_t *life_us, uint64_t us)
{
    if (us < *life_us)
        *life_us = us;
}

/* Half of the time until the first thing is due that an exchange has a timer for. */
static uint64_t life_of(const struct config *config)
{
    uint64_t life_us = config->separate_after_us;

    for (unsigned i = 0; i < config->upstream_count; i++) {
        const struct config_upstream *upstream = &config->upstreams[i];

        shorten(&life_us, upstream->transmission.ack_timeout_ms * UINT64_C(1000));
        shorten(&life_us, upstream->timeout_ms * UINT64_C(1000));
        if (upstream->keepalive_us)
            shorten(&life_us, upstream->keepalive_us);
    }
    return life_us / 2;
}

int passes_init(struct proxy *p)
{
    struct passes *all = &p->passes;

    all->age = LIST_NONE;
    all->life_us = life_of(p->m->config);
    all->max = all->life_us < LIFE_LEAST_US ? 0 : PASSES_MAX;
    all->bytes = sizeof(*all->at) * (size_t)p->fetches.capacity;
    all->at = memory_reserve(all->bytes);
    all->heads = memory_reserve(HEADS * sizeof(*all->heads));
    timer_init(&all->timer, TIMER_PASS);
    wheel_handle(&p->m->wheel, TIMER_PASS, on_timer, p);
    return all->at && all->heads ? 0 : -ENOMEM;
}

void passes_fini(struct proxy *p)
{
    memory_release(p->passes.at, p->passes.bytes);
    memory_release(p->passes.heads, HEADS * sizeof(*p->passes.heads));
}
