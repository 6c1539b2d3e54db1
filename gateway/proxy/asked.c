/* A client's request as it is read: what it wants, and its key. */
#include "gateway/bytes.h"
#include "gateway/hash.h"
#include "gateway/proxy/request.h"

#define HOP_LIMIT_DEFAULT 16 /* RFC 8768 3 */

static bool refuse(struct asked *a, uint8_t code, const char *reason)
{
    a->refusal = code;
    a->reason = reason;
    return false;
}

/* What becomes of an option on the way to the origin. */
enum fate { FATE_DROP, FATE_KEEP, FATE_URI };

static enum fate fate_of(uint16_t number, const struct asked *a)
{
    switch (number) {
    case OPTION_URI_HOST:
    case OPTION_URI_PORT:
        return a->place->space.forward ? FATE_URI : FATE_DROP;
    case OPTION_URI_PATH:
    case OPTION_URI_QUERY:
        return FATE_URI;
    case OPTION_ECHO: /* ours ends here; another's is the origin's */
        return a->rq->own_echo ? FATE_DROP : FATE_KEEP;
    case OPTION_PROXY_URI:
    case OPTION_PROXY_SCHEME:
    case OPTION_OBSERVE:
    case OPTION_ETAG:
    case OPTION_MAX_AGE:
    case OPTION_HOP_LIMIT:
    case OPTION_BLOCK1:
    case OPTION_BLOCK2:
    case OPTION_SIZE1:
    case OPTION_SIZE2:
    case OPTION_NO_RESPONSE:
        return FATE_DROP;
    default:
        return FATE_KEEP;
    }
}

/* RFC 8768 3: an invalid value is an error; an option that is too long has not been recognised. */
static bool read_hop_limit(struct asked *a, const struct option_view *view)
{
    if (view->length != 1 || view->value[0] == 0)
        return refuse(a, CODE_BAD_REQUEST, "invalid Hop-Limit");
    if (view->value[0] == 1)
        return refuse(a, CODE_HOP_LIMIT_REACHED, NULL);
    a->hop_limit = view->value[0] - 1;
    return true;
}

/* A key that is being built. */
struct reading {
    struct encoder encoder;
    struct option_copy copy;
    struct encoder names; /* the options that name the resource, for their hash */
    bool only_names;      /* there are no others: `names` has not been written */
    unsigned skipped;     /* path segments */
};

/* Options whose fate is known by their numbers: they are kept, in all requests. */
#define PLAIN_OPTIONS                                                        \
    (UINT64_C(1) << OPTION_URI_PATH | UINT64_C(1) << OPTION_CONTENT_FORMAT | \
     UINT64_C(1) << OPTION_URI_QUERY | UINT64_C(1) << OPTION_ACCEPT)

#define PLAIN_SLOTS                                                                       \
    (SLOT_BIT(SLOT_URI_PATH) | SLOT_BIT(SLOT_CONTENT_FORMAT) | SLOT_BIT(SLOT_URI_QUERY) | \
     SLOT_BIT(SLOT_ACCEPT))

/* The longest options that are looked at before their request's turn has come. */
#define EXPECTED_BYTES 64

static bool is_plain(uint16_t number)
{
    return number < 64 && PLAIN_OPTIONS >> number & 1;
}

/* Who the client is counts, whatever the number of the option that says it. */
static bool is_told_by(const struct config_upstream *upstream, uint16_t number)
{
    return upstream && upstream->tell_client == CONFIG_TELL_OPTION &&
           upstream->tell_option == number;
}

/* What becomes of any option: `*keep` says whether it goes into the key. */
static bool read_option(struct asked *a, struct reading *r, uint16_t number,
                        const struct option_view *view, bool *keep)
{
    enum fate fate = fate_of(number, a);

    *keep = false;
    if (number == OPTION_HOP_LIMIT && !a->local) {
        if (a->has_hops) /* only the first counts (RFC 7252 5.4.5) */
            return true;
        a->has_hops = true;
        return read_hop_limit(a, view);
    }
    if (number == OPTION_REQUEST_TAG) {
        a->tags = hash_bytes(view->value, view->length, a->tags + number);
        return true;
    }
    if (fate == FATE_DROP)
        return true;
    if (number == OPTION_URI_PATH && r->skipped < a->place->strip) {
        r->skipped++;
        return true;
    }
    if (number == OPTION_ECHO || number == OPTION_IF_MATCH || number == OPTION_IF_NONE_MATCH)
        a->transient = true;
    if (option_is_no_cache_key(number) && !is_told_by(a->place->config, number)) {
        a->extras = true;
        if (a->plain)
            return true;
    }
    if (fate == FATE_URI)
        encoder_option(&r->names, number, view->value, view->length);
    *keep = true;
    return true;
}

static bool names_resource(uint16_t number)
{
    return number == OPTION_URI_PATH || number == OPTION_URI_QUERY;
}

static bool read_options(struct asked *a, struct reading *r)
{
    struct option_cursor cursor = option_cursor(a->rq->message);
    bool strips = a->place->strip, keep;
    struct option_view view;

    while (option_next(&cursor, &view)) {
        if (is_plain(cursor.number) && !(strips && cursor.number == OPTION_URI_PATH)) {
            if (names_resource(cursor.number))
                encoder_option(&r->names, cursor.number, view.value, view.length);
            option_copy_keep(&r->copy, &cursor, &view);
            continue;
        }
        if (!read_option(a, r, cursor.number, &view, &keep))
            return false;
        if (keep)
            option_copy_keep(&r->copy, &cursor, &view);
        else
            option_copy_drop(&r->copy, &cursor);
    }
    option_copy_end(&r->copy);
    return true;
}

static void read_names(const struct message *msg, struct encoder *names)
{
    struct option_cursor cursor = option_cursor(msg);
    struct option_view view;

    while (option_next(&cursor, &view))
        if (names_resource(cursor.number))
            encoder_option(names, cursor.number, view.value, view.length);
}

/* The same where all of them are kept as they are: they go over in one piece. False where they are
 * not, and nothing has been done. */
static bool read_plain_options(struct asked *a, struct reading *r)
{
    const struct message *msg = a->rq->message;
    struct option_cursor cursor = option_cursor(msg);
    struct option_view view;
    bool only_names = true;

    if (a->place->strip || (msg->present & ~PLAIN_SLOTS) || msg->options_length > r->encoder.room)
        return false;
    while (option_next(&cursor, &view)) {
        if (!is_plain(cursor.number))
            return false;
        only_names &= names_resource(cursor.number);
    }
    r->only_names = only_names;
    if (!only_names)
        read_names(msg, &r->names);
    bytes_copy(r->encoder.data, msg->options, msg->options_length);
    r->encoder.length = msg->options_length;
    r->encoder.last_option = cursor.number;
    return true;
}

/* The same options that name the resource have the same hash, whatever stood between them. */
static void name_key(const struct proxy *p, struct key *key, const struct space *space,
                     const struct reading *r)
{
    uint64_t options = hash_bytes(key_options(key), key->options_length, p->hash_seed);
    uint64_t names =
        r->only_names ? options : hash_bytes(r->names.data, r->names.length, p->hash_seed);

    key->base = space_hash(space, p->hash_seed);
    key->uri = hash_mix(key->base, names);
    key->hash = hash_mix(hash_mix(key->base, space->method), options);
}

bool asked_read_key(struct proxy *p, struct asked *a)
{
    const struct message *msg = a->rq->message;
    const struct space *space = &a->place->space;
    struct key *key = &p->key;
    uint8_t names[KEY_BYTES];
    struct reading r = {.encoder = {.data = key->bytes + sizeof(struct space),
                                    .room = KEY_BYTES - sizeof(struct space)},
                        .names = {.data = names, .room = sizeof(names)}};

    a->tags = 0;
    a->has_hops = false;
    memcpy(key->bytes, space, sizeof(struct space));
    if (!read_plain_options(a, &r)) {
        r.copy = option_copy(&r.encoder, msg->options);
        if (!read_options(a, &r))
            return false;
    }
    key->options_length = (uint16_t)r.encoder.length;
    key->last_option = r.encoder.last_option;
    key->length = (uint32_t)sizeof(struct space) + r.encoder.length;
    if (r.encoder.failed || r.names.failed)
        return refuse(a, CODE_BAD_OPTION, "options too long");
    name_key(p, key, space, &r);
    a->wish.transfer = hash_mix(key->hash, a->tags);
    target_expect(&p->targets, key->hash, key->uri);
    if (code_is_safe(msg->code) && msg->payload_length && !a->in_blocks) {
        if (KEY_BYTES - key->length < msg->payload_length)
            return refuse(a, CODE_REQUEST_ENTITY_TOO_LARGE, NULL);
        memcpy(key->bytes + key->length, msg->payload, msg->payload_length);
        key->length += msg->payload_length;
        a->wish.body = hash_bytes(msg->payload, msg->payload_length, p->hash_seed) | 1;
        key->hash = hash_mix(key->hash, a->wish.body);
    }
    return true;
}

void proxy_expect(const struct proxy *p, const struct datagram *d)
{
    uint32_t head = MESSAGE_HEADER_BYTES + (d->data[0] & 0x0f);
    uint32_t length = d->length - head;
    uint64_t options;

    if (d->data[1] != CODE_GET || d->length <= head || length > EXPECTED_BYTES)
        return;
    options = hash_bytes(d->data + head, length, p->hash_seed); /* as name_key() has it */
    target_expect(&p->targets, hash_mix(hash_mix(p->expected_base, CODE_GET), options),
                  hash_mix(p->expected_base, options));
}

static void read_etags(struct wish *wish, const struct message *msg)
{
    struct option_cursor cursor = option_cursor_at(msg, SLOT_ETAG);
    struct option_view view;

    while (wish->etag_count < WISH_ETAGS && option_next_same(&cursor, &view)) {
        struct etag *etag = &wish->etags[wish->etag_count++];

        etag->length = (uint8_t)view.length;
        memcpy(etag->bytes, view.value, view.length);
    }
}

static bool read_blocks(struct asked *a, const struct message *msg)
{
    struct wish *wish = &a->wish;

    wish->block2.szx = BLOCK_SZX_MAX;
    if (message_has(msg, SLOT_BLOCK2)) {
        wish->has_block2 = true;
        if (block_decode(message_uint(msg, SLOT_BLOCK2, 0), &wish->block2) < 0)
            return refuse(a, CODE_BAD_REQUEST, "reserved block size");
    }
    if (message_has(msg, SLOT_BLOCK1)) {
        wish->has_block1 = true;
        wish->block1 = message_uint(msg, SLOT_BLOCK1, 0);
        if (block_decode(wish->block1, &a->block1) < 0)
            return refuse(a, CODE_BAD_REQUEST, "reserved block size");
        a->in_blocks = a->block1.number || a->block1.more;
    }
    return true;
}

/* Options that a proxy knows to be unsafe to forward, and does not process (RFC 7252 5.7.1). */
#define UNSAFE_UNSUPPORTED (SLOT_BIT(SLOT_Q_BLOCK1) | SLOT_BIT(SLOT_Q_BLOCK2))

bool asked_read(struct proxy *p, struct asked *a)
{
    const struct message *msg = a->rq->message;
    uint32_t observe;

    mid_index_expect(&p->m->dedup.index, session_index(&p->m->sessions, a->rq->session), msg->mid);
    a->hop_limit = HOP_LIMIT_DEFAULT;
    if (msg->unknown_critical_unsafe || msg->unknown_elective_unsafe ||
        (msg->present & UNSAFE_UNSUPPORTED))
        return refuse(a, CODE_BAD_OPTION, "an option is unsafe to forward");
    if (!read_blocks(a, msg) || !asked_read_key(p, a))
        return false;
    if (code_is_safe(msg->code) && message_has(msg, SLOT_OBSERVE)) {
        observe = message_uint(msg, SLOT_OBSERVE, 0);
        a->observes = observe == 0;
        a->cancels = observe == 1;
    }
    if (a->observes &&
        a->wish.block2.number) /* RFC 7959 2.6: the rest is fetched without Observe */
        return refuse(a, CODE_BAD_REQUEST, "Observe with a later block");
    if (message_has(msg, SLOT_ETAG) && code_is_safe(msg->code))
        read_etags(&a->wish, msg);
    return true;
}
