/* What the fleets share: worlds of devices and servers that keep to the rules, so that what the
 * gateway makes of them can be judged from both ends.
 *
 *   fleet_node.c     a message layer by RFC 7252 4, for devices and servers
 *   fleet_device.c   devices that ask and wait
 *   fleet_message.c  requests and responses written, bodies made and compared
 *   fleet.c          who is where; what passes the gateway's edge
 *
 * Each scenario adds its own devices, servers and a judge, who sees every datagram that passes the
 * gateway's edge in the order in which it passes.
 *
 * One thread; memory belongs to the world of one seed. */
#ifndef COAPGW_TESTS_SIM_FLEET_H
#define COAPGW_TESTS_SIM_FLEET_H

#include "gateway/coap/block.h"
#include "gateway/coap/message.h"
#include "tests/sim/stage.h"
#include "tests/sim/vault.h"
#include "tests/sim/watch.h"

#define SERVERS_MAX 4
#define DEVICES_MAX 64
#define CALLERS_MAX 4
#define ETAGS_MAX   4
#define BODY_LINE   16 /* a body is lines of so many bytes; the shortest that tells its version */

#define OPTION_SAFE    65000 /* unknown, elective, safe to forward, part of the cache key */
#define OPTION_UNKEYED 65020 /* the same but NoCacheKey (RFC 7252 5.4.6) */

/* ---- fleet_message.c ---- */

struct etag {
    uint8_t length; /* 0: none */
    uint8_t value[8];
};

struct request {
    uint8_t method, type;
    char path[32], query[24]; /* "/a/b"; a query of "" is none */
    struct etag etags[ETAGS_MAX];
    unsigned etag_count;
    int64_t observe, accept, size1; /* negative: none */
    struct etag if_match;           /* length 0: none */
    bool if_none_match;
    bool has_block1, has_block2;
    struct block block1, block2;
    uint8_t tag_length, tag[8]; /* Request-Tag; 0: none */
    uint8_t echo_length, echo[40];
    uint32_t safe, unkeyed; /* values of the two unknown options; 0: none */
    const uint8_t *payload; /* lives as long as the request is being sent */
    size_t payload_length;
};

struct response {
    uint8_t code;
    struct etag etag;
    int64_t observe, max_age, size1, size2, format; /* negative: none */
    bool has_block1, has_block2;
    struct block block1, block2;
    const uint8_t *payload;
    size_t payload_length;
};

/* All absent. */
struct request request_make(uint8_t method, uint8_t type, const char *path);
struct response response_make(uint8_t code);

size_t request_write(const struct request *r, uint8_t *out, size_t room, uint16_t mid,
                     const uint8_t *token, size_t token_length);
size_t response_write(const struct response *r, uint8_t *out, size_t room, uint8_t type,
                      uint16_t mid, const uint8_t *token, size_t token_length);

/* Adds the block of `body` at `block->number` and Block2; sets `more`. */
void response_cut(struct response *r, const uint8_t *body, size_t length, struct block block);

/* The path of a message as text, "/a/b"; cut off when it is too long. */
void message_path(const struct message *m, char *out, size_t room);
void message_query(const struct message *m, char *out, size_t room);

/* False when the option is absent or malformed. */
bool message_block(const struct message *m, enum option_slot slot, struct block *out);
bool message_is_etag(const struct message *m, const struct etag *etag); /* the first one */
struct etag message_etag(const struct message *m);

/* Fills `length` bytes that say in each line whose they are, of which version, and where. */
void body_write(uint8_t *out, size_t length, uint32_t who, uint32_t version);
/* Whether the body is one of `who`, and all of it of one version. At least BODY_LINE bytes. */
bool body_check(const uint8_t *body, size_t length, uint32_t who, uint32_t *version);
/* A length from `min` to `max` that follows from these numbers. */
size_t body_length(uint64_t seed, uint32_t who, uint32_t version, size_t min, size_t max);
struct etag body_etag(uint32_t who, uint32_t version);

/* ---- fleet_node.c ---- */

enum node_end { NODE_ACKED, NODE_RESET, NODE_GAVE_UP };

struct node;

/* What is above the message layer. Each may be NULL when it cannot happen. */
struct node_handler {
    /* A request, not a duplicate. It is answered with node_answer() at once or not at all: what
     * comes later is sent with node_send() after an Empty ACK. */
    void (*request)(struct node *n, const struct flow *flow, const struct message *m);
    /* A response, not a duplicate. False rejects it. */
    bool (*response)(struct node *n, const struct flow *flow, const struct message *m);
    /* A CON that was sent has come to its end. */
    void (*ended)(struct node *n, const struct flow *flow, uint64_t cookie, enum node_end how);
    /* A RST that belongs to no CON: to a NON, perhaps. */
    void (*reset)(struct node *n, const struct flow *flow, uint16_t mid);
    /* In place of the network. */
    void (*transmit)(struct node *n, const struct flow *flow, const uint8_t *data, size_t length);
};

struct node_sent;
struct node_heard;
struct node_later;

#define HEARD_BUCKETS 256

struct node {
    struct stage *stage;
    const struct node_handler *handler;
    void *owner;
    bool down; /* hears nothing and says nothing */
    bool icmp; /* its host says that it is down */
    uint16_t next_mid;
    uint64_t next_id;
    struct node_sent *sent;
    struct node_later *later;
    struct node_heard *heard[HEARD_BUCKETS];
};

void node_init(struct node *n, struct stage *s, const struct node_handler *handler, void *owner);
void node_free(struct node *n);
void node_receive(struct node *n, const struct flow *flow, const uint8_t *data, size_t length);

uint16_t node_mid(struct node *n);

/* Sends a NON, or a CON until it is acknowledged. `cookie` comes back with `ended`. */
void node_send(struct node *n, const struct flow *flow, const uint8_t *data, size_t length,
               uint64_t cookie);

/* The same after a pause, unless the node is down then. */
void node_send_later(struct node *n, uint64_t pause_us, const struct flow *flow,
                     const uint8_t *data, size_t length, uint64_t cookie);

/* Answers a request, and its duplicates. `data` is an ACK, a RST or a NON. */
void node_answer(struct node *n, const struct flow *flow, uint16_t request_mid, const uint8_t *data,
                 size_t length);
void node_answer_empty(struct node *n, const struct flow *flow, uint16_t request_mid);

/* Answers as chance has it: with the ACK, or apart from it after up to `slow_us`. */
void node_respond(struct node *n, const struct flow *flow, const struct message *request,
                  const struct response *r, uint64_t slow_us);

/* Stops the retransmission of what has this cookie; `ended` is not called. */
void node_stop(struct node *n, uint64_t cookie);

/* Forgets all that is being sent, not what has been heard. */
void node_crash(struct node *n, bool icmp);

/* ---- fleet_device.c ---- */

struct device;

/* One request at a time, with a token of its own. */
struct caller {
    struct device *device;
    void *owner;
    /* The answer, or NULL when none came. */
    void (*answered)(struct caller *c, const struct message *m);
    struct request request;
    uint8_t token[8];
    uint8_t token_length;
    bool waiting;
    uint64_t cookie, begun_at;
    uint64_t patience_us; /* for an answer, whatever the message layer says */
};

struct device {
    struct node node;
    struct flow flow;
    struct caller *callers[CALLERS_MAX];
    unsigned caller_count;
    uint64_t next_cookie;
    /* A response that no caller waits for. False rejects it. NULL: all are rejected. */
    bool (*unasked)(struct device *d, const struct message *m);
    /* See struct node_handler. */
    void (*transmit)(struct node *n, const struct flow *flow, const uint8_t *data, size_t length);
    void *owner;
};

struct fleet;

void device_init(struct device *d, struct fleet *f, void *owner);
void caller_init(struct caller *c, struct device *d, void *owner,
                 void (*answered)(struct caller *c, const struct message *m));
void caller_new_token(struct caller *c);

/* Sends c->request with c->token. When the gateway wants an Echo it is repeated with it. */
void caller_ask(struct caller *c);
void caller_give_up(struct caller *c);

/* ---- fleet.c ---- */

/* What passes the gateway's edge. */
struct passing {
    unsigned worker;
    const struct flow *flow;
    bool upstream;           /* to or from a server */
    bool icmp;               /* `message` is what the error quotes */
    const struct message *m; /* NULL when it cannot be read */
};

struct judge {
    void (*emitted)(struct fleet *f, const struct passing *p);
    void (*delivered)(struct fleet *f, const struct passing *p);
};

struct fleet {
    struct stage stage; /* the first member: the cast gets a pointer to it */
    const struct judge *judge;
    struct watch *watch;
    struct vault *vault; /* the store; NULL: there is none */
    /* A parcel of one worker's for another, as it is sent. May be NULL. */
    void (*handed)(struct fleet *f, unsigned from, const struct parcel *parcel);
    struct node *servers[SERVERS_MAX];
    unsigned server_count;
    struct device *devices[DEVICES_MAX];
    unsigned device_count;
};

void fleet_begin(struct fleet *f, const char *scenario, uint64_t seed, bool trace,
                 const struct judge *judge);
/* Draws loss, repetition and delay: at most `loss`. */
void fleet_draw_network(struct fleet *f, double loss);
/* False when the gateway cannot be set up. Again after fleet_kill(). */
bool fleet_open(struct fleet *f, const char *yaml);
/* The gateway's process is gone, all at once. */
void fleet_kill(struct fleet *f);
void fleet_add_server(struct fleet *f, struct node *server); /* 10.0.9.1 and so on, in order */
/* Frees all but `f` itself. Returns 1 when something has failed, else 0. */
int fleet_end(struct fleet *f);

/* The server at the far end of a flow, or -1. */
int fleet_server_of(const struct flow *flow);

/* ---- the scenarios: 0, or 1 with the violation on stderr ---- */

int observe_run(uint64_t seed, bool trace);
int blockwise_run(uint64_t seed, bool trace);
int cache_run(uint64_t seed, bool trace);
int balance_run(uint64_t seed, bool trace);
int restart_run(uint64_t seed, bool trace);
int resources_run(uint64_t seed, bool trace);
int once_run(uint64_t seed, bool trace);
int dtls_run(uint64_t seed, bool trace);
int twice_run(uint64_t seed, bool trace); /* the same without a journal: it must fail */

#endif
