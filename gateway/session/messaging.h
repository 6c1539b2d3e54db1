/* The messaging layer of one worker (RFC 7252 4): sessions, reliability, deduplication, and the
 * matching of answers to requests on both legs.
 *
 *     datagram -> messaging_receive() -> ops.request()   a client asks something
 *                                     -> ops.response()  an origin answers
 *                                     -> ops.settled()   a message of ours reached its end
 *
 * The layer above answers a request at once (reply_*), or opens an exchange and answers later;
 * whether the answer is piggybacked or separate is decided here. It sends requests to origins with
 * outbound_submit().
 *
 * Everything belongs to one worker and one thread. `now` is set at each entry and holds for the
 * whole call. */
#ifndef COAPGW_GATEWAY_SESSION_MESSAGING_H
#define COAPGW_GATEWAY_SESSION_MESSAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "gateway/chunk.h"
#include "gateway/coap/message.h"
#include "gateway/counters.h"
#include "gateway/datagram.h"
#include "gateway/list.h"
#include "gateway/random.h"
#include "gateway/security/security.h"
#include "gateway/session/dedup.h"
#include "gateway/session/echo.h"
#include "gateway/session/mid_index.h"
#include "gateway/session/session.h"
#include "gateway/timer/wheel.h"

/* The largest message that is built or kept: more than any UDP payload of a 1,500-byte MTU. */
#define MESSAGE_MAX_BYTES 2048

/* What a client is told to wait before it tries again, with 5.03 (RFC 7252 5.9.3.4). */
#define BUSY_MAX_AGE_S 5

/* Multicast requests whose answers wait for their leisure, for each worker. */
#define LEISURE_MAX 1024

struct journal;
struct journal_entry;
struct messaging;

/* ---- messages of ours that wait for an acknowledgement ---- */

/* Two retransmissions: one may be lost on any link. */
#define DOUBTED_AFTER 2

enum outbound_outcome {
    OUTBOUND_ACKED,
    OUTBOUND_RESET,       /* the peer sent a RST */
    OUTBOUND_TIMED_OUT,   /* no ACK after all retransmissions */
    OUTBOUND_UNREACHABLE, /* an ICMP error */
    OUTBOUND_MALFORMED,   /* acknowledged by a message with a format error */
};

enum owner_kind {
    OWNER_NONE,     /* a separate response: nobody waits for its end */
    OWNER_FETCH,    /* a request to an origin */
    OWNER_RELATION, /* a notification */
    OWNER_PING,     /* an Empty CON to a client: this layer waits for its end */
};

/* A CON until it is acknowledged, or a NON request until it is answered: both count against NSTART
 * (RFC 7252 4.7). The message is kept as plain bytes in the message memory. */
struct outbound {
    struct mid_key key;
    uint32_t chunk; /* CHUNK_NONE: an Empty message */
    uint16_t length;
    uint8_t type; /* TYPE_CON or TYPE_NON */
    uint8_t retransmits, max_retransmit;
    uint8_t owner_kind;
    bool sent; /* false: waits for NSTART, or for the probing rate */
    uint32_t owner;
    uint64_t timeout_us; /* of the transmission under way, before keepalive caps it */
    uint64_t sent_us;    /* when that began */
    uint64_t first_us;   /* when the first one began */
    struct timer timer;
    struct links by_session, by_gate;
};

/* Sends a message, or queues it when NSTART messages are outstanding to the peer. `bytes` is the
 * whole message with `mid` in it, up to MESSAGE_MAX_BYTES, and is copied. 0 and the index; -ENOMEM
 * when a table or the message memory is full; -ENOBUFS when the queue to the peer is. ops.settled()
 * is not called for a message that is refused. */
int outbound_submit(struct messaging *m, struct session *s, enum message_type type, uint16_t mid,
                    const void *bytes, uint16_t length, enum owner_kind owner_kind, uint32_t owner,
                    uint32_t *index);

/* Ends it without a word to the owner. */
void outbound_cancel(struct messaging *m, uint32_t index);

/* What waits to be sent to a client with this token, and nobody follows, goes: it answers an older
 * request than one with the same token that is answered now. */
void outbound_forget(struct messaging *m, struct session *s, const uint8_t *token,
                     uint32_t token_length);

/* False while it waits for NSTART: the peer has seen nothing of it. */
bool outbound_was_sent(const struct messaging *m, uint32_t index);

/* The session of the message that has waited longest at a server's gate; NULL: none waits. */
struct session *outbound_first(const struct messaging *m, const struct gate_shared *shared);

/* Its message ID. */
uint16_t outbound_mid(const struct messaging *m, uint32_t index);

/* What waits for a server that was held goes now. */
void outbound_release(struct messaging *m, struct gate_shared *shared);

/* Pings a client: an Empty CON, which is sent again as any CON. Nothing may be outstanding to it.
 * False when there is no room or no message ID for it. */
bool outbound_ping(struct messaging *m, struct session *s);

/* True while a CON to a client has not been acknowledged in its first timeout and nothing else has
 * come since it was sent. More that is not confirmable would go nowhere, and is not covered by a
 * request of the client's: such a peer gets CONs only, which NSTART limits (RFC 7252 4.7, RFC 7641
 * 4.5.1). */
bool outbound_is_silent(const struct messaging *m, const struct session *s);

/* Something was received from a server that NON requests have been sent to: PROBING_RATE limits
 * them no more. */
void outbound_heard(struct messaging *m, struct gate_shared *shared);

/* Nobody waits for its end any more. It goes on, as the peer has to acknowledge it before another
 * may be sent. */
void outbound_disown(struct messaging *m, uint32_t index);

/* Gives a message that waits for its acknowledgement other contents and another message ID; its
 * retransmissions and timeouts go on (RFC 7641 4.5.2). False when memory is short: it stays as it
 * is. */
bool outbound_replace(struct messaging *m, uint32_t index, uint16_t mid, const void *bytes,
                      uint16_t length);

/* Ends the message with this ID and tells the owner. False when there is none that was sent. An ACK
 * ends a CON only. */
bool outbound_settle(struct messaging *m, const struct session *s, uint16_t mid,
                     enum outbound_outcome outcome);

/* Ends those that were sent in a session, 64 at most. Returns how many. */
unsigned outbound_settle_all(struct messaging *m, const struct session *s,
                             enum outbound_outcome outcome);

/* ---- requests of clients ---- */

/* A request under the hands of the layer above, during one call. */
struct request {
    const struct message *message;
    const struct message *original; /* as it came, where `message` is made of it; or NULL */
    struct session *session;
    uint32_t dedup;   /* index of its entry, POOL_NONE: none */
    uint8_t unwanted; /* No-Response (RFC 7967): bit class - 1 of the classes not to be answered */
    bool multicast;   /* no errors are answered (RFC 7252 8.2) */
    bool own_echo;    /* its Echo option is one that we gave, and has been dealt with */
    bool resumed;     /* a registration of before a restart: its client got an answer then, and what
                         it is told now is a confirmable message of its own */
    uint64_t created_us; /* when that was */
};

/* To be called before the request has any effect. False when there is nothing more to do: it was a
 * duplicate, which has been dealt with, or it was refused for want of memory. `pure` says that the
 * answer depends on the request alone and that nothing happens but the answer: such a CON request
 * is simply answered again, and needs no memory. */
bool request_admit(struct messaging *m, struct request *rq, bool pure);

/* True for one that a process before this one has had, as the journal says, and whose second
 * execution has another effect than the first (RFC 7252 4.5): it has been answered then, and nobody
 * can say that it had no effect. request_admit() looks itself. */
bool request_is_former(struct messaging *m, const struct request *rq);

/* An answer being written: add options and payload to `encoder`, then reply_end(). */
struct reply {
    struct encoder encoder;
    struct outgoing out; /* buffer NULL: it is built in the scratch buffer */
    struct session *session;
    uint32_t dedup;
    uint32_t bare_length; /* of header and token: what the message is when nothing is added */
    uint16_t mid;
    uint16_t longest; /* how long it may be without a proof of the client's address; 0: any */
    uint8_t type;     /* enum message_type */
    uint8_t code;
    bool suppressed; /* the client does not want it (RFC 7967) */
};

/* Starts the answer to a request. False when none can or may be sent (counted): the request is done
 * with then. */
bool reply_begin(struct messaging *m, const struct request *rq, uint8_t code, struct reply *reply);

/* Sends it. False when it did not fit: nothing was sent, and a smaller answer may be begun. Where a
 * safe request's answer is too long for a client whose address is unproven, a challenge goes
 * instead (RFC 9175 2.3): true, too. */
bool reply_end(struct messaging *m, struct reply *reply);

/* Options and payload of a message, encoded before (see encoder_raw()). Of the owner. */
struct tail {
    const uint8_t *bytes;
    uint16_t length;
    uint64_t sum; /* checksum_bytes() */
};

/* A whole answer. False when it does not fit: a smaller one may be begun. */
bool reply_whole(struct messaging *m, const struct request *rq, uint8_t code,
                 const struct tail *tail);

/* A whole answer: a code, and a diagnostic payload (RFC 7252 5.5.2) unless NULL. */
void reply_code(struct messaging *m, const struct request *rq, uint8_t code,
                const char *diagnostic);

/* The longest answer that a client may get whose address is unproven; 0: there is no limit. */
uint16_t reply_longest(const struct messaging *m, const struct session *s, uint16_t request_length);

/* 4.01 with Echo: the client has to prove its address first (RFC 9175 2.3). The request has had no
 * effect. */
void reply_challenge(struct messaging *m, const struct request *rq);

/* 5.03 with Max-Age. */
void reply_busy(struct messaging *m, const struct request *rq, const char *diagnostic);

/* ---- requests that take longer ---- */

/* A client's request until its answer: holds what the answer needs. */
struct exchange {
    struct timer separate; /* Empty ACK */
    uint32_t session;
    uint32_t dedup;
    uint32_t token_chunk; /* a token longer than 8 bytes */
    uint16_t token_length;
    uint16_t mid;
    uint16_t request_length; /* of the whole message, bytes */
    uint8_t type;            /* TYPE_CON or TYPE_NON */
    uint8_t code;            /* the method */
    uint8_t unwanted;        /* as in struct request */
    bool acked;              /* the Empty ACK has gone, now or then: the answer is separate */
    bool retracted;          /* the client has deregistered before its registration was answered */
    uint8_t token[TOKEN_INLINE_BYTES];
    struct links by_session;
};

/* NULL when the table or the message memory is full. */
struct exchange *exchange_open(struct messaging *m, const struct request *rq);

/* The token of its request, in the exchange or in `buffer`, which has room for MESSAGE_MAX_BYTES.
 */
const uint8_t *exchange_token(const struct messaging *m, const struct exchange *x, uint8_t *buffer);

/* The same pair as for a request: piggybacked while the request is not acknowledged, separate
 * after; CON for a CON, NON for a NON (RFC 7252 5.2). exchange_reply_end() frees the exchange when
 * it returns true. When exchange_reply_begin() returns false the exchange has been freed. */
bool exchange_reply_begin(struct messaging *m, struct exchange *x, uint8_t code,
                          struct reply *reply);
bool exchange_reply_end(struct messaging *m, struct exchange *x, struct reply *reply);

/* Acknowledges its request, unless that has been done: what answers it comes separately. */
void exchange_acknowledge(struct messaging *m, struct exchange *x);

/* Frees it without a word. */
void exchange_abandon(struct messaging *m, struct exchange *x);

/* It has been answered in another way: frees it. */
void exchange_close(struct messaging *m, struct exchange *x);

/* A code and a diagnostic, and the exchange is freed. Max-Age is added to 5.03. */
void exchange_reply_code(struct messaging *m, struct exchange *x, uint8_t code,
                         const char *diagnostic);

/* ---- the layer ---- */

/* What happens to sessions, of clients and of ours to origins. */
enum session_event {
    SESSION_OPENED,           /* a client's first message, or ours to an origin */
    SESSION_CLOSED,           /* nothing hangs on it any more but requests that end silently */
    SESSION_PINGED,           /* the client pinged us (RFC 7252 4.3) */
    SESSION_PONG,             /* it answered a ping of ours */
    SESSION_KEEPALIVE_FAILED, /* it did not: SESSION_CLOSED follows for a client's */
    SESSION_NACK_TIMED_OUT,   /* a message of ours got no ACK after all retransmissions, */
    SESSION_NACK_RESET,       /* a RST, */
    SESSION_NACK_UNREACHABLE, /* an ICMP error, */
    SESSION_NACK_MALFORMED,   /* an ACK with a format error */
};

struct messaging_ops {
    void *context;
    void (*request)(void *context, struct request *rq);
    /* True when the response belongs to an open request: the layer then acknowledges a CON. */
    bool (*response)(void *context, struct session *s, const struct message *response);
    void (*settled)(void *context, enum owner_kind kind, uint32_t owner,
                    enum outbound_outcome outcome);
    /* A RST, or an ICMP error that ends no message that waits for an ACK: it may be about a NON, a
     * ping, or a message that nobody waits for any more. Of a RST the layer hears before what it
     * rejects is ended. True when it is known what it is about. */
    bool (*reset)(void *context, struct session *s, uint16_t mid, bool unreachable);
    /* A notification is about to be sent, again or after a wait: outbound_replace() may be called.
     */
    void (*renew)(void *context, uint32_t owner, uint32_t outbound);
    /* An upstream session is about to go: nothing hangs on it. A client's, when something may hang
     * on it: relations, transfers and all that would send something to it are to be ended. Open
     * exchanges may be abandoned, or answered at any later time: nothing is sent then, and the
     * session is there until they have ended. It may be called twice for a session. */
    void (*session_closed)(void *context, struct session *s);
    /* A request to an origin over DTLS has been sent again DOUBTED_AFTER times, and nothing has
     * come since: it may have lost the association. */
    void (*doubted)(void *context, struct session *s);
    /* NULL: nobody is interested. Nothing may be sent, and no session closed, within it. */
    void (*event)(void *context, struct session *s, enum session_event event);
};

/* A multicast request that waits for its leisure. */
struct leisure {
    struct timer timer;
    struct flow flow;
    uint32_t chunk;
    uint16_t length;
};

struct messaging {
    uint64_t now;
    struct counters *counters;
    const struct config *config;
    struct worker_io io;
    struct security *security; /* sessions over DTLS; NULL: there are none */
    struct messaging_ops ops;
    struct random random;
    struct mid_origin mids;
    uint64_t shared_key;      /* see worker_setup */
    uint64_t settled_sent_us; /* during ops.settled(): when the message was last sent */
    uint16_t event_mid;       /* during ops.event() of a ping, pong or nack: its message ID */
    struct loss loss;         /* what is not sent although it counts as sent, for tests */
    uint32_t pings;           /* to clients, unanswered so far */
    struct pool parameters;   /* struct transmission: of sessions with a set of their own */
    struct echo *echo;
    struct session_table sessions;
    struct wheel wheel;
    struct chunks chunks;
    struct dedup dedup;
    const struct journal *journal; /* NULL: there is none */
    struct journal_entry *noted;   /* this worker's part of it: by index in `dedup` */
    struct pool outbound, exchanges, leisure;
    struct mid_index outbound_index;
    uint8_t scratch[MESSAGE_MAX_BYTES];
};

struct messaging_setup {
    const struct config *config;
    struct worker_io io;
    struct messaging_ops ops;
    struct counters *counters;
    uint32_t sessions;             /* this worker's share of limits.sessions */
    const uint8_t *seed;           /* RANDOM_SEED_BYTES */
    uint64_t shared_key;           /* see worker_setup */
    struct mid_origin mids;        /* the same; key 0: a random one */
    const struct journal *journal; /* the same */
    unsigned index;                /* of the worker */
};

/* How long peers may repeat a message: by default parameters, or by the listeners' slower ones. For
 * CON (EXCHANGE_LIFETIME) and NON. */
void messaging_lifetimes(const struct config *config, uint64_t *con_us, uint64_t *non_us);

/* 0 or a negative errno; nothing is left behind then. */
int messaging_init(struct messaging *m, const struct messaging_setup *setup, uint64_t now);
void messaging_fini(struct messaging *m);

/* One datagram. `s` is what the table had for its flow when the burst was looked up, NULL for none;
 * `hash` is the flow's. */
void messaging_receive(struct messaging *m, const struct datagram *d, struct session *s,
                       uint32_t hash);

/* See worker_unreachable(). */
void messaging_unreachable(struct messaging *m, const struct flow *flow, const uint8_t *quoted,
                           size_t length);

/* Fires timers and forgets what has expired, within a budget. Returns how much was done. */
unsigned messaging_advance(struct messaging *m);
uint64_t messaging_next_us(const struct messaging *m);

/* The listener of a client's session. */
static inline const struct config_listener *messaging_listener(const struct messaging *m,
                                                               const struct session *s)
{
    return &m->config->listeners[s->place];
}

/* A session for a flow that has none. NULL when the table is full and no session can be evicted.
 * The caller makes it an upstream session, and tells of it (SESSION_OPENED). */
struct session *messaging_open_session(struct messaging *m, const struct flow *flow, uint32_t hash,
                                       const struct transmission *transmission);

/* The same for a client of a listener. */
struct session *messaging_open_client(struct messaging *m, const struct flow *flow, uint32_t hash,
                                      const struct config_listener *listener);

/* One that was about to go is taken up again: its client is back. */
void messaging_reopen(struct messaging *m, struct session *s);

/* Removes a client's session with everything that hangs on it: its client is not there any more.
 * Requests that are being worked on end silently, and the session's place is taken until then, and
 * until a repetition of an unsafe request can be told from a new one no more. Not from within a
 * request of the same session. Does nothing to an upstream session. */
void messaging_drop_session(struct messaging *m, struct session *s);

/* ---- at run time ---- */

/* Gives a session transmission parameters of its own, which hold for messages that are sent from
 * now on; NULL: those of its listener or upstream again. They go when the session goes. 0; -ERANGE
 * when one is out of its range, see transmission_check(); -ENOSPC when limits.parameter_sets
 * sessions have their own. What they are now is in session.transmission. */
int messaging_set_transmission(struct messaging *m, struct session *s,
                               const struct transmission *t);

/* What is lost from now on; the count of messages begins anew. `loss` is copied. */
void messaging_set_loss(struct messaging *m, const struct loss *loss);

/* A message ID for what is sent to a client; see session_take_mid(). */
static inline bool messaging_take_mid(const struct messaging *m, struct session *s, uint16_t *mid)
{
    if (session_may_be_behind(s, m->now))
        session_follow_clock(s, &m->mids, m->now);
    return session_take_mid(s, m->now, mid);
}

/* Tells the layer above. */
static inline void messaging_event(struct messaging *m, struct session *s, enum session_event event,
                                   uint16_t mid)
{
    if (!m->ops.event)
        return;
    m->event_mid = mid;
    m->ops.event(m->ops.context, s, event);
}

/* Bytes around a message of a flow: of the IP and UDP headers, and of its record. */
uint16_t messaging_headers(const struct messaging *m, const struct flow *flow);

/* The largest message to a flow: the MTU of its interface less what is around it. */
uint16_t messaging_room(const struct messaging *m, const struct flow *flow);

/* The address that a flow's peer has now: over DTLS the flow does not say it. */
struct endpoint messaging_peer(const struct messaging *m, const struct flow *flow);

/* Counts a message that is about to be sent, and sends it. */
void messaging_send(struct messaging *m, const struct flow *flow, struct outgoing *out,
                    uint16_t length);

/* An Empty message to a flow: ACK, RST, or a CON, which is a ping. */
void messaging_send_empty(struct messaging *m, const struct flow *flow, enum message_type type,
                          uint16_t mid);

/* ---- between the files of this layer ---- */

void outbound_on_timer(void *context, struct timer *timer, uint64_t now_us);
void outbound_on_probe(void *context, struct timer *timer, uint64_t now_us);
void exchange_on_timer(void *context, struct timer *timer, uint64_t now_us);
void life_on_timer(void *context, struct timer *timer, uint64_t now_us);

/* Lets what waits go, as far as it may now. */
void outbound_pump(struct messaging *m, struct session *s);
/* Ends all of a session without a word to the owners. */
void outbound_clear(struct messaging *m, struct session *s);

/* How long a peer may be silent before it is pinged; 0: for ever. */
uint64_t life_keepalive_us(const struct messaging *m, const struct session *s);
/* A ping has been answered, or has found no answer although the client is there. */
void life_ping_over(struct messaging *m, struct session *s);
/* The client does not answer. */
void life_failed(struct messaging *m, struct session *s, uint16_t mid);
/* The last exchange of a session that is closing has ended. */
void life_exchanges_over(struct messaging *m, struct session *s);

#endif
