/* Between the files that hold resources: resource.c, resource_write.c, resource_store.c. */
#ifndef COAPGW_GATEWAY_SERVE_RESOURCE_PARTS_H
#define COAPGW_GATEWAY_SERVE_RESOURCE_PARTS_H

#include "gateway/serve/resource.h"
#include "gateway/store/store.h"

/* One of them, in the replica of this worker. */
struct resource {
    uint64_t hash;
    struct rope name;     /* counts as held */
    struct links by_age;  /* in r->all */
    uint32_t next;        /* in the chain of its hash: index + 1, 0 at the end */
    uint32_t content;     /* the reference is ours */
    uint32_t observation; /* POOL_NONE: nobody observes it here */
    uint32_t route;
    int32_t format; /* -1: none */
    bool unsaved;   /* at the owner: the store has said that it could not keep this state */
};

/* How much a route has of its limits. */
struct resource_use {
    uint64_t bytes;
    uint32_t count;
};

/* A write that is not answered yet: at the worker that was asked, until the outcome comes, and at
 * the owner, until the store has the record. */
struct pending {
    struct timer timer;
    struct links by_turn;      /* in r->late */
    struct exchange *exchange; /* the client's; NULL: `outcome` answers another worker */
    struct wish wish;
    struct parcel *outcome; /* ready to be sent; NULL: the client is our own */
    uint16_t asker;
    bool late; /* the outcome waits for room in the ring */
    uint8_t code;
    struct etag etag;
    uint32_t resource; /* at the owner: what the record is of, */
    uint64_t version;  /* unless it has changed since */
};

/* Parcels of kind PARCEL_RESOURCE: a structure, then the name and what else there is. */
enum resource_type { RESOURCE_WRITE, RESOURCE_STATE, RESOURCE_OUTCOME };

/* Behind it: name, values of If-Match (a length in one byte and the bytes), payload. */
struct resource_write_head {
    uint64_t cookie; /* the asker's */
    uint32_t route;
    uint32_t name_length, conditions_length, payload_length;
    int32_t format;
    uint8_t method; /* PUT or DELETE */
    bool if_none_match;
    uint8_t zero[2];
};

/* Behind it: name, payload. */
struct resource_state_head {
    uint64_t version;
    uint32_t route;
    uint32_t name_length, payload_length;
    int32_t format;
    struct etag etag;
    bool removed;
    uint8_t zero[6];
};

struct resource_outcome_head {
    uint64_t cookie;
    uint8_t code;
    uint8_t reason;
    struct etag etag; /* of the new state; length 0: none */
    uint8_t zero[5];
};

/* Names that were removed while records were being read back, so that they do not come back. */
#define RESOURCE_REMOVED 1024

enum store_state { STORE_STATE_NEW, STORE_STATE_UP, STORE_STATE_DOWN };

struct resources {
    struct proxy *p;
    unsigned index, count;
    struct pool pool;
    uint64_t *versions; /* of those in the pool; 0: the place is free */
    size_t versions_bytes;
    struct list all; /* oldest first */
    uint32_t *heads; /* index + 1 by hash */
    size_t heads_bytes;
    uint32_t mask;
    struct resource_use *use; /* by route */
    uint64_t version;         /* the last that was given or seen */
    struct pool pending;
    uint32_t *nonces; /* of pending ones; 0: it is free */
    size_t nonces_bytes;
    uint32_t serial;
    struct list late;
    struct {
        bool enabled;
        bool all_read; /* no record of before the start is still to come */
        enum store_state state;
        uint64_t started_us;
        uint32_t cursor; /* resources from here on are still to be put again, POOL_NONE: none */
        bool sweep_all;
        uint64_t again_at_us; /* when those without a record are tried again, 0: never */
        unsigned removed_next;
        struct {
            uint64_t hash, version;
        } removed[RESOURCE_REMOVED];
    } store;
    char name[RESOURCE_NAME_BYTES + 1]; /* of the request or parcel in hand */
    uint32_t name_length;
    char listed[RESOURCE_NAME_BYTES + 1];
    uint8_t conditions[KEY_BYTES];
};

static inline struct resource *resource_at(const struct resources *r, uint32_t index)
{
    return pool_at(&r->pool, index);
}

static inline const struct config_resources *resource_limits(const struct resources *r,
                                                             uint32_t route)
{
    return &r->p->m->config->routes[route].resources;
}

static inline unsigned resource_owner(const struct resources *r, uint64_t hash)
{
    return (unsigned)(hash % r->count);
}

/* ---- bodies, wherever they are ---- */

struct body {
    const struct rope *rope;     /* in the proxy's contents, */
    const struct parcel *parcel; /* or here, */
    const uint8_t *bytes;        /* or here */
    uint32_t offset, length;     /* of the payload in it */
    struct rope_cursor cursor;
};
void body_read(const struct resources *r, struct body *body, uint32_t at, void *out,
               uint32_t length);

/* ---- resource.c ---- */

/* The name of a parcel into r->name. False when it is too long, or not there. */
bool resource_read_name(struct resources *r, const struct parcel *parcel, uint32_t offset,
                        uint32_t length);
uint64_t resource_hash(const struct resources *r);
/* The one with r->name, POOL_NONE: none. */
uint32_t resource_find(const struct resources *r, uint64_t hash);
/* A representation with its ETag where `etag` is NULL: made from version and bytes. CONTENT_NONE
 * when memory is short. */
uint32_t resource_content(struct resources *r, struct body *body, int32_t format, uint64_t version,
                          const struct etag *etag);
/* A new state of r->name; the content is taken over. False when there is no room for another
 * resource: nothing has changed then, and the content is the caller's. */
struct resource_state {
    uint32_t route, content;
    int32_t format;
    uint64_t hash, version;
};
bool resource_put(struct resources *r, const struct resource_state *state);
void resource_remove(struct resources *r, uint32_t index);
/* What it has of `size`. */
uint64_t resource_cost(const struct resources *r, uint32_t index);
/* Whether it must be waited for records before it can be said that a resource is not there. */
bool resource_is_unknown(const struct resources *r);

/* ---- resource_write.c ---- */

void resource_write(struct resources *r, struct local_request *l, uint64_t hash);

/* ---- resource_owner.c ---- */

/* A write as the owner sees it, beside r->name. */
struct write {
    uint64_t hash;
    uint32_t route;
    bool removal;
    bool if_none_match;
    const uint8_t *conditions; /* values of If-Match: a length in one byte and the bytes */
    uint32_t conditions_length;
    int32_t format;
    struct body body;
};

/* Who has asked for it: a client of ours, or another worker by a parcel, which becomes the outcome.
 */
struct asker {
    struct local_request *l;
    struct exchange *exchange; /* of the client, where it was needed */
    struct parcel *parcel;
    uint64_t cookie;
    uint16_t worker;
};

/* Why a write was refused, where the code does not say it. */
enum reason {
    REASON_NONE,
    REASON_BUSY,
    REASON_COUNT,
    REASON_SIZE,
    REASON_STORE,
    REASON_READING,
    REASON_LOST,
    REASONS
};

/* What came of it. */
struct outcome {
    uint8_t code;
    enum reason reason;
    struct etag etag;
};

/* A write whose owner we are. */
void resource_decide(struct resources *r, struct write *w, struct asker *asker);
/* Taken over. */
void resource_told_write(struct resources *r, struct parcel *parcel);
void resource_told_state(struct resources *r, const struct parcel *parcel);
/* The payload of a content into a parcel. */
void resource_copy_payload(const struct resources *r, uint32_t content, struct parcel *parcel,
                           uint32_t offset);

/* ---- resource_pending.c ---- */

int resource_pending_init(struct resources *r);
void resource_pending_fini(struct resources *r);
/* POOL_NONE when there are too many. It ends by itself after some time. */
uint32_t resource_pending_open(struct resources *r);
void resource_pending_close(struct resources *r, uint32_t index);
struct pending *resource_pending(const struct resources *r, uint32_t index);
/* The parcel of a write becomes its outcome: so there is always one. */
void resource_make_outcome(struct resources *r, struct parcel *parcel, uint64_t cookie,
                           const struct outcome *outcome);
/* Answers, and counts a refusal. */
void resource_conclude(struct resources *r, const struct asker *asker,
                       const struct outcome *outcome);
void resource_refuse(struct resources *r, const struct asker *asker, enum reason reason);
/* The store has answered what is pending. */
void resource_release(struct resources *r, uint32_t pending, uint32_t nonce, int error);
void resource_told_outcome(struct resources *r, const struct parcel *parcel);
unsigned resource_send_late(struct resources *r, unsigned budget);
/* How many parcels another worker or the store takes now. */
unsigned resource_room(const struct resources *r, unsigned to);

/* ---- resource_store.c ---- */

/* What a write needs of the store before it changes anything. */
enum resource_saving {
    SAVE_NOT,    /* there is none, or it is away and nobody minds */
    SAVE,        /* `parcel` is ready to be sent */
    SAVE_REFUSE, /* 5.03 */
};
/* The record of r->name; `content` CONTENT_NONE: it is to be deleted. */
enum resource_saving resource_save_begin(struct resources *r, const struct resource_state *state,
                                         struct parcel **parcel);
/* `cookie` 0: no answer is wanted. The parcel is taken over; false when the store takes none now.
 */
bool resource_save_end(struct resources *r, struct parcel *parcel, uint64_t cookie);
uint64_t resource_cookie(uint32_t pending, uint32_t nonce);
/* The store does not have the state of this resource: it is tried again. */
void resource_save_failed(struct resources *r, uint32_t index);
void resource_note_removed(struct resources *r, uint64_t hash, uint64_t version);
unsigned resource_sweep(struct resources *r, unsigned budget);
bool resource_sweep_is_due(const struct resources *r);

#endif
